# The commands of this project; `make` alone lists them.
PYTHON ?= python3
VENV := .venv/bin
IS_NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
RUN_TESTS := OMP_NUM_THREADS=1 $(VENV)/python -m pytest -n 2 --dist loadgroup

.DEFAULT_GOAL := help
.PHONY: help setup test test-slow lint demo docs

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

setup: .venv/.stamp  ## make .venv from requirements.lock (the other commands do it by themselves)

.venv/.stamp: requirements.lock pyproject.toml
	@if ! $(VENV)/python $(IS_NEW_ENOUGH) 2>/dev/null; then \
	  $(PYTHON) $(IS_NEW_ENOUGH) 2>/dev/null || { \
	    echo "This needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | head -n 1)." >&2; \
	    echo "Name another one: make setup PYTHON=python3.12" >&2; exit 1; }; \
	  $(PYTHON) -m venv --clear .venv || { \
	    echo "No virtual environment could be made; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }; \
	fi
	@echo "Installing $$(grep -c == requirements.lock) packages into .venv (the first time takes some minutes) ..."
	@$(VENV)/python -m pip install -qq --disable-pip-version-check -r requirements.lock
	@$(VENV)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
	@echo "Ready: .venv"

test: setup  ## run the tests, without the slow ones (at most 10 minutes)
	@$(RUN_TESTS) -m "not slow and not gpu"

test-slow: setup  ## run the slow tests, and list the slowest
	@$(RUN_TESTS) -m "slow and not gpu" --durations=15

lint: setup  ## check format, style, types and the direction of imports
	@$(VENV)/python -m ruff format --check .
	@$(VENV)/python -m ruff check .
	@$(VENV)/python -m mypy
	@$(VENV)/lint-imports

demo: setup  ## caption, answer, detect and read; then learn a new task; writes an HTML page
	@$(VENV)/python -m paligemma2 demo

docs: setup  ## write the second part of docs/benchmarks.md from the tasks
	@$(VENV)/python -c "from pathlib import Path; from paligemma2.report.protocols import update; update(Path('docs/benchmarks.md'))"
