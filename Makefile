# Saggar: `make` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo test check fix soak bench lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info[:2] < (3, 15)))' || \
		{ echo "Python 3.11 to 3.14 is needed; name it: make PYTHON=python3.12 ..."; exit 1; }
	@echo "making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: locks/runtime.txt pyproject.toml | $(VENV)/bin/python
	@echo "installing the locked dependencies"
	@$(PIP) --require-hashes -r locks/runtime.txt
	@$(PIP) --no-build-isolation --no-deps --editable .
	@touch $@

$(VENV)/.dev: locks/dev.txt $(VENV)/.runtime
	@echo "installing the locked test tools"
	@$(PIP) --require-hashes -r locks/dev.txt
	@touch $@

setup: $(VENV)/.runtime ## make the virtual environment and install the locked dependencies
setup-dev: $(VENV)/.dev ## the same with the test tools

demo: setup ## fire the kiln once on real hospital data
	@$(BIN)/saggar demo

test: setup-dev check ## all checks and all tests
	@$(BIN)/python -m pytest -n auto --dist loadfile -m "not soak"

check: setup-dev ## style, types and the house's walls; changes nothing
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

fix: setup-dev ## let the formatter and the linter mend what they can
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix .

soak: setup-dev ## the long runs
	@$(BIN)/python -m pytest -n auto -m "soak"
	@HYPOTHESIS_PROFILE=roaming $(BIN)/python -m pytest -n auto --dist loadfile tests/property tests/unit -m "not soak"

bench: setup-dev ## ratios, measured side by side
	@for file in benchmarks/bench_*.py; do $(BIN)/python $$file || exit 1; done

lock: setup-dev ## write the lock files again (needs uv)
	@uv pip compile --universal --generate-hashes --no-emit-index-url --no-annotate --no-header -q pyproject.toml --group dev --group build -o locks/dev.txt
	@uv pip compile --universal --generate-hashes --no-emit-index-url --no-annotate --no-header -q pyproject.toml --group build -c locks/dev.txt -o locks/runtime.txt

clean: ## remove what make made, the virtual environment included
	@rm -rf $(VENV) demo-state demo-out releases build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
