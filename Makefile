# Two commands for a newcomer, each doing all of its own set-up: make demo, make test.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-long check format bench-engine bench-reading constraints clean help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(INSTALLED)  ## index made slides and show look-alikes: demo/overview.png
	$(BIN)/microtome demo --folder demo

test: check  ## everything that CI runs
	$(BIN)/pytest

test-long: $(INSTALLED)  ## the suites that take minutes: 500 damaged slides
	MICROTOME_TIFF_MUTATIONS=500 $(BIN)/pytest tests/slides/test_tiff_hostile.py

check: $(INSTALLED)  ## format, lint, types and floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --cache-dir .import_linter_cache

format: $(INSTALLED)  ## format and sort imports
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench-engine: $(INSTALLED)  ## Ray Data against a plain loop, and memory on a vast slide
	$(BIN)/python tests/benchmarks/engine

bench-reading: $(INSTALLED)  ## tiles per CPU second: every reader on the same slides, in one run
	-$(BIN)/python -m pip install --quiet --no-deps -r tests/benchmarks/reading/rivals.txt
	$(BIN)/python tests/benchmarks/reading
	$(BIN)/python tests/benchmarks/reading/remote.py

constraints: $(INSTALLED)  ## resolve every dependency anew into constraints.txt
	$(BIN)/python infra/constraints.py

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:  ## remove what the commands above made, the environment included
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
