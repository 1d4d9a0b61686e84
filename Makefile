# The two commands of the README are `make demo` and `make test`; each does its whole set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev

.PHONY: help demo test check conformance format lint types layers integration bench bench-smoke soak image lock clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("svcdns needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): requirements.lock pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(DEV_STAMP): requirements-dev.lock $(RUN_STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

demo: $(RUN_STAMP)  ## serve Corefile.example on loopback, show a few answers, go on serving
	@exec $(BIN)/svcdns demo

test: $(DEV_STAMP)  ## unit and end-to-end tests
	$(BIN)/python -m pytest

check: $(DEV_STAMP) lint types layers test  ## everything that CI checks but the integration tier

lint: $(DEV_STAMP)  ## format check and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(DEV_STAMP)  ## mypy --strict
	$(BIN)/mypy --strict -p svcdns -p bench

layers: $(DEV_STAMP)  ## import layers and fences
	$(BIN)/lint-imports --no-cache

format: $(DEV_STAMP)  ## write the format, and what the linter can mend
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

conformance: $(DEV_STAMP)  ## the real server against recorded answers, and against itself after many changes
	$(BIN)/python -m pytest -m conformance

integration: $(DEV_STAMP)  ## against the API server that KUBECONFIG names, and NSD, Knot, Unbound and dnsmasq where they are installed; its faults with a binary of one that SVCDNS_TEST_APISERVER names
	$(BIN)/python -m pytest -m integration -p no:randomly tests/integration

bench: $(DEV_STAMP)  ## speed and memory beside NSD, Knot, Unbound, dnsmasq and CoreDNS (COREDNS=its binary); BENCH="hit mix --rounds 5" chooses
	$(BIN)/python -m bench $(BENCH)

bench-smoke: $(DEV_STAMP)  ## whether every scenario of the bench works, in seconds
	$(BIN)/python -m bench --smoke $(BENCH)

soak: $(DEV_STAMP)  ## random faults under load, every answer checked; SOAK="--minutes 5 --seed 1"
	$(BIN)/python -m bench.soak $(SOAK)

IMAGE ?= svcdns
BASE ?= docker.io/library/python:3.11-slim-bookworm
image:  ## build the container image with buildah
	buildah bud --build-arg BASE=$(BASE) -t $(IMAGE) .

lock:  ## resolve the dependencies anew (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements.lock pyproject.toml requirements.in
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra dev -o requirements-dev.lock pyproject.toml requirements.in

clean:  ## remove the environment and caches
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
