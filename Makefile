# make setup | demo | test | test-all | lint | format | docs | clean.  Everything runs in .venv, made on first use.
#
# Another torch build:    make setup TORCH_INDEX=https://download.pytorch.org/whl/cu130
# Another torch version:  make setup TORCH=torch==2.12.0
# Another interpreter:    make setup PYTHON=python3.12

PYTHON ?= python3
TORCH ?= $(shell grep '^torch==' constraints.txt)
# An extra package index; a build found there (2.13.0+cpu) takes precedence over the plain one (2.13.0).
# On Linux the plain one downloads gigabytes of CUDA, so the CPU build is the default.
TORCH_INDEX ?= $(if $(filter Linux,$(shell uname -s)),https://download.pytorch.org/whl/cpu)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# A worker for each core, which takes over what another has not begun.
ON_ALL_CORES := -n auto --dist worksteal
PACKAGES := supernet search subnet_export conf scripts tests

.DELETE_ON_ERROR:
.PHONY: setup demo test test-all lint format docs clean force

setup: $(VENV)/installed

demo: setup
	$(BIN)/python scripts/demo.py

test: setup
	$(BIN)/python -m pytest $(ON_ALL_CORES)

test-all: setup
	$(BIN)/python -m pytest $(ON_ALL_CORES) -m ""

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site, in site/. Strict: a dead link is an error. Nothing but the installation needs a network.
docs: $(VENV)/docs-installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

clean:
	rm -rf $(VENV) site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, and '$(PYTHON)' is not one; name one with: make setup PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Rewritten only if the choice of torch changes, so that torch is only then installed again.
$(VENV)/torch-choice: force | $(BIN)/python
	@echo '$(TORCH) $(TORCH_INDEX)' | cmp -s - $@ || echo '$(TORCH) $(TORCH_INDEX)' > $@

# Writes constraints with the torch version that was installed.
$(VENV)/constraints.txt: $(VENV)/torch-choice constraints.txt
	$(PIP) install --retries 1 '$(TORCH)' $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
	grep -v '^torch==' constraints.txt > $@
	$(BIN)/python -c 'from importlib.metadata import version; print("torch==" + version("torch"))' >> $@

$(VENV)/docs-installed: $(VENV)/installed
	$(PIP) install -e '.[docs]' -c $(VENV)/constraints.txt
	@touch $@

$(VENV)/installed: $(VENV)/constraints.txt pyproject.toml
	$(PIP) install -e '.[dev]' -c $(VENV)/constraints.txt
	@touch $@
