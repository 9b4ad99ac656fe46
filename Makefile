# Every target is complete on a fresh machine: it needs Python 3.10 to 3.13 and a package index, makes its own
# virtual environment inside the checkout the first time, and touches nothing outside it.
#
#   make test AIRFLOW=2.11          the same on another Airflow, in a virtual environment of its own
#   make test PYTHON=python3.10     with a Python of your choice (VENV=.venv-3.10 keeps both)
#   make test ARGS="-k stop -x"     arguments for pytest (or for the demo, the benchmarks, ...)
#   make test JOBS=0                in one process, for a debugger

.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory
# Airflow's byte code is kept, so that not every process compiles it anew.
unexport PYTHONDONTWRITEBYTECODE
SHELL := /bin/sh

AIRFLOW ?= 3.3
VENV := .venv$(if $(filter-out 3.3,$(AIRFLOW)),-$(AIRFLOW))
PYTHON ?=
ARGS ?=
JOBS ?= logical

# Airflow 2 ends at Python 3.12.
HIGHEST_PYTHON_MINOR := $(if $(filter 2.%,$(AIRFLOW)),12,13)

# Nothing writes dot files into the user's home (the Huawei Cloud SDK would).
RUN := mkdir -p .cache/home && HOME="$(CURDIR)/.cache/home" AIRFLOW_HOME="$(CURDIR)/.cache/airflow"
PY := $(RUN) $(VENV)/bin/python
# One process for each core: with more, tests that depend on the clock fail now and then. Each has its own Airflow,
# so more than four gain little.
PYTEST := $(PY) -m pytest --numprocesses=$(JOBS) --maxprocesses=4 --dist=loadfile \
  --no-loadscope-reorder

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: venv ## a bad firmware rollout on 1,000 emulated devices, stopped by real Airflow
	@$(PY) scripts/demo.py $(ARGS)

.PHONY: ui
ui: venv ## Airflow's web UI with the emulator and the example DAGs
	@$(PY) scripts/ui.py $(ARGS)

.PHONY: test
test: venv ## all tests: unit, integration, system
	@$(PYTEST) $(ARGS)

.PHONY: test-unit test-integration test-system
test-unit test-integration test-system: test-%: venv
	@$(PYTEST) tests/$* $(ARGS)

.PHONY: test-distributed
test-distributed: venv ## the guard on Celery, Postgres and Redis with 300 rollouts: ten minutes
	@$(PY) -m pytest tests/distributed --exitfirst $(ARGS)

.PHONY: test-browser
test-browser: venv ## the Rollouts page in Debian's chromium, and the pictures in docs/images: five minutes
	@IOTDA_PICTURES=docs/images $(PY) -m pytest tests/browser --exitfirst $(ARGS)

.PHONY: golden
golden: venv ## write tests/golden anew: what this version leaves in users' databases
	@IOTDA_GOLDEN=write $(PY) -m pytest -q tests/integration/release/test_stored_formats.py \
	  tests/integration/rollout_guard/test_stored_formats.py $(ARGS)

.PHONY: lint
lint: venv ## ruff (check and format) and mypy in strict mode
	@status=0; \
	  $(PY) -m ruff check . || status=1; \
	  $(PY) -m ruff format --check . || status=1; \
	  $(PY) -m mypy provider/iotda_provider || status=1; \
	  exit $$status

.PHONY: format
format: venv ## let ruff put the code in order
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

.PHONY: docs
docs: venv ## the documentation in English and Chinese, into docs/_build/html
	@$(PY) -m sphinx -q -W --keep-going -b html docs docs/_build/html $(ARGS)
	@$(PY) -m sphinx -q -W --keep-going -b html -D language=zh_CN -D figure_language_filename='{root}-dark-zh{ext}' \
	  docs docs/_build/html/zh_CN $(ARGS)
	@$(PY) scripts/translations.py --check

.PHONY: translations
translations: venv ## bring the Chinese catalogues in docs/locale up to date with the guides
	@$(PY) scripts/translations.py $(ARGS)

.PHONY: package
package: venv ## build wheel and sdist, and try the wheel alone: two minutes (ARGS="3.2 3.1 2.11": with these, too)
	@$(PY) scripts/package.py --airflow $(AIRFLOW) $(ARGS)

.PHONY: licences
licences: venv ## the licences of what we depend on, into requirements/LICENCES.md
	@$(PY) scripts/licences.py $(ARGS)

.PHONY: bench
bench: venv ## the measurements that the documentation quotes
	@set -e; for file in benchmarks/bench_*.py; do echo "== $$file"; $(PY) "$$file" $(ARGS); done

.PHONY: lock
lock: ## resolve the lock files in requirements/ anew
	@python=$$(sh scripts/find-python.sh 13 $(PYTHON)) && "$$python" scripts/bootstrap.py lock

.PHONY: venv
venv: ## only make or update the virtual environment
	@python=$$(sh scripts/find-python.sh $(HIGHEST_PYTHON_MINOR) $(or $(PYTHON),$(VENV)/bin/python python3.13 python3.12 python3.11 python3.10 python3 python)) \
	  && "$$python" scripts/bootstrap.py install --venv $(VENV) --airflow $(AIRFLOW) $(if $(PYTHON),--python "$$python")

.PHONY: clean
clean: ## remove everything that these targets made
	rm -rf .venv .venv-* .cache .demo build dist docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find docs/locale -name '*.mo' -delete
	find provider tests -name __pycache__ -prune -exec rm -rf {} +
	rm -rf provider/*.egg-info provider/*/*.egg-info
