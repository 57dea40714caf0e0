# `make test` and `make check` set up everything they need in .venv; Python 3.11 or later, make and the
# package registry are all that a machine must have.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
UV ?= uv
STAMP := $(VENV)/.installed
# What the linter and the type checker read; a directory counts from the day it exists.
SOURCES := $(wildcard crdtmed relay tests bench)

# Guides the fuzzing where it has a wheel; it is in no lock, since it has none for every machine.
ATHERIS ?= atheris>=3,<4

, := ,

.DEFAULT_GOAL := help
.PHONY: help venv run test simulate stateful kill fuzz mutate check bench format lock clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "crdtmed needs Python 3.11 or later, and $(PYTHON) is " + sys.version.split()[0] + "; name another: make PYTHON=python3.12")'
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(PIP) --require-hashes -r requirements.lock
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

venv: $(STAMP) ## make .venv with the locked dependencies (the others do it by themselves)

test: $(STAMP) ## run the tests; ARGS="-k name" reaches pytest
	$(BIN)/python -m pytest -n auto $(ARGS)

run: $(STAMP) ## play a day on a ward with a real relay and real devices; ARGS="--help" says more
	$(BIN)/python -m crdtmed.ward $(ARGS)

simulate: $(STAMP) ## play simulated histories on all cores: SEEDS=n, FROM=first seed
	$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),200) --from $(or $(FROM),0)

stateful: $(STAMP) ## search for steps of people that break a rule, on real devices and a real relay: EXAMPLES=n, STEPS=n
	$(BIN)/python -m tests.stateful --examples $(or $(EXAMPLES),200) --steps $(or $(STEPS),25)

kill: $(STAMP) ## kill relay and devices with SIGKILL under load, and check what is left: ROUNDS=n
	$(BIN)/python -m tests.kill --rounds $(or $(ROUNDS),20)

fuzz: $(STAMP) ## fuzz every reader of bytes from elsewhere: SECONDS=n for all together
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(PIP) --only-binary :all: '$(ATHERIS)' 2>/dev/null || true
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60)

mutate: $(STAMP) ## break a copy of the code in named ways and show what notices: ONLY=names
	$(BIN)/python -m tests.mutation $(ONLY)

check: $(STAMP) ## formatting, lint, strict types; changes nothing
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy --strict $(SOURCES)

bench: $(STAMP) ## measure speed, a few minutes; PEERS=1 installs others and compares; ROUNDS=n OUT=file
	$(BIN)/python -m bench --rounds $(or $(ROUNDS),$(if $(PEERS),3,1)) --out $(or $(OUT),bench-results.json) \
	  $(if $(PEERS),--peers jazz$(,)hocuspocus$(,)pycrdt)

format: $(STAMP) ## rewrite the sources in the house format
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

lock: ## resolve pyproject.toml anew into requirements.lock (needs uv, or UV=path)
	$(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --extra dev --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
	  --output-file requirements.lock pyproject.toml

clean: ## remove .venv and everything that tools left behind
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
