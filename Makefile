# make run    the spooler, from this tree
# make test   every check; make lint, make pytest PYTEST_ARGS="-k abort": some of them
# make interop  the tests against Debian's Postfix and smtp-sink (on Debian, as root)
# make image  build the image and run it; make unit: the systemd unit in a systemd of its own (both on Debian, as root)
# make lock   write the lock files anew (UPGRADE=1: with the newest versions)
# make clean  remove what the others made

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/ready
DEBIAN := build/debian.tar

MAKEFLAGS += --no-print-directory
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: run test lint pytest pytest-newest interop image unit lock clean
.DELETE_ON_ERROR:

run: $(READY)
	@tools/run_dev.sh

# The two runs of pytest share the machine; each one's output comes in one piece.
test: lint
	@$(MAKE) -j2 --output-sync=target pytest pytest-newest

lint: $(READY)
	@echo "== ruff" && $(BIN)/ruff check --quiet --output-format concise && $(BIN)/ruff format --check --quiet
	@echo "== mypy" && $(BIN)/mypy
	@echo "== import-linter" && $(BIN)/lint-imports --no-logo --no-cache

pytest: $(READY)
	@echo "== pytest, $$($(BIN)/python -V)" && $(BIN)/python -m pytest -q $(PYTEST_ARGS)

# The same tests once more, if the machine has a CPython newer than the venv's.
pytest-newest: $(READY)
	@python=$$(tools/newest_python.sh $(BIN)/python); if [ -n "$$python" ]; \
	then $(MAKE) pytest PYTHON=$$python VENV=.venv-newest READY=.venv-newest/$${python##*/}; \
	else echo "== pytest: no CPython newer than the venv's on this machine"; fi

$(READY): requirements-dev.lock pyproject.toml
	@echo "== $(VENV): $$($(PYTHON) -V), what requirements-dev.lock names, and spoold itself from this tree"
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("spoold needs Python 3.11 or newer: make PYTHON=...")'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/pip install -qq --require-hashes -r requirements-dev.lock
	@$(BIN)/pip install -qq --no-deps --no-build-isolation -e .
	@touch $@

image unit: $(READY) $(DEBIAN)
	@echo "== $@" && tools/$@.sh $(DEBIAN)

$(DEBIAN): tools/debian_root.sh
	@echo "== $@: a small Debian to build the image on, and to boot" && tools/debian_root.sh $@

interop: $(READY)
	@tools/interop.sh -q

COMPILE = $(VENV)-lock/bin/uv pip compile --quiet $(if $(UPGRADE),--upgrade) --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

lock:
	@$(PYTHON) -m venv $(VENV)-lock && $(VENV)-lock/bin/pip install -qq uv
	@$(COMPILE) pyproject.toml --extra dev -o requirements-dev.lock
	@$(COMPILE) pyproject.toml -c requirements-dev.lock -o requirements.lock
	@echo hatchling | $(COMPILE) - -c requirements-dev.lock -o requirements-build.lock
	@grep -c == requirements*.lock

clean:
	rm -rf $(VENV) $(VENV)-newest $(VENV)-lock build dist var .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -path ./.git -prune -o -name __pycache__ -type d -exec rm -rf {} +
