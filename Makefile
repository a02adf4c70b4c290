# Two commands for a newcomer, each doing all of its own set-up: make demo, make test.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PATHML := .venv-pathml
TORCH_CPU := --extra-index-url https://download.pytorch.org/whl/cpu

.PHONY: demo test test-long test-kill test-api check format bench-atlas bench-engine bench-reading bench-search bench-serving bench-training bench-quality constraints pathml-env clean help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(INSTALLED)  ## index made slides and show look-alikes: demo/overview.png
	$(BIN)/microtome demo --folder demo

# What tests make is small: two threads on it wait for each other most of the time.
test test-long test-kill: export OMP_NUM_THREADS = 1
test: check  ## everything that CI runs
	$(BIN)/pytest -n 2 --no-loadscope-reorder

test-long: $(INSTALLED)  ## the suites that take minutes: 500 damaged slides
	MICROTOME_TIFF_MUTATIONS=500 $(BIN)/pytest tests/slides/test_tiff_hostile.py

test-kill: $(INSTALLED)  ## kill indexing jobs 500 times bare and 50 times on Ray, compare row by row
	MICROTOME_KILLS=500 $(BIN)/pytest tests/engine/test_index_killed.py
	MICROTOME_KILLS_ON_RAY=50 $(BIN)/pytest tests/engine/test_killed_on_ray.py

test-api: $(INSTALLED)  ## ask the server whatever its OpenAPI document allows and forbids, a hundredfold
	MICROTOME_API_EXAMPLES=100 $(BIN)/pytest --timeout 7200 tests/serve/test_openapi.py

check: $(INSTALLED)  ## format, lint, types and floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --cache-dir .import_linter_cache

format: $(INSTALLED)  ## format and sort imports
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench-atlas: $(INSTALLED)  ## commits and search at a million tiles and more, beside other indices
	-$(BIN)/python -m pip install --quiet --no-deps -r tests/benchmarks/atlas/rivals.txt
	$(BIN)/python tests/benchmarks/atlas

bench-engine: $(INSTALLED)  ## Ray Data against a plain loop, and memory on a vast slide
	$(BIN)/python tests/benchmarks/engine

bench-reading: $(INSTALLED)  ## tiles per CPU second: every reader on the same slides, in one run
	-$(BIN)/python -m pip install --quiet --no-deps -r tests/benchmarks/reading/rivals.txt
	$(BIN)/python tests/benchmarks/reading
	$(BIN)/python tests/benchmarks/reading/remote.py

bench-search: $(INSTALLED)  ## scoring beside faiss; slides, regions and cases, as they grow
	$(BIN)/python tests/benchmarks/search

bench-serving: $(INSTALLED)  ## searches and embedding over HTTP, also ten times too many; needs hey
	$(BIN)/python tests/benchmarks/serving

bench-training: $(INSTALLED)  ## Ray Train against a plain loop, two workers against one, caching
	$(BIN)/python tests/benchmarks/training

bench-quality: $(INSTALLED)  ## fit both models to real tissue; judge the one that ships
	$(BIN)/python tests/benchmarks/training/quality.py
	$(BIN)/python tests/benchmarks/training/shipped.py

constraints: $(INSTALLED)  ## resolve every dependency anew into constraints.txt
	$(BIN)/python infra/constraints.py

pathml-env: export JAVA_HOME ?= $(shell dirname $$(dirname $$(readlink -f $$(command -v javac))))
pathml-env:  ## PathML in an environment of its own, 2 GB; needs a JDK and gcc
	$(PYTHON) -m venv $(PATHML)
	$(PATHML)/bin/pip install --quiet $(TORCH_CPU) torch==2.13.0+cpu
	$(PATHML)/bin/pip install --quiet -r infra/pathml/requirements.txt
	$(PATHML)/bin/pip install --quiet --no-deps pathml==3.0.8
	$(PATHML)/bin/python -c "import pathml; print('PathML', pathml.__version__, 'is ready')"

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:  ## remove what the commands above made, the environment included
	rm -rf $(VENV) $(PATHML) demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
