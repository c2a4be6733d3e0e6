# Everything a checkout needs, from nothing but Python, make and a network.
# `make` alone lists the commands. Variables: PYTHON=/path/to/python3, TESTS="-k name", UPGRADE=--upgrade.

BIN := .venv/bin
SYNCED := .venv/.synced
BUILT := static/vendor/.built
COMPILE = $(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-header --universal --python-version 3.11 $(UPGRADE)

# Tried in this order. The wheel that brings a Redis has none for 3.13 yet, so what has one comes first.
PYTHONS = python3.12 python3.11 python3 python3.13 python3.14

# Three test processes, each with servers of its own: on two cores, what waits for a product leaves room for a third. Tests
# that start whole products share one of them, those in front of a browser another. TESTS="-n 0 --pdb" does without.
PARALLEL = --numprocesses 3 --dist loadgroup

# Where bytecode is not kept, each of the many processes compiles everything anew: seconds at every start.
export PYTHONDONTWRITEBYTECODE =

.DEFAULT_GOAL := help
.PHONY: help setup assets run test lint bench lock clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(SYNCED) ## create .venv and install exactly what requirements/dev.txt locks

assets: $(BUILT) ## install the front-end packages and build static/vendor/

run: setup assets ## start everything on this machine: servers, web, worker; Ctrl-C stops it
	@$(BIN)/python -m metering

test: lint assets ## lint, then all tests against the real servers
	@echo "== tests"
	@$(BIN)/python -m pytest $(PARALLEL) $(TESTS)

lint: setup ## style, types, and the direction of the imports
	@echo "== lint"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: setup ## run the benchmarks, each beside a peer or a limit
	@$(BIN)/python -m benchmarks

lock: setup ## write requirements/*.txt anew; UPGRADE=--upgrade takes newer versions
	$(COMPILE) requirements/bootstrap.in -o requirements/bootstrap.txt
	$(COMPILE) pyproject.toml --extra embedded --group dev -o requirements/dev.txt

clean: ## remove all that can be made again; instance/, where the data lies, stays
	rm -rf .venv node_modules static/vendor build dist *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Not phony, so that a second run is instant and a changed lock is installed.
$(SYNCED): requirements/bootstrap.txt requirements/dev.txt | $(BIN)/python
	@echo "== installing uv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@echo "== installing requirements/dev.txt"
	@$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements/dev.txt
	@touch $@

# Each candidate is tried, not only looked for: there are stubs that fail, and Pythons without venv.
$(BIN)/python:
	@for python in $(if $(PYTHON),"$(PYTHON)",$(PYTHONS)); do \
	    if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        echo "== creating .venv with $$("$$python" -c 'import sys; print(sys.executable, sys.version.split()[0])')"; \
	        exec "$$python" -m venv --clear .venv; \
	    fi; \
	done; \
	echo "No Python 3.11 or newer with venv was found (tried: $(if $(PYTHON),$(PYTHON),$(PYTHONS)))." >&2; \
	echo "Install one (Debian, Ubuntu: apt-get install python3 python3-venv), or name it: make setup PYTHON=..." >&2; \
	exit 1

$(BUILT): package.json package-lock.json $(shell find assets -type f ! -path '*/__pycache__/*' 2>/dev/null) | $(SYNCED)
	@echo "== building static/vendor"
	@$(BIN)/python assets/build.py
	@touch $@
