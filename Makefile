# What one does with Headwater's source. `make` alone lists it. Nothing needs doing first: each target makes what it needs.
#
#   PYTHON=python3.12   the Python to make the environment with (any from 3.11; found on PATH unless given)
#   VENV=.venv          where the environment is

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.14 python3.11 python; do \
    if $$p -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo $$p; break; fi; done)
VENV ?= .venv
LAKE ?=
PORT ?= 8000
# Tests wait for disks and servers half of the time, so two processors keep three workers busy.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); [ "$$n" -gt 3 ] && echo "$$n" || echo 3)
PYTEST_ARGS ?=
BENCH_ARGS ?=

RUN := $(VENV)/bin/python
SOURCES := src tests tools $(wildcard examples notebooks)
# Names of further targets that `make lint` makes: checks of README, notebooks, generated documents.
EXTRA_CHECKS := check-notebooks

# $(call environment,extras): the environment with these extras, in the versions of constraints.txt; quick when it is there.
define environment
@test -n "$(PYTHON)" || { echo "Headwater needs Python 3.11 or newer, with venv, on PATH; or say which: make $@ PYTHON=/path/to/python"; exit 1; }
@$(PYTHON) tools/bootstrap.py --venv $(VENV) $(addprefix --extra ,$(1))
endef

.DEFAULT_GOAL := help
.PHONY: help demo test check lint format bench lakefs lakefs-up lakefs-down notebooks lock clean env-demo env-test env-check env-bare $(EXTRA_CHECKS)

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: env-demo ## train, register, pull and query a model of real flights; LAKE=lakefs://host:port/repository for a lakeFS server
	@$(RUN) examples/flights/demo.py $(if $(LAKE),--lake $(LAKE))

test: env-test ## run the tests, on both lakes (builds a lakeFS server the first time: about four minutes); PYTEST_ARGS="-k word"
	@$(RUN) tests/lakefs/server.py build
	$(RUN) -m pytest -n $(WORKERS) $(PYTEST_ARGS)

check: lint test ## everything that must be right before a commit: lint and test

lint: env-check ## formatting, types, layers, spelling
	$(RUN) -m ruff check $(SOURCES)
	$(RUN) -m ruff format --check $(SOURCES)
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports
	$(RUN) -m codespell_lib
	@$(if $(EXTRA_CHECKS),$(MAKE) --no-print-directory $(EXTRA_CHECKS))

format: env-check ## put the source into its form
	$(RUN) -m ruff check --fix $(SOURCES)
	$(RUN) -m ruff format $(SOURCES)

notebooks: env-check ## execute the notebooks on a lake that the demo makes, and write their .ipynb
	$(RUN) tools/notebooks.py

check-notebooks: env-check
	$(RUN) tools/notebooks.py --check

bench: env-test ## measure, beside MLflow in an environment of its own (see tests/bench/README.md); BENCH_ARGS=...
	@$(RUN) tests/lakefs/server.py build
	$(RUN) tests/bench/bench.py $(BENCH_ARGS)

lakefs: env-bare ## build the lakeFS server that tests use, into a cache outside the tree
	@$(RUN) tests/lakefs/server.py build

lakefs-up: env-bare ## start a lakeFS server to try things on, at 127.0.0.1:8000; PORT= for another port
	@$(RUN) tests/lakefs/server.py up --port $(PORT)

lakefs-down: ## stop the server that lakefs-up started; its data stays
	@$(PYTHON) tests/lakefs/server.py down --port $(PORT)

lock: ## write constraints.txt anew, with today's versions
	@$(PYTHON) tools/lock.py

clean: ## remove what these targets made in the tree (not the lakes, and not the lakeFS server in the cache)
	rm -rf $(VENV) $(VENV).discarded-* dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

env-demo:
	$(call environment,demo)

env-test:
	$(call environment,demo dev openlineage)

env-check:
	$(call environment,demo dev notebooks openlineage)

env-bare:
	$(call environment,)
