# Every target does the set-up it needs, in .venv. `make` alone lists the targets.
#
#   make run     the whole notebook series, executed, as web pages under results/
#   make test    style, unit tests, every notebook under nbval

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
CORES := $(shell nproc 2>/dev/null || echo 2)
# The virtual environment of `make test-lowest`, and the torch in it (its floor brings gigabytes of CUDA on Linux).
LOWEST := .venv-lowest
TORCH ?= $(shell sed -n 's/^torch==//p' constraints.txt)
# Processes for the unit tests. Each holds a torch and a numba: more than eight only costs memory.
WORKERS ?= $(shell n=$(CORES); [ $$n -gt 8 ] && n=8; echo $$n)
# Notebooks at a time, in `make run` and in `make test`.
JOBS ?= 1
# Which notebooks (`make run NN="01 03"`); none means all.
NN ?=

# torch and numba fight over OpenMP unless told not to, before either is loaded (see shapelab/__init__.py).
export GOMP_SPINCOUNT := 0
export OMP_WAIT_POLICY := passive
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1
export JUPYTER_PLATFORM_DIRS := 1
# A plotly figure as its own JSON, without 4 MB of script in every notebook; JupyterLab draws it.
export PLOTLY_RENDERER ?= plotly_mimetype

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTEST := $(PY) -m pytest
NBVAL := $(PYTEST) --nbval-lax --nbval-current-env --nbval-sanitize-with notebooks/sanitize.cfg \
	--nbval-cell-timeout 600 -q
NOTEBOOKS := $(sort $(wildcard notebooks/[0-9][0-9]_*.ipynb))
TEXTS := $(sort $(wildcard $(if $(NN),$(NN:%=notebooks/src/%_*.py),notebooks/src/[0-9][0-9]_*.py)))

.PHONY: help setup run lab test test-fast test-lowest unit notebooks-test lint format browser bench notebooks-sync execute \
	doctor clean distclean

help:
	@echo "make run             execute the notebooks (NN=\"01 03\": only these), write results/index.html, results/seconds.csv"
	@echo "make test            style, unit tests, every notebook under nbval"
	@echo "make lab             open JupyterLab on the first notebook, copies of all in work/"
	@echo "make setup           only build .venv"
	@echo "make test-fast       style and the unit tests that take under 5 s each"
	@echo "make test-lowest     the same tests with the lowest versions that pyproject.toml names (TORCH=$(TORCH)), in $(LOWEST)"
	@echo "make browser         JupyterLab in a headless Chromium"
	@echo "make bench           the benchmarks"
	@echo "make notebooks-sync  write notebooks/NN_name.ipynb from notebooks/src/NN_name.py"
	@echo "make execute         execute notebooks in place, to commit them (NN=\"01 03\": only these)"
	@echo "make doctor | lint | format | clean | distclean"

# ---------------------------------------------------------------------------------------------- set-up

setup: $(STAMP)

# Made anew only when pyproject.toml or constraints.txt changed. pip leaves alone what already satisfies the pins, so
# with everything in place this needs no network either; setuptools goes in first, and the project is then built with
# it and not in an isolated environment, which would fetch one.
$(STAMP): pyproject.toml constraints.txt
	@if ! command -v $(PYTHON) >/dev/null; then \
	  echo "make: there is no '$(PYTHON)' here; install Python 3.11 or newer, or name yours: make PYTHON=/path/to/python" >&2; \
	  exit 1; fi
	@if ! [ -x $(PY) ] || ! $(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	  $(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and \
	    f"make: shapelab needs Python 3.11 or newer, $(PYTHON) is {v[0]}.{v[1]}; name a newer one: make PYTHON=/path/to/python3.11")'; \
	  $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "make: $(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }; \
	  $(PYTHON) -m venv --clear $(VENV); fi
	@echo "make: installing into $(VENV) (two minutes the first time)"
	@$(PY) -m pip install --quiet --constraint constraints.txt "setuptools>=77"
	@$(PY) -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable ".[test]"
	@touch $@

# ---------------------------------------------------------------------------------------------- use

run: $(STAMP)
	@$(PY) -m shapelab notebooks --jobs $(JOBS) $(NN)

# Students work on copies: what they changed in work/ stays, the rest is brought up to date.
# The kernel of .venv first, also where JUPYTER_PATH names another Python's.
lab: export JUPYTER_PATH := $(abspath $(VENV))/share/jupyter$(if $(JUPYTER_PATH),:$(JUPYTER_PATH))
lab: $(STAMP)
	@$(PY) -m shapelab course --copy work
	@$(PY) -m jupyterlab $(if $(filter 0,$(shell id -u)),--allow-root) work/00_start_here.ipynb

doctor: $(STAMP)
	@$(PY) -m shapelab doctor

# ---------------------------------------------------------------------------------------------- tests

test: lint unit notebooks-test

lint: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: $(STAMP)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

# One thread a process: the processes are as many as the cores.
unit: $(STAMP)
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(PYTEST) -q -n $(WORKERS) --dist loadfile -m "not browser" tests

test-fast: $(STAMP) lint
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(PYTEST) -q -n $(WORKERS) --dist loadfile -m "not browser and not slow" tests

# Every package that pyproject.toml names at its floor, with today's newest of what those need, from wheels alone. Not so
# torch, see TORCH; and no MONAI, whose floor allows no newer torch: the tests that hold us against it are skipped.
$(LOWEST)/.installed-$(TORCH): pyproject.toml constraints.txt
	@echo "make: installing into $(LOWEST) (two minutes)"
	@$(PYTHON) -m venv --clear $(LOWEST)
	@$(LOWEST)/bin/python -m pip install --quiet --constraint constraints.txt uv
	@printf 'torch\nmonai\n' > $(LOWEST)/excluded.txt
	@$(LOWEST)/bin/uv pip compile --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --no-build --no-header \
	  --extra test --excludes $(LOWEST)/excluded.txt --output-file $(LOWEST)/lowest.txt pyproject.toml
	@$(LOWEST)/bin/python -m pip install --quiet --requirement $(LOWEST)/lowest.txt "torch==$(TORCH)" "setuptools>=77"
	@$(LOWEST)/bin/python -m pip install --quiet --no-build-isolation --no-deps --editable .
	@touch $@

test-lowest: $(LOWEST)/.installed-$(TORCH)
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -q -n $(WORKERS) --dist loadfile \
	  -m "not browser and not slow" tests

# The outputs that nbval compares are those of the quick profile, whatever the machine has.
notebooks-test: export SHAPELAB_PROFILE = quick
notebooks-test: $(STAMP)
ifeq ($(NOTEBOOKS),)
	@echo "make: there are no notebooks yet"
else
	$(NBVAL) $(if $(filter 1,$(JOBS)),,-n $(JOBS) --dist loadfile) notebooks
endif

browser: $(STAMP)
	$(PYTEST) -m browser tests || { code=$$?; [ $$code -eq 5 ] && echo "make: there are no browser tests yet" || exit $$code; }

bench: $(STAMP)
	@for script in $(sort $(wildcard benchmarks/bench_*.py)); do echo "== $$script"; $(PY) $$script; done

# ---------------------------------------------------------------------------------------------- writing notebooks

# Outputs stay with the cells whose source did not change.
notebooks-sync: $(STAMP)
	@$(if $(TEXTS),,echo "make: no text under notebooks/src is numbered $(NN)" >&2; exit 1)
	@for text in $(TEXTS); do $(PY) -m jupytext --quiet --update --set-kernel python3 --to ipynb \
	  --output notebooks/$$(basename $$text .py).ipynb $$text; done
	@$(PY) -m shapelab.course.notebooks $(TEXTS:notebooks/src/%.py=notebooks/%.ipynb)

execute: export SHAPELAB_PROFILE = quick
execute: $(STAMP)
	@$(PY) -m shapelab notebooks --in-place $(NN)

# ---------------------------------------------------------------------------------------------- cleaning

clean:
	rm -rf results .pytest_cache .ruff_cache .hypothesis build
	find . -name __pycache__ -not -path './.venv*/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) $(LOWEST) shapelab.egg-info
