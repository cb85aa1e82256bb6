"""What the study found: measurements, tables, claims, and the pages that show them."""
