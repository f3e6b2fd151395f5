# `make demo` runs the pipeline and `make test` runs the tests; both work in a new clone. `make help` lists all targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# The first of these Pythons that exists is used. To choose another one: make PYTHON=python3.13 test
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
INSTALLED := $(VENV)/installed
STUDIO := $(VENV)/installed-studio
# Keep the files of every tool inside the project, and put the programs of the virtual environment first on PATH.
IN_PROJECT := eval "$$($(PYTHON) editgan/runtime/environment.py)" && export PATH="$$PWD/$(VENV)/bin:$$PATH" VIRTUAL_ENV="$$PWD/$(VENV)" &&
# Some pretrained networks are npm packages. Without npm, Node.js is installed into the virtual environment.
EXTRAS := dev$(shell command -v npm >/dev/null || echo ,npm)
# Two processes with one thread each run the tests faster than one process with two threads.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: help install demo demo-scratch studio test test-all lint serve ui

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

install: $(INSTALLED) ## create the virtual environment and install the pinned dependencies

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer is on PATH; install one"; exit 1; }
	@command -v git >/dev/null || { echo "git is not on PATH; install it"; exit 1; }
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv --clear $(VENV) || \
		{ echo "$(PYTHON) cannot create a virtual environment; on Debian and Ubuntu install python3-venv"; exit 1; }
	@echo "installing the pinned dependencies into $(VENV); this takes a few minutes"
	$(IN_PROJECT) python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]' -c constraints.txt
	touch $@

demo: $(INSTALLED) ## run the whole pipeline on the default parameters and print the benchmark
	@$(IN_PROJECT) python -m flows.pipeline

demo-scratch: $(INSTALLED) ## train every model in runs/scratch, then run the benchmark; delete that folder to start again
	@$(IN_PROJECT) python -m flows.pipeline --scratch

studio: $(STUDIO) ## open the page to paint in (localhost only); Ctrl-C ends it
	@$(IN_PROJECT) exec editgan studio

$(STUDIO): $(INSTALLED)
	@echo "installing what the studio and its tests need into $(VENV)"
	$(IN_PROJECT) python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS),studio,browser]' -c constraints.txt
	touch $@

test: $(INSTALLED) ## run the tests, including a tiny run of the whole pipeline
	@$(IN_PROJECT) $(PYTEST) -m "not slow"

test-all: $(STUDIO) ## run all tests, also those marked slow, which kill and restart pipelines
	@$(IN_PROJECT) $(PYTEST)

lint: $(INSTALLED) ## check the style with ruff
	@$(IN_PROJECT) ruff check .

serve: $(INSTALLED) ## start the servers and a worker, which runs the deployments of prefect.yaml; Ctrl-C stops them
	@$(IN_PROJECT) exec python -m flows.serve

ui: $(INSTALLED) ## start the servers only, for the pages of MLflow and Prefect
	@$(IN_PROJECT) exec python -m flows.serve --pages
