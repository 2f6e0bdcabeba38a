# What README and CI call. `make demo` and `make test` need nothing but Python 3.11+ and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow test-extras check bench lock vulnerabilities generated format clean

# The environment is made again when the dependencies change.
$(VENV)/ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "SightX needs Python 3.11+")'
	@echo "installing SightX and its tools into $(VENV): some minutes, and some gigabytes if PyTorch is for CUDA"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(VENV)/ready
	$(BIN)/sightx run specs/quickstart.toml
	@$(BIN)/python -c "$(PICTURE)"
	@echo "a picture of the test split to predict: source $(BIN)/activate; sightx predict last runs/eye.png"

# Saves an image that the demo has not learned from.
define PICTURE
import sightx, PIL.Image; table = sightx.table('specs/quickstart.toml'); \
row = list(table.frame['split']).index('test'); \
PIL.Image.fromarray(table.read(row)).save('runs/eye.png')
endef

# One process per core, each with one thread: faster than one process with a thread per core.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

test: $(VENV)/ready
	$(PYTEST)

test-slow: $(VENV)/ready
	$(PYTEST) -m slow

# A server of MLflow, a driver of browsers, schemathesis and ONNX Runtime for Node are large: they have
# their own environment.
test-extras:
	$(PYTHON) -m venv .venv-extras
	.venv-extras/bin/python -m pip install --quiet --editable '.[dev,tensorboard]' 'mlflow>=3.10' playwright 'schemathesis>=4.32'
	npm install --prefix .venv-extras/node --ignore-scripts --no-audit --no-fund onnxruntime-node@1.30.0 jpeg-js@0.4.4
	NODE_PATH=$(CURDIR)/.venv-extras/node/node_modules PATH=$(CURDIR)/.venv-extras/bin:$$PATH \
	  python -m pytest -m 'slow or not slow' tests/trackers tests/builtin/observers tests/board \
	  tests/serving/test_page.py tests/serving/test_openapi.py tests/export/test_node.py

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Ratios against named peers; a quiet machine is needed. Lightning is a peer: `pip install .[bench]`.
bench: $(VENV)/ready
	for name in startup command step first_epoch later_epochs prefix growth save load registry intervals; do \
	  $(BIN)/python benchmarks/$$name.py || exit 1; done

# Exact versions with hashes of all that an installation contains, on this platform; none is younger
# than a week, in which a stolen release is usually found. `make lock EXTRAS="serve onnx"`.
lock: $(VENV)/ready
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --python $(BIN)/python --no-header --no-emit-index-url \
	  --generate-hashes --exclude-newer "7 days" $(EXTRAS:%=--extra %) --output-file requirements.lock pyproject.toml

# Known vulnerabilities of what the lock contains. A waiver is `--ignore-vuln ID`, with a date and a reason.
vulnerabilities: lock
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --requirement requirements.lock

# Files that are written by the code: after a change to a component or a check.
generated: $(VENV)/ready
	SIGHTX_REGENERATE=1 $(BIN)/python -m pytest -q tests/spec/test_json_schema.py -k committed
	SIGHTX_REGENERATE=1 $(BIN)/python -m pytest -q tests/serving/test_node.py -k types \
	  || echo "in examples/node-backend: npm run types"
	$(BIN)/python -m sightx.spec.error_codes > docs/codes.md
	$(BIN)/python -m sightx.cli.components_page > docs/components.md

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache
