# perdure: `make help`. Every target makes its own virtual environment when there is none, or when what it is made from has changed.

SHELL := /bin/bash
PYTHON ?= python3
# Tests of clusters wait for most of their time; two processes of pytest leave half of two cores idle.
JOBS ?= $(if $(TESTS),2,3)
EXTRAS ?= api kafka otel payloads postgres
WHEELS ?= wheels
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made
RUN_STAMP := $(VENV)/.made-run
PIP := $(BIN)/pip --quiet --disable-pip-version-check
# What the extras need, with hashes, then perdure itself, which has none: in place, built by a backend that has one.
INSTALL = $(BIN)/python deploy/dependencies/pins.py $(1) > $(VENV)/requirements.txt \
	&& $(PIP) install --require-hashes --requirement $(VENV)/requirements.txt \
	&& $(PIP) install --no-deps --no-build-isolation --editable .
APT := DEBIAN_FRONTEND=noninteractive apt-get

.DEFAULT_GOAL := help
.PHONY: help run test pythons check check-ruff check-imports check-mypy check-pyright fmt wheel wheels pins licences bench bench-kafka bench-read browser database kafka postgres chaos mutants e2e-k8s

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(RUN_STAMP) ## the food delivery example on http://127.0.0.1:8000 and its HTTP API; continues where it was; PORT=8000
	$(BIN)/perdure dev examples/food_delivery/app.py --db sqlite:///food_delivery.db --port $(or $(PORT),8000)

# Compiled once, since the environment may tell Python to keep nothing of what it compiles: tests start
# hundreds of processes.
test: check browser database ## every gate and every test; TESTS=tests/unit for some of them, JOBS=1 one after the other
	$(BIN)/python -m compileall -q platform schemas workers api
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(TESTS)
	$(if $(TESTS),,$(BIN)/python -m tests.pythons --jobs $(JOBS))

pythons: $(STAMP) ## the unit, integration and compatibility tiers on the other Pythons that perdure supports, where this machine has them
	$(BIN)/python -m tests.pythons --jobs $(JOBS)

check: $(STAMP) ## the linters and type checkers
	@$(MAKE) --no-print-directory --jobs 2 check-pyright check-mypy check-ruff check-imports

check-ruff:
	$(BIN)/ruff check
	$(BIN)/ruff format --check

check-imports:
	$(BIN)/lint-imports --no-cache --no-logo

check-mypy:
	$(BIN)/mypy

check-pyright:
	$(BIN)/pyright

fmt: $(STAMP) ## format, and fix what ruff can fix
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

wheel: $(RUN_STAMP) ## dist/perdure-VERSION-py3-none-any.whl, to install anywhere
	$(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist .

wheels: $(RUN_STAMP) ## wheels/: perdure and all that it needs, for an image, or a machine without a network; EXTRAS="api kafka otel payloads postgres"
	$(BIN)/python deploy/dependencies/pins.py $(EXTRAS) > $(VENV)/wheels.txt
	$(PIP) wheel --require-hashes --requirement $(VENV)/wheels.txt --wheel-dir $(WHEELS)
	$(PIP) wheel --no-deps --no-build-isolation --wheel-dir $(WHEELS) .

pins: $(STAMP) ## constraints.txt, after a change of pyproject.toml; UPGRADE=1: the newest of everything
	printf 'hatchling\neditables\n' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --all-extras --no-header \
		--annotation-style line $(if $(UPGRADE),--upgrade) --output-file constraints.txt pyproject.toml -

licences: $(STAMP) ## docs/licences.md, after a change of constraints.txt
	$(PYTHON) -m venv --clear $(VENV)/shipped
	$(BIN)/python deploy/dependencies/pins.py api examples http kafka otel payloads postgres > $(VENV)/shipped/requirements.txt
	$(VENV)/shipped/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement $(VENV)/shipped/requirements.txt
	$(VENV)/shipped/bin/python deploy/dependencies/licences.py > docs/licences.md

kafka: $(STAMP) ## a Kafka on 127.0.0.1:9092 until Ctrl-C, for trying things; needs Java 17 and Maven
	$(BIN)/python -m tests.kafka.broker

postgres: $(STAMP) database ## a PostgreSQL on 127.0.0.1:5432 until Ctrl-C, for trying things
	$(BIN)/python -m tests.postgres.server

chaos: $(STAMP) ## orders on three brokers while all of it is killed, stopped and frozen; SEED=… MINUTES=2 BROKERS=3
	$(BIN)/python -m tests.chaos.run $(if $(SEED),--seed $(SEED)) --minutes $(or $(MINUTES),2) --brokers $(or $(BROKERS),3)

mutants: JOBS := 2
mutants: browser database ## plant the bugs of tests/mutants one by one, and report which the tests find; FILE=core ONLY=text
	$(BIN)/python -m tests.mutants.run --jobs $(JOBS) $(if $(FILE),--file $(FILE)) $(if $(ONLY),--only $(ONLY))

e2e-k8s: $(STAMP) ## a release of the chart on a real Kubernetes node, as root on Debian; needs Go and Maven; RATE=20 orders a second; UMBRELLA=1: the umbrella chart alone
	$(BIN)/python deploy/e2e/run.py --rate $(or $(RATE),20) $(if $(UMBRELLA),--umbrella)

bench: $(VENV)/.made-bench ## the figures of the README, as JSON and a table
	$(BIN)/python -m bench
	$(BIN)/python -m bench.capabilities

bench-kafka: $(VENV)/.made-bench ## orders on Kafka, and what it stands; RESTATE=1: Restate beside us; FLOOR=folder of the floor's scripts
	$(BIN)/python -m bench.kafka $(if $(RESTATE),--restate)
	$(BIN)/python -m bench.kafka_limits
	$(BIN)/python -m bench.capabilities --kafka

bench-read: $(STAMP) database ## what reading costs: the projector, the list of a million workflows, the HTTP API; and triggers
	$(BIN)/python -m bench.project
	$(BIN)/python -m bench.list
	$(BIN)/python -m bench.http
	$(BIN)/python -m bench.http --postgres
	$(BIN)/python -m bench.ingest

# The browser test drives Debian's chromium; without it, and without the right to install it, that one test says so and is skipped.
browser: $(STAMP)
	@if ! command -v chromium >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing chromium for the browser test"; \
		$(APT) update -qq && $(APT) install -y -qq --no-install-recommends chromium >/dev/null; \
	fi

# The same for PostgreSQL: a server of Debian's package, started by the tests; PERDURE_TEST_POSTGRES names another.
database:
	@if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && ! command -v initdb >/dev/null && [ -z "$$PERDURE_TEST_POSTGRES" ] \
		&& [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing postgresql for the tests of the projector"; \
		$(APT) update -qq && $(APT) install -y -qq --no-install-recommends postgresql >/dev/null; \
	fi

# What runs the example is installed alone, so that a fresh clone serves it soon; the tools of developers come with the first check or test.
$(RUN_STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "perdure needs Python 3.11 or later; say PYTHON=python3.12 make ..." >&2; exit 2; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && $(APT) update -qq && $(APT) install -y -qq python3-venv >/dev/null && $(PYTHON) -m venv --clear $(VENV); }
	$(call INSTALL,api examples)
	@touch $@

$(STAMP): $(RUN_STAMP)
	$(call INSTALL,api dev examples kafka payloads postgres)
	@touch $@

$(VENV)/.made-bench: $(STAMP)
	$(call INSTALL,api bench dev examples kafka payloads postgres)
	@touch $@
