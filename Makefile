# Every command of the project. `make` alone lists them.
#
# PYTHON=/path/to/python uses an environment you already have, with your own torch (CUDA, ROCm): the project is installed
# into it and nothing else is changed. Without it a .venv is made here, with a CPU build of torch.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BASE_PYTHON ?= python3
# For a package index that serves CUDA builds of torch first, for example TORCH_OPTIONS="--index-url …/whl/cpu".
TORCH_OPTIONS ?=
SCHEDULE ?= 1F1B
OUT ?= demo

ifdef PYTHON
  RUN := $(PYTHON)
  READY := .make/own-environment
else
  RUN := .venv/bin/python
  READY := .make/demo
endif
# What a first install reads, analyses, draws and prints with; the others need torch or an extra.
LOWEST_TESTS := tests/traces tests/tables tests/measurements tests/theory tests/analysis tests/gaps tests/review tests/reports tests/cli
PYTEST = .venv/bin/python -m pytest
PIP = .venv/bin/python -m pip --disable-pip-version-check
TRACEANALYZER = $(RUN) -m traceanalyzer

.PHONY: help demo gallery test test-all soak damage lint mutation coverage lowest format docs clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(READY) ## Train three small jobs, measure them, write their reports
	@mkdir -p $(OUT)
	@rm -rf $(OUT)/pipeline $(OUT)/experts $(OUT)/dense
	@echo "== pipeline parallelism: the bubble"
	@$(TRACEANALYZER) run pipeline --schedule $(SCHEDULE) --out $(OUT)/pipeline
	@$(TRACEANALYZER) report $(OUT)/pipeline -o $(OUT)/pipeline.html
	@echo; echo "== expert parallelism: all-to-all imbalance"
	@$(TRACEANALYZER) run experts --out $(OUT)/experts
	@$(TRACEANALYZER) report $(OUT)/experts -o $(OUT)/experts.html
	@echo; echo "== one dense rank: MFU"
	@$(TRACEANALYZER) run dense --out $(OUT)/dense
	@$(TRACEANALYZER) report $(OUT)/dense -o $(OUT)/dense.html
	@echo; echo "reports: $(OUT)/pipeline.html $(OUT)/experts.html $(OUT)/dense.html"

# Tests that launch jobs come last and one after the other: on two cores they would disturb each other's timing.
# Jobs of the quick tests are small: a second thread per query costs more than it gives. `test-all` leaves Polars its threads.
test: .make/test ## Run the tests: one or a few cases of every sweep (about 7 minutes on 2 cores)
	POLARS_MAX_THREADS=1 $(PYTEST) -n 2 --dist loadscope -m "not runs and not wide and not soak"
	$(PYTEST) -m "runs and not wide and not soak"

test-all: .make/test ## Run every case of every sweep (some 20 minutes on 2 cores)
	$(PYTEST) -n 2 --dist loadscope -m "not runs and not soak"
	$(PYTEST) -m "runs and not soak"

soak: .make/test ## Run the long tests: kills, fuzzing, repeats (hours)
	$(PYTEST) -m soak -s

damage: .make/test ## Flip bits of captures, kill ingests, fill disks; print how many went unnoticed or did harm (some 20 minutes)
	PYTHONPATH=tests/support:. POLARS_MAX_THREADS=1 .venv/bin/python -m damage --flips 1000 --full-disks 50 --kills 200

gallery: demo .make/test ## Draw the pictures of the documentation from the demo's runs
	PYTHONPATH=tests/support .venv/bin/python benchmarks/gallery.py $(OUT) docs/images

lint: .make/dev ## Lint, types, import contracts
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright
	.venv/bin/lint-imports

mutation: .make/test ## Break measurements and theory in small ways; print the share that the tests notice (an hour)
	@$(PIP) install -q -c constraints.txt coverage
	PYTHONPATH=tests/support POLARS_MAX_THREADS=1 COVERAGE_FILE=.make/reached .venv/bin/python -m coverage run --source=traceanalyzer \
	  -m pytest -p coverage_contexts -m "not runs and not wide and not soak and not browser" tests/theory tests/measurements tests/model tests/gaps
	.venv/bin/python benchmarks/mutation.py .make/reached --count 200

coverage: .make/test ## Run the quick tests and print which lines they reach
	@$(PIP) install -q -c constraints.txt coverage
	.venv/bin/python -m coverage run --source=traceanalyzer,reports -m pytest -m "not runs and not wide and not soak"
	.venv/bin/python -m coverage report --skip-covered --sort=cover
	.venv/bin/python benchmarks/coverage_by_package.py .coverage

lowest: ## Run the quick tests that need no torch with the lowest versions that pyproject.toml admits
	@mkdir -p .make && $(BASE_PYTHON) -m venv .make/lowest
	.make/lowest/bin/python -m pip install -q -c constraints-lowest.txt -e . pytest pytest-randomly pytest-xdist hypothesis jsonschema
	POLARS_MAX_THREADS=1 .make/lowest/bin/python -m pytest -n 2 --dist loadscope -m "not runs and not wide and not soak and not browser" \
	  $(LOWEST_TESTS)

format: .make/dev ## Format the code
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

docs: .make/docs ## Build the documentation's site; a warning is an error
	NO_MKDOCS_2_WARNING=1 .make/docs-venv/bin/mkdocs build --strict --quiet

.make/docs: constraints.txt
	@mkdir -p .make
	@$(BASE_PYTHON) -m venv .make/docs-venv
	@.make/docs-venv/bin/python -m pip install --quiet -c constraints.txt mkdocs-material
	@touch $@

clean: ## Remove what the commands above made
	rm -rf .make .venv demo runs site .pytest_cache .ruff_cache .hypothesis .import_linter_cache

.make/venv:
	@$(BASE_PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "traceanalyzer needs Python 3.11 or newer; name one with BASE_PYTHON=/path/to/python3"; exit 2; }
	@echo "making .venv"
	@$(BASE_PYTHON) -m venv .venv
	@mkdir -p .make && touch $@

# torch first: a later request for it by another package then finds it there.
.make/demo: .make/venv pyproject.toml constraints.txt
	@echo "installing torch (CPU build, once; a few hundred MB)"
	@$(PIP) install -q $(TORCH_OPTIONS) -c constraints.txt torch
	@echo "installing traceanalyzer"
	@$(PIP) install -q -c constraints.txt -e ".[runs]"
	@touch $@

.make/test: .make/demo
	@echo "installing what the tests need"
	@$(PIP) install -q -c constraints.txt -e ".[runs,test]"
	@touch $@

.make/dev: .make/test
	@$(PIP) install -q -c constraints.txt -e ".[runs,test,dev]"
	@touch $@

.PHONY: .make/own-environment
.make/own-environment:
	@$(PYTHON) -c 'import torch' || { echo "$(PYTHON) has no torch: install it there first"; exit 2; }
	@$(PYTHON) -c 'import traceanalyzer' 2>/dev/null || $(PYTHON) -m pip install -q -e .
