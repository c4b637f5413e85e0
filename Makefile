# make run   set up everything and clean a real sound, live
# make test  set up everything and run the whole suite
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
export PYTHON

.PHONY: run test lint bench system clean

run: .venv/run
	$(BIN)/denoise-app demo

test: .venv/dev
	$(BIN)/python -m pytest

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/dev
	$(BIN)/denoise-app bench

system:
	requirements/system.sh test

# The stamp files say which set of packages the environment holds.
.venv/run: requirements/run.txt requirements/system.sh pyproject.toml
	requirements/system.sh run
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/run.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

.venv/dev: .venv/run requirements/dev.txt requirements/peers.txt
	requirements/system.sh test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/peers.txt
	touch $@

clean:
	rm -rf .venv build *.egg-info
