# Needs only make and Python 3.11 or newer; everything else is brought by `make setup`.
#   make run     start everything on this machine          make test   run every test
#   make check   format, lint, types, import rules         make bench  one table of ratios

VENV := .venv
BIN := $(VENV)/bin
# Test files that run at once.
JOBS ?= 3
# The first Python on the path that is new enough; PYTHON=… chooses another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
READY := $(VENV)/.ready
# Folders whose package-lock.json npm installs.
NODE_FOLDERS := $(patsubst %/package-lock.json,%,$(wildcard examples/web/package-lock.json tests/*/package-lock.json tests/*/*/package-lock.json))
NODE_READY := $(addsuffix /node_modules/.ready,$(NODE_FOLDERS))

.PHONY: help run setup test check bench bench-full lock clean

help:
	@sed -n '2,3s/^# *//p' Makefile

run: setup
	@$(BIN)/cdp up

setup: $(READY) $(NODE_READY)

test: setup
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy -p cdp
	$(BIN)/lint-imports

bench: setup
	@$(BIN)/python -m bench $(ARGS)

# Large data, hours. Its opponent ClickHouse weighs a gigabyte: only who measures against it needs it.
bench-full: setup
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable '.[bench-full]'
	@$(BIN)/python -m bench --full $(ARGS)

# Only when dependencies change: writes the lock files, with hashes and without addresses.
lock: $(READY)
	$(BIN)/python scripts/lock.py

clean:
	rm -rf $(VENV) $(addsuffix /node_modules,$(NODE_FOLDERS)) build dist

$(READY): requirements-dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "cdp needs Python 3.11 or newer: install it, or say PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "this Python cannot make virtual environments: install its venv package (Debian: apt install python3-venv)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

# npm is the system's, else the one that comes in a wheel. A laptop without either still runs and
# tests everything else; the example page and the tests say what is missing.
%/node_modules/.ready: %/package-lock.json $(READY)
	@echo "installing Node packages in $*" >&2
	@$(BIN)/python scripts/install_node_packages.py $*
