# `make` lists the targets. PYTHON names another interpreter (3.11 or newer), VENV another
# place for the environment, PORT another port.
PYTHON ?= python3
VENV ?= .venv
PORT ?= 8000
# What `make test` runs: on which databases, and which files or folders (all, if none is named).
DATABASES ?= sqlite postgresql
TESTS ?=
BIN := $(VENV)/bin
export PORT

# How the Procfile's lines run on a developer's machine. honcho kills what has not ended five
# seconds after Ctrl-C, so that the worker must be done sooner. The traps in `run` are for a terminal
# that is closed: honcho would die of the hangup and leave its children behind.
LOCAL := BGTASKS_GRACE=4 HOST=127.0.0.1 SITE_URL=http://127.0.0.1:$(PORT) PATH="$(abspath $(BIN)):$$PATH"

.DEFAULT_GOAL := help
.PHONY: help run run-celery test test-all lint types checks map chaos defects wheel bench bench-web bench-recovery bench-operators lab vendor clean

help: ## list what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

# What honcho starts, of the lines of the Procfile.
PROCESSES := web worker lab

run: $(VENV)/.run .env ## start the site and its worker on http://127.0.0.1:8000 (or PORT=...)
	@$(BIN)/python -c 'import socket; socket.create_server(("127.0.0.1", $(PORT)))' 2>/dev/null || \
	  { echo "Port $(PORT) is taken. Try another: make run PORT=$$(($(PORT) + 1))"; exit 1; }
	@$(BIN)/python manage.py migrate --verbosity 0
	@$(LOCAL) $(BIN)/python manage.py devadmin
	@(trap "" HUP; $(LOCAL) exec $(BIN)/honcho start $(PROCESSES)) & pid=$$!; \
	  trap : INT; trap "kill $$pid" HUP TERM; \
	  while kill -0 $$pid 2>/dev/null; do wait $$pid; code=$$?; done; \
	  case $$code in 129|130|143) ;; *) echo "A process ended by itself, and so the other was ended too. Its last lines are above, before \"stopped\"."; exit 1;; esac

run-celery: $(VENV)/.celery ## the same with a Celery worker that runs the tasks; CELERY_BROKER_URL names the broker
	@ENGINE=celery $(MAKE) --no-print-directory run PROCESSES="web worker celery"

# Where an environment forbids to write bytecode, each of a thousand processes would compile all code.
test: $(VENV)/.dev ## run every test that this machine can; REQUIRE_ALL=1 fails on a skip
	@marks="$(MARKS)"; for database in $(DATABASES); do \
	  echo "The tests with $$database:"; \
	  PYTHONDONTWRITEBYTECODE= TEST_DATABASE=$$database $(BIN)/python -m pytest -n auto --dist loadgroup --durations=10 -m "$$marks" $(TESTS); \
	  code=$$?; [ $$code -eq 0 ] || { [ "$$marks" ] && [ $$code -eq 5 ]; } || exit 1; \
	  marks="not any_database"; \
	done

test-all: ## run the tests on every Python that is here
	@for python in $$(PYTHON=$(PYTHON) .ci/pythons); do \
	  version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])') || exit 1; \
	  $(MAKE) test PYTHON=$$python VENV=.venv-$$version || exit 1; \
	done

lint: $(VENV)/.dev ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## check types
	$(BIN)/mypy

PRODUCTION = DOTENV=/dev/null DEBUG=0 ALLOWED_HOSTS=example.com \
  SECRET_KEY=$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(50))') \
  DATABASE_URL=postgres://127.0.0.1/none EMAIL_URL=smtp+tls://mail.example.com:587

checks: $(VENV)/.dev ## check the settings as production has them, and the migrations
	$(PRODUCTION) $(BIN)/python manage.py collectstatic --noinput --verbosity 0
	$(PRODUCTION) $(BIN)/python manage.py check --deploy --fail-level WARNING
	DOTENV=/dev/null DEBUG=1 $(BIN)/python manage.py makemigrations --check --dry-run

map: $(VENV)/.dev ## write into docs/internals/map.md what the modules say of themselves
	$(BIN)/python -m tests.harness.house_map

SECONDS := 60

chaos: $(VENV)/.dev ## everything that may go wrong, each for SECONDS=60, and soaks (the results go into the docs)
	PYTHONPATH=.:site $(BIN)/python -m tests.chaos.chaos --seconds $(SECONDS) --write
	PYTHONPATH=.:site $(BIN)/python -m tests.chaos.chaos --seconds $(SECONDS) --soak --write

defects: $(VENV)/.dev ## show that each defect's test fails on the stock engine
	ENGINE=stock $(BIN)/python -m pytest tests/bgtasks/defects

wheel: $(VENV)/.dev ## build bgtasks as a package of its own, into dist/
	$(BIN)/python -m build --wheel

bench: $(VENV)/.bench ## measure us and our peers side by side, and our own figures, into the docs
	$(BIN)/python bench/drain.py --into docs/internals/benchmarks.md --chart docs/internals/drain.svg
	$(BIN)/python bench/figures.py --into docs/internals/benchmarks.md

bench-web: $(VENV)/.dev ## measure how long a signup waits, all ways side by side
	$(BIN)/python bench/web.py

bench-recovery: $(VENV)/.dev ## measure how soon a task runs again when its worker dies
	$(BIN)/python bench/recovery.py

bench-operators: $(VENV)/.dev ## measure the pages of the admin, a retry of many, and a thousand event streams
	@for database in $(DATABASES); do \
	  export TEST_DATABASE=$$database; \
	  $(BIN)/python bench/operators.py && $(BIN)/python bench/streams.py || exit 1; \
	done

lab: $(VENV)/.dev ## measure with a browser what waiting costs, into docs/guides/when-async-helps.md
	$(BIN)/python bench/lab.py --into docs/guides/when-async-helps.md --record tests/site/lab/recorded.json

vendor: ## copy the pinned web-vitals from npm into site/lab/static (needs npm; `make run` does not)
	@npm ci --prefix site/lab/npm --silent --no-audit --no-fund
	@sed '/sourceMappingURL/d' site/lab/npm/node_modules/web-vitals/dist/web-vitals.attribution.iife.js > site/lab/static/lab/vendor/web-vitals.attribution.iife.js
	@cp site/lab/npm/node_modules/web-vitals/LICENSE site/lab/static/lab/vendor/web-vitals.LICENSE
	@rm -rf site/lab/npm/node_modules

clean: ## remove the environment and all that was made; asks nothing
	rm -rf $(VENV) var dist .mypy_cache .pytest_cache .ruff_cache

.env:
	@cp .env.example .env
	@echo "Wrote .env from .env.example: DEBUG is on, for this machine only."

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: requirements.txt | $(VENV)/.python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements.txt requirements-dev.txt | $(VENV)/.python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@ $(VENV)/.run

$(VENV)/.celery: pyproject.toml | $(VENV)/.python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "celery[redis]>=5.5,<6"
	@touch $@

$(VENV)/.bench: bench/requirements.txt | $(VENV)/.dev
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r bench/requirements.txt
	@touch $@
