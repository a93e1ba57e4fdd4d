# `make demo` and `make test` set up all they need in .tools and .venv; a second run finds it there.

.DELETE_ON_ERROR:
.PHONY: help demo test setup servers lint types tests conformance mutants docs clean

UV := .tools/bin/uv
BIN := .venv/bin
MEMBERS := pyproject.toml $(wildcard plugins/*/pyproject.toml) conformance/pyproject.toml

# Set-up must not depend on the caller's environment: its virtual environment, or one that uv would download.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME
export UV_PROJECT_ENVIRONMENT := .venv
export UV_PYTHON_DOWNLOADS := never
export UV_COMPILE_BYTECODE := 1

help:
	@echo 'make demo         set up, then watch messages survive killed workers on SQLite; URL=… for another broker'
	@echo 'make test         set up, then all of the following'
	@echo 'make lint types   ruff and mypy'
	@echo 'make tests        pytest; ARGS=… to choose'
	@echo 'make conformance  the laws against every engine'
	@echo 'make mutants      the suite itself: does it notice planted defects?'
	@echo 'make docs         write the tables and excerpts of docs/ again'
	@echo 'make clean        remove what set-up made'

demo: setup
	$(BIN)/brokerkit demo $(URL)

test: lint types tests conformance mutants

setup: .venv/.ready

.tools/.ready: .ci/prepare
	.ci/prepare
	touch $@

.venv/.ready: .tools/.ready $(MEMBERS)
	$(UV) sync --quiet --all-packages --python .tools/bin/python
	touch $@

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: setup
	$(BIN)/mypy

# what the tests start and this machine lacks: installed where that is allowed, else the line to type is printed
servers:
	.ci/servers

# pytest's exit code 5, no test was collected, fails like any other
tests: setup servers
	$(BIN)/pytest $(ARGS)

conformance: setup servers
	$(BIN)/brokerkit-conformance run brokerkit_conformance.reference:MemoryHarness
	$(BIN)/brokerkit-conformance run sqlite
	$(BIN)/brokerkit-conformance run redis
	$(BIN)/brokerkit-conformance run redis-sentinel
	$(BIN)/brokerkit-conformance run redis-cluster
	$(BIN)/brokerkit-conformance run rabbitmq
	$(BIN)/brokerkit-conformance run memcached
	$(BIN)/brokerkit-conformance run rpc --level core
	$(BIN)/brokerkit-conformance run rpc-sqlite --level core

mutants: setup
	$(BIN)/brokerkit-conformance mutants

docs: setup
	$(BIN)/python docs/generate.py

clean:
	rm -rf .venv .tools .mypy_cache .pytest_cache .ruff_cache .hypothesis
