# mpcredit: `make demo` and `make test` set up all they need below this folder (.venv, node_modules, .build).
# Needed on the machine: Python 3.11 or newer, make; for the tests also Node 20 with npm.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements/lock.txt
TESTS  ?= tests
WORKERS ?= 2
K      ?=

export SOLCX_BINARY_PATH := $(CURDIR)/.build/solcx

.PHONY: help demo up test test-geth quick check fix gas artifacts docs bench lock clean setup setup-test

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: setup  ## one joint credit inquiry on real account data, from nothing
	@$(BIN)/mpcredit demo

up: setup  ## a local consortium of separate processes, with pages for officer and supervisor
	@$(BIN)/mpcredit up

test: setup-test  ## all tests; K=word narrows, TESTS=path too
	$(BIN)/python -m pytest $(TESTS) --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 15 $(if $(K),-k "$(K)")
	$(if $(K),,$(BIN)/ape test tests/ape --network ethereum:local:test --quiet)
	$(if $(K),,PATH="$(CURDIR)/node_modules/@foundry-rs/anvil-linux-amd64/bin:$$PATH" $(BIN)/ape test tests/ape --network ethereum:local:foundry --quiet)

quick: setup-test  ## the tests that take no chain of their own: seconds
	$(BIN)/python -m pytest tests/unit tests/docs --numprocesses $(WORKERS) $(if $(K),-k "$(K)")

test-geth: setup-test .build/geth/geth  ## the main job on go-ethereum itself; needs Go
	MPCREDIT_GETH=.build/geth/geth $(BIN)/python -m pytest tests/chain/test_geth.py

.build/geth/geth:
	@command -v go >/dev/null || { echo "this needs Go; or name a geth: MPCREDIT_GETH=... pytest tests/chain/test_geth.py" >&2; exit 1; }
	@echo "building geth (once, about two minutes)"
	GOBIN="$(CURDIR)/.build/geth" go install github.com/ethereum/go-ethereum/cmd/geth@v1.17.10

check: setup-test .build/slither.stamp  ## format, lint, types, layers, documents, artifacts, gas, slither
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/cli_docs.py --check
	$(BIN)/python tools/compile.py --check
	$(BIN)/python tools/gas.py --check
	.build/venv-slither/bin/python tools/slither.py

fix: setup-test  ## format and mend what can be mended by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

gas: setup-test  ## measure gas anew and write tests/gas.json (review the diff)
	$(BIN)/python tools/gas.py --write

artifacts: setup-test  ## compile the contracts into mpcredit/artifacts
	$(BIN)/python tools/compile.py

docs: setup-test  ## write docs/cli.md from the program
	$(BIN)/python tools/cli_docs.py --write

bench: setup-test  ## Paillier beside its peers, every result checked
	$(BIN)/python benchmarks/paillier.py --bits 2048 3072

lock: setup-test  ## write requirements/lock.txt from what is installed now (review the diff)
	( sed -n 1p requirements/lock.txt; $(BIN)/python -m pip freeze --exclude-editable --exclude mpcredit ) > .build/lock.txt
	mv .build/lock.txt requirements/lock.txt

clean:  ## remove everything that set-up and builds made
	rm -rf .venv node_modules .build build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

setup: .build/setup.stamp
setup-test: .build/setup-test.stamp

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mpcredit needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

.build/setup.stamp: $(BIN)/python pyproject.toml requirements/lock.txt
	@echo "setting up the package (once, under a minute)"
	$(PIP) --editable '.[fast,server]'
	@mkdir -p .build && touch $@

.build/setup-test.stamp: .build/setup.stamp package.json package-lock.json tools/system-packages
	@command -v npm >/dev/null || { echo "the tests need Node 20 with npm (compiler and test chain)" >&2; exit 1; }
	@echo "setting up the tests (once, about two minutes)"
	npm ci --silent --no-audit --no-fund
	$(PIP) --editable '.[fast,server,phe,parquet,pkcs11,dev,ape]'
	@tools/system-packages
	@touch $@

.build/slither.stamp: .build/setup.stamp requirements/slither.txt
	@echo "setting up slither (once, under a minute)"
	$(PYTHON) -m venv .build/venv-slither
	.build/venv-slither/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements/slither.txt
	@touch $@
