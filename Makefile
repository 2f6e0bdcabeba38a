# What README and CI call. `make demo` and `make test` need nothing but Python 3.11+ and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow check bench generated format clean

# The environment is made again when the dependencies change.
$(VENV)/ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "SightX needs Python 3.11+")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(VENV)/ready
	$(BIN)/sightx run specs/quickstart.toml

test: $(VENV)/ready
	$(BIN)/python -m pytest

test-slow: $(VENV)/ready
	$(BIN)/python -m pytest -m slow

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/ready
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/prefix.py
	$(BIN)/python benchmarks/first_epoch.py
	$(BIN)/python benchmarks/later_epochs.py
	$(BIN)/python benchmarks/growth.py

# Files that are written by the code: after a change to a component or a check.
generated: $(VENV)/ready
	SIGHTX_REGENERATE=1 $(BIN)/python -m pytest -q tests/spec/test_schema.py -k committed
	$(BIN)/python -m sightx.spec.codes > docs/codes.md

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache
