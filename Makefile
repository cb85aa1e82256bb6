# `make study` sets up and runs the study, `make test` sets up and runs the tests, `make env` only sets up.
PYTHON ?= python3
PROFILE ?= # of params.yaml, to run it in place of the one named there
JOBS ?= # stages or tests at a time; by default one for each core
STAGES ?= # of dvc.yaml, to run only these and what they need
# Without these settings glibc gives the memory of large tensors back at every training step and takes it again at the
# next: up to a seventh of a training's time on a CPU.
GLIBC := glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=4294967296:glibc.malloc.hugetlb=1
IN_VENV := PYTHONDONTWRITEBYTECODE= PATH="$(CURDIR)/.venv/bin:$$PATH" OMP_NUM_THREADS=1 GLIBC_TUNABLES=$(GLIBC)

.PHONY: study test bench env lab lock lint

study: env
	@$(IN_VENV) python -m hpelib.study.run $(if $(PROFILE),--profile $(PROFILE)) $(if $(JOBS),--jobs $(JOBS)) $(STAGES)

test: env
	@$(IN_VENV) python -m pytest -n $(or $(JOBS),auto) --dist loadfile --no-loadscope-reorder

# PHOTOGRAPHS=folder measures on photographs as well: a set in COCO's layout. With oneDNN's usual 1,024 entries, networks
# that take turns would push each other's prepared convolutions out.
bench: env
	@PHOTOGRAPHS="$(PHOTOGRAPHS)" ONEDNN_PRIMITIVE_CACHE_CAPACITY=16384 $(IN_VENV) python -m benchmarks

env:
	@$(PYTHON) tools/environment.py

lab: env
	@$(IN_VENV) jupyter lab notebooks

lint: env
	@$(IN_VENV) ruff check .
	@$(IN_VENV) ruff format --check .

lock: env
	@$(IN_VENV) uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --custom-compile-command "make lock" --all-extras pyproject.toml --output-file requirements.lock
