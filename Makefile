# `make run` starts the demo, `make test` runs everything. Both can be repeated, and need no network the second time.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

PYTHON ?= python3
BIN := .venv/bin
TRANSLATIONS := skstack/translations
LANGUAGES := zh_CN
# How many tests run at once. The fault tests mostly wait, so more than one per core pays.
TEST_PROCESSES ?= 4
TEST_ARGUMENTS ?=

.PHONY: help install install-dev run test bench lint format lock translate screenshots clean

help:
	@echo "make run     install what is missing, migrate, seed a demo if there is nothing yet, start web and worker"
	@echo "make test    install what the tests need, run them all, say what was skipped and why"
	@echo "make bench   measure, and write bench/results.json"
	@echo "make lint    check style and types;  make format  mends the style"
	@echo "make lock    pin the requirements anew;  make translate  collects and compiles the translations"
	@echo "make screenshots  takes the pictures of the manual"
	@echo "make clean   remove what was built; instance/ stays"

run: install
	@$(BIN)/flask --app app init
	@$(BIN)/flask --app app demo --if-empty
	@exec $(BIN)/flask --app app serve

test: install-dev
	@tests/install-programs
	folder=$$(tests/folder-in-memory); export TMPDIR=$${folder:-$${TMPDIR:-/tmp}}; \
	    $(BIN)/python -m pytest -n $(TEST_PROCESSES) --no-loadscope-reorder --cov $(TEST_ARGUMENTS)

bench: install-dev
	$(BIN)/python -m tests.bench

lint: install-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: install-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# The hashes make an install the same everywhere; the addresses of registries stay out, each host has its own.
lock:
	$(call compile,requirements.txt,requirements.lock)
	$(call compile,requirements-dev.txt -c requirements.lock,requirements-dev.lock)

# The compiled catalogues are committed: what is served needs no step between a checkout and a start.
translate: install-dev
	mkdir -p $(TRANSLATIONS)
	$(BIN)/pybabel -q extract -F pyproject.toml -k N_ --no-location --sort-output --omit-header --no-wrap \
	    -o $(TRANSLATIONS)/messages.pot .
	$(foreach language,$(LANGUAGES),test -e $(TRANSLATIONS)/$(language)/LC_MESSAGES/messages.po || \
	    $(BIN)/pybabel -q init -i $(TRANSLATIONS)/messages.pot -d $(TRANSLATIONS) -l $(language);)
	$(BIN)/pybabel -q update -i $(TRANSLATIONS)/messages.pot -d $(TRANSLATIONS) \
	    --no-wrap --no-fuzzy-matching --ignore-obsolete --ignore-pot-creation-date
	$(BIN)/pybabel -q compile -d $(TRANSLATIONS)

screenshots: install-dev
	$(BIN)/python -m tests.screenshots

clean:
	rm -rf .venv .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache htmlcov bench tests/artifacts
	find app.py skstack tests migrations -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

install: .venv/bin/python
	@$(call install,requirements.lock)

install-dev: .venv/bin/python
	@$(call install,requirements-dev.lock)

.venv/bin/python:
	@rm -rf .venv
	$(PYTHON) -m venv .venv

# $(1): a lock file. Nothing is asked of the network when its content is what was installed last; what the tests
# need includes what running needs, so that going back and forth between the two installs nothing either.
define install
	set -e; want="$$(sha256sum < $(1))"; \
	if ! grep -qsxF "$$want" .venv/installed; then \
	    echo "Installing from $(1) …"; \
	    $(BIN)/python -m pip --disable-pip-version-check install --quiet --require-hashes --no-deps -r $(1); \
	    if test $(1) = requirements-dev.lock; then sha256sum < requirements.lock > .venv/installed.new; else : > .venv/installed.new; fi; \
	    echo "$$want" >> .venv/installed.new; mv .venv/installed.new .venv/installed; \
	fi
endef

define compile
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-emit-find-links --no-header --upgrade -o $(2) $(1)
	@! grep -n 'http' $(2)
endef
