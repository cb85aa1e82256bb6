"""The study: params.yaml in, tables and figures out. Only this part knows of files under `work/` and `reports/`."""
