# make demo: the main job in a minute. make test: the fast suite. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export UV_NO_PROGRESS := 1
export MPLCONFIGDIR := $(CURDIR)/$(VENV)/matplotlib
# Where a shell forbids bytecode, each process that a test starts compiles torch and the others anew: 30 s of CPU.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo demo-integrity docs test test-slow test-data lint setup lock clean

demo: $(VENV)/installed
	$(BIN)/robustml train -m experiment=digits_standard,digits_pgd trainer.enable_progress_bar=false

demo-integrity: $(VENV)/installed
	$(BIN)/python scripts/demo_integrity.py

# One thread a test: on networks this small, two threads wait for each other more than they work. Two processes do not;
# loadfile keeps the tests of a file, and the run that they share, in one of them; the order is that of tests/conftest.py,
# which begins with what takes longest.
test test-slow test-data: export OMP_NUM_THREADS := 1

test: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/installed
	$(BIN)/python -m pytest -m slow

# With ROBUSTML_DATA set, a test that finds no data fails.
test-data: $(VENV)/installed
	$(BIN)/python -m pytest -m "data and not slow"

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: export NO_MKDOCS_2_WARNING := 1
docs: export OMP_NUM_THREADS := 1
docs: $(VENV)/installed
	$(BIN)/mkdocs build    # not --quiet: warnings that are not printed do not count as strict

setup: $(VENV)/installed

# Installs exactly what requirements.lock names, hashes checked. uv takes under a minute; where it cannot be had, or cannot
# reach the index (behind a proxy with certificates of its own, say), pip does the same. --no-deps, because the lock is
# complete and torchattacks pins a requests of 2021 that it overrides.
UV := PATH="$$PATH:$(CURDIR)/$(BIN)" uv pip
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check
$(VENV)/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "robustml needs Python 3.11 or newer; make PYTHON=... chooses one")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	command -v uv >/dev/null || test -x $(BIN)/uv || $(PIP) uv || true
	$(UV) sync --compile-bytecode --require-hashes -q requirements.lock || $(PIP) --no-deps --require-hashes -r requirements.lock
	$(UV) install -q --no-deps --no-build-isolation -e . || $(PIP) --no-deps --no-build-isolation -e .
	touch $@

lock:
	uv pip compile pyproject.toml --extra dev --universal --generate-hashes --no-header -q -o requirements.lock

clean:
	rm -rf $(VENV) dist build site .pytest_cache .mypy_cache .ruff_cache .hypothesis
