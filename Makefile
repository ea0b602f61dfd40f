# dataarch: `make` alone says what there is. Servers come from DATAARCH_OWNER_URL, DATAARCH_DATABASE_URL and
# DATAARCH_REDIS_URL; without them, embedded ones are started in .dataarch/.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DATA ?= examples/data
PYTEST_ARGS ?=
WORKERS ?= auto
PYTEST := $(BIN)/python -m pytest --numprocesses=$(WORKERS) --maxprocesses=4 --dist=worksteal

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test check format lint types bench promises lock stop clean

help: ## List the targets
	@echo "dataarch: no data structure exists until a test proves it works."
	@echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | column -t -s '|' 2>/dev/null \
		|| sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1    \2/p' $(firstword $(MAKEFILE_LIST))

$(READY): pyproject.toml requirements/dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: dataarch needs Python 3.11 or later; set PYTHON=/path/to/python3.11"; exit 2; }
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --quiet --require-hashes -r requirements/dev.lock
	@$(BIN)/python -m pip install --quiet --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY) ## Load order lines and look at them: make demo [DATA=folder]
	@$(BIN)/alembic upgrade head
	@$(BIN)/dataarch demo "$(DATA)"

test: $(READY) ## Pass all tests, on embedded servers or those of the environment
	@$(PYTEST) $(PYTEST_ARGS)

check: $(READY) lint types ## All that CI runs: format, lint, types, tests with coverage
	@rm -f .coverage .coverage.*
	@$(PYTEST) --cov --cov-report=term $(PYTEST_ARGS)

format: $(READY) ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix --quiet .

lint: $(READY) ## Check format and style
	@$(BIN)/ruff format --check --quiet . || { echo "run: make format"; exit 1; }
	@$(BIN)/ruff check --quiet .

types: $(READY) ## Check types, strictly
	@$(BIN)/mypy

BENCHMARKS := $(addprefix repositories.,reads search pages trips ingest upsert stock) partitions.maintenance cache.regions cache.near \
	pipelines.csv_upsert pipelines.bad_rows rollout.dual_write rollout.stall rollout.backfill

bench: $(READY) ## Measure the main job, repositories, the maintenance of partitions, and reads through the cache
	@$(BIN)/python tests/benchmarks/main_job.py "$(DATA)"
	@PYTHONPATH=tests $(BIN)/python -m benchmarks.repositories.peers
	@broken=; for work in $(BENCHMARKS); do \
		PYTHONPATH=tests $(BIN)/python -m benchmarks.$$work || broken="$$broken $$work"; done; \
		[ -z "$$broken" ] || { echo "limits are broken, or could not be judged:$$broken"; exit 1; }

promises: $(READY) ## Write the page of promises and their tests anew
	@$(BIN)/python tests/docs/write_promises.py

lock: ## Lock the development dependencies anew
	@$(PYTHON) -m venv $(VENV)-lock && $(VENV)-lock/bin/python -m pip install --quiet --quiet uv
	@$(VENV)-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-header \
		--no-strip-extras --generate-hashes --extra dev pyproject.toml -o requirements/dev.lock

stop: $(READY) ## Stop the embedded servers
	@$(BIN)/dataarch server stop

clean: ## Stop the embedded servers and remove all that was set up, data included
	@[ ! -x $(BIN)/dataarch ] || $(BIN)/dataarch server stop || true
	@rm -rf $(VENV) .dataarch .dataarch-tests .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
