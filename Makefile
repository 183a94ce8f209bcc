# Needs Python 3.11+, make and the registries of Python and Node packages; all else is installed into .venv.
#   make test ARGS="-k settlement"      one part of the tests
#   make alone ARGS="--only trie"       one distribution in isolation
#   make bench ARGS="--quick"           a smoke run of the benchmarks; their peers go into .venv-bench
#   make setup PYTHON=python3.14        another interpreter (remove .venv first)

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NODE_STAMP := tests/pyodide/node_modules/.installed
SERVERS_STAMP := $(VENV)/.servers
PLUGINS := $(sort $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml)))
PYPROJECTS := pyproject.toml $(PLUGINS:%=%/pyproject.toml)

# One command for all editables: neither the kernel nor a plugin is on an index.
EDITABLES := -e ".[fast,trio]" $(PLUGINS:%=-e %)
GROUPS := --group dev $(PLUGINS:%=--group %/pyproject.toml:test)

.PHONY: setup servers demo test bench lint format alone dist
.DEFAULT_GOAL := setup

setup: $(STAMP) $(NODE_STAMP)

$(STAMP): $(PYPROJECTS)
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet "uv>=0.9,<1" || echo "uv is not to be had here; going on with pip"
	@groups="$(GROUPS)"; \
	if ! command -v node >/dev/null || ! command -v npm >/dev/null; then groups="$$groups --group node"; fi; \
	if test -x $(BIN)/uv; then \
		$(BIN)/uv pip install --quiet --python $(BIN)/python $(EDITABLES) $$groups; \
	else \
		$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1" && \
		$(BIN)/python -m pip install --quiet $(EDITABLES) $$groups; \
	fi
	@touch $@

$(NODE_STAMP): tests/pyodide/package.json $(STAMP)
	@$(BIN)/python tests/pyodide/install.py

# Servers such as Redis, by the system's packages; where that cannot be, their tests are skipped.
$(SERVERS_STAMP): tests/install_servers.py $(STAMP)
	@if $(BIN)/python tests/install_servers.py; then touch $@; fi

servers: $(SERVERS_STAMP)

demo: setup
	@cd examples/tour && ../../$(BIN)/python demo.py

test: setup $(SERVERS_STAMP)
	@$(BIN)/python -m pytest $(ARGS)

bench: setup
	@$(BIN)/python -m tests.benchmarks.run $(ARGS)

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --warnings
	@$(BIN)/lint-imports

format: setup
	@$(BIN)/ruff check --fix --exit-zero --quiet .
	@$(BIN)/ruff format .

alone: setup $(SERVERS_STAMP)
	@PEERS_OF_TESTS="$(CURDIR)" $(BIN)/python tests/alone/run.py $(ARGS)

dist: setup
	@rm -rf dist
	@if test -x $(BIN)/uv; then \
		$(BIN)/uv build --quiet --all-packages --out-dir dist; \
	else \
		for project in . $(PLUGINS); do $(BIN)/python -m build --outdir dist $$project || exit 1; done; \
	fi
	@ls dist
