# The README has two commands, `make demo` and `make test`. Each of them sets up the environment that it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
LOCKED_EXTRAS := azure clouddns route53

.PHONY: help env demo demo-check test slow check conformance coverage coverage-first coverage-second versions format lint \
	types layers changelog site integration load bench bench-table \
	bench-smoke soak fuzz accelerator-soak accelerator-object image image-multiarch audit sbom lock release clean

help:  ## list the commands
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

env: $(DEV_STAMP)  ## the environment .venv with the development tools

demo: $(RUN_STAMP)  ## serve Corefile.example on loopback, show a few answers, go on serving
	@exec $(BIN)/svcdns demo

demo-check: $(DEV_STAMP)  ## start the demo, check its answers with the conformance suite, stop it
	.ci/demo

# End-to-end tests mostly wait, so four processes keep two processors busy. They start many interpreters, which should not
# compile the modules again each time.
JOBS ?= 4
SHARED := -n $(JOBS) --dist worksteal
test slow conformance: export PYTHONDONTWRITEBYTECODE =

test: $(DEV_STAMP)  ## unit and end-to-end tests
	$(BIN)/python -m pytest $(SHARED)

slow: $(DEV_STAMP)  ## tests that take seconds each, or need git
	$(BIN)/python -m pytest $(SHARED) -m slow

CHECKS := lint types layers changelog test slow coverage conformance demo-check load
check: $(DEV_STAMP)  ## everything that CI checks, except the integration tests
	@for part in $(CHECKS); do printf '\n== make %s\n' $$part; $(MAKE) --no-print-directory $$part || exit 1; done

lint: $(DEV_STAMP)  ## check format and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(DEV_STAMP)  ## mypy over the code, the tests and the tools
	$(BIN)/mypy

layers: $(DEV_STAMP)  ## import layers and other import rules
	$(BIN)/lint-imports --no-cache

changelog: $(DEV_STAMP)  ## show the changelog of the next release
	$(BIN)/towncrier build --draft --version next

# Coverage is measured in the processes of pytest alone, so that tests which start processes add time and no lines. So do
# tests of the repository's texts (tests/test_*). Two halves of the other tests run side by side.
COVERED ?= $(filter-out $(addprefix tests/,bench conformance deploy end_to_end integration release support) tests/test_%,$(wildcard tests/*))
FIRST_HALF := $(addprefix tests/,plugins hostile wire zones control cli upstream sources)
coverage: $(DEV_STAMP)  ## branch coverage of the unit tests; fails below the floor in pyproject.toml
	$(BIN)/coverage erase
	$(MAKE) --no-print-directory --jobs=2 --output-sync coverage-first coverage-second
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

coverage-first coverage-second: $(DEV_STAMP)
coverage-first: HALF = $(filter $(FIRST_HALF),$(COVERED))
coverage-second: HALF = $(filter-out $(FIRST_HALF),$(COVERED))
coverage-first coverage-second:
	$(BIN)/coverage run --parallel-mode -m pytest -q $(HALF)

versions: $(DEV_STAMP)  ## the tests with every CPython from 3.11 that is installed; VERSIONS="tests/wire" chooses tests
	$(BIN)/nox $(if $(VERSIONS),-- $(VERSIONS))

format: $(DEV_STAMP)  ## write the format, and fix what the linter can fix
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

conformance: $(DEV_STAMP)  ## the real server against recorded answers, and against a fresh server after many changes
	$(BIN)/python -m pytest $(SHARED) -m conformance

integration: $(DEV_STAMP)  ## tests with an API server (KUBECONFIG, SVCDNS_TEST_APISERVER) and with the servers and resolvers of Debian
	$(BIN)/python -m pytest -m integration -p no:randomly tests/deploy tests/integration

load: $(DEV_STAMP)  ## a short load, each bench scenario once, random faults; needs dnsperf
	.ci/load

bench: $(DEV_STAMP)  ## speed and memory beside NSD, Knot, Unbound, dnsmasq and CoreDNS (COREDNS=its binary); BENCH="hit mix --rounds 5" chooses
	$(BIN)/python -m bench $(BENCH)

TABLE := cold cold-mix hit hit-5k hit-20k mix miss external forward forward-2k tcp latency change restarts start memory workers
bench-table: $(DEV_STAMP)  ## the first table of docs/performance.md, in table.md; takes 20 minutes, and needs a quiet machine (COREDNS=its binary)
	$(BIN)/python -m bench $(TABLE) --peers nsd,unbound,coredns --seconds 2 --rounds 2 --json table.json --markdown table.md

bench-smoke: $(DEV_STAMP)  ## each scenario of the bench once, in seconds
	$(BIN)/python -m bench --smoke $(BENCH)

soak: $(DEV_STAMP)  ## random faults under load, every answer checked; SOAK="--minutes 5 --seed 1"
	$(BIN)/python -m bench.soak $(SOAK)

fuzz: $(DEV_STAMP)  ## coverage-guided fuzzing (needs atheris); FUZZ="names tcp --minutes 10" chooses, FUZZ=all takes every target
	$(BIN)/python -m tests.fuzz $(FUZZ)

RACE ?= --seconds 120
accelerator-soak: $(DEV_STAMP)  ## millions of queries race with changes, and all recorded answers, with the accelerator; needs root
	$(BIN)/python -m bench.accelerator_race $(RACE)
	SVCDNS_TEST_RECORDED=all $(BIN)/python -m pytest -m integration -p no:randomly tests/integration/test_accelerator_answers.py

# The objects are the same on every machine with this version of clang. They have no debug information.
CLANG ?= clang-14
OBJECTS ?= .
BPF_FLAGS := -O2 -Wall -Wextra -Werror -target bpf -mcpu=v3 -idirafter /usr/include/$(shell uname -m)-linux-gnu
accelerator-object:  ## compile the kernel programs of the accelerator and of its bench (needs Debian's clang-14 and linux-libc-dev)
	$(CLANG) $(BPF_FLAGS) -c svcdns/accelerator/answers.bpf.c -o $(OBJECTS)/svcdns/accelerator/answers.bpf.o
	$(CLANG) $(BPF_FLAGS) -I svcdns/accelerator -c bench/echo.bpf.c -o $(OBJECTS)/bench/echo.bpf.o

IMAGE ?= svcdns
PLATFORMS ?= linux/amd64 linux/arm64
REVISION ?= $(shell git rev-parse --short HEAD)
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct)
CREATED ?= $(shell date -u -d @$(SOURCE_DATE_EPOCH) +%Y-%m-%dT%H:%M:%SZ)
BUILDER ?= $(BASE)
# files have the time of the commit, so that the same commit gives the same layers
BUILD_IMAGE = buildah bud --timestamp $(SOURCE_DATE_EPOCH) $(BUILD_OPTIONS) \
  --build-arg VERSION=$(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' svcdns/__init__.py) \
  $(foreach name,DEBIAN BASE BUILDER EXTRAS REVISION CREATED,$(if $($(name)),--build-arg $(name)=$($(name))))

image:  ## build the container image with buildah; EXTRAS=route53,azure, BASE=another-base:tag
	$(BUILD_IMAGE) -t $(IMAGE) .

image-multiarch:  ## build the image for all PLATFORMS, as one manifest list; other processors need qemu-user-static
	buildah manifest create $(IMAGE)
	for platform in $(PLATFORMS); do $(BUILD_IMAGE) --platform $$platform --manifest $(IMAGE) . || exit 1; done

AUDIT := .venv-audit/bin
.venv-audit/.installed: requirements-audit.lock
	$(PYTHON) -m venv .venv-audit
	$(AUDIT)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-audit.lock
	@touch $@

audit: .venv-audit/.installed  ## pip-audit over all lock files; says so in one line if its database cannot be reached
	@$(AUDIT)/python tools/audit.py requirements.lock requirements-dev.lock requirements-audit.lock requirements-docs.lock $(LOCKED_EXTRAS:%=requirements-%.lock)

DOCS := .venv-docs/bin
.venv-docs/.installed: requirements-docs.lock
	$(PYTHON) -m venv .venv-docs
	$(DOCS)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.lock
	@touch $@

site: .venv-docs/.installed  ## the documentation as a site, build/site/index.html; a broken link is an error
	@$(DOCS)/python -m tools.docs_site

sbom: $(RUN_STAMP) .venv-audit/.installed  ## sbom.cdx.json: the packages in .venv (CycloneDX); the image has its own, /app/sbom.cdx.json
	$(AUDIT)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o sbom.cdx.json $(BIN)/python

lock:  ## resolve the dependencies again (needs uv); versions in the lock files stay where the ranges allow them
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements.lock pyproject.toml requirements.in
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra dev -o requirements-dev.lock pyproject.toml requirements.in
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements-audit.lock requirements-audit.in
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements-docs.lock requirements-docs.in
	for extra in $(LOCKED_EXTRAS); do \
	  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --extra $$extra --constraint requirements-extras.in -o requirements-$$extra.lock pyproject.toml requirements.in; \
	done

release: $(DEV_STAMP)  ## version, changelog, commit, wheel, sdist and tag of VERSION=1.2.3; uploads nothing
	$(BIN)/python -m tools.release $(VERSION) $(if $(DATE),--date $(DATE))

clean:  ## remove the environment and caches
	rm -rf $(VENV) .venv-audit .venv-docs sbom.cdx.json build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .nox .coverage .fuzz
