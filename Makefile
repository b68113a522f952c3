# make demo   installs into $(VENV) and explains the bundled photos
# make test   installs with the development extras and runs all tests
# make lint, make types, make clean
#
# Overridable: PYTHON (3.10 or newer), VENV, TESTS (what pytest gets), OUT (pictures of the demo).

PYTHON ?= python3
VENV ?= .venv
TESTS ?=
OUT ?= demo-output

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --no-input --disable-pip-version-check -q
INSTALLED := $(VENV)/.ttame-installed
INSTALLED_DEV := $(VENV)/.ttame-installed-dev
MAKEFLAGS += --no-builtin-rules

.PHONY: demo test lint types clean

demo: $(INSTALLED)
	@$(BIN)/ttame explain src/ttame/data/photos --classes top2 --out "$(OUT)"
	@echo "open the pictures in $(abspath $(OUT))"

# One thread a process: the processes fill the cores.
test: $(INSTALLED_DEV)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto $(TESTS)

lint: $(INSTALLED_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED_DEV)
	$(BIN)/mypy

clean:
	rm -rf .venv demo-output build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# pip is the last thing that venv makes: where it is, the environment is whole.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "ttame needs Python 3.10 or newer; try: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv "$(VENV)" || \
		{ echo "cannot make $(VENV); on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

# Stamps, so that a second run installs nothing unless pyproject.toml changed.
$(INSTALLED): pyproject.toml | $(BIN)/pip
	@echo "installing ttame into $(VENV): PyTorch is large, this takes some minutes once"
	$(PIP) -e .
	@touch $@

$(INSTALLED_DEV): pyproject.toml | $(BIN)/pip
	@echo "installing ttame for development into $(VENV): this takes some minutes once"
	$(PIP) -e '.[dev]'
	@touch $(INSTALLED) $@
