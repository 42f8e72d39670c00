# `make simulate` and `make test` are all a newcomer needs; `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Two tests a core: many wait for sockets and clocks. More than four beside each other gain little, and each holds
# two gigabytes. They share the cores; threads of torch on top would only wait for each other.
WORKERS := $(shell $(PYTHON) -c 'import os; print(min(4, 2 * len(os.sched_getaffinity(0))))')
# Ledgers and logs are synchronised at every step, and tests write thousands: in memory, where it has room.
SPACE := $(shell $(PYTHON) -c 'import os; s = os.statvfs("/dev/shm"); \
	print("" if s.f_flag & os.ST_NOEXEC or s.f_bavail * s.f_frsize < 4 << 30 else "TMPDIR=/dev/shm")' 2>/dev/null)
TESTS := $(SPACE) OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(WORKERS) --dist worksteal

# Containers often ask Python to keep no byte code. Tests start hundreds of processes that import torch, and each
# would compile all of it again: half of the time of `make test`.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help simulate compiled test test-all bench lint types check venv clean

help: ## show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

# uv, where it is there (`pip install uv`), unpacks gigabytes in a quarter of pip's time; pip where it cannot.
EXTRAS := .[dev,ckks,dicom,export,heic,hf,page,plots,ray]
UV := $(shell command -v uv)
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check
INSTALL := $(if $(UV),$(UV) pip install --quiet --no-cache --python $(BIN)/python,$(PIP))

# The one rule that builds the environment (5.8 GB with CUDA): anew when pyproject or constraints change. Not
# compiled ahead, which takes half a minute of a core: little of it is ever imported.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..." >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) -c constraints.txt -e '$(EXTRAS)' $(if $(UV),|| $(PIP) -c constraints.txt -e '$(EXTRAS)')
	@touch $(STAMP)

venv: $(STAMP) ## make .venv with the tested versions

simulate: $(STAMP) ## five institutions tune a prompt together under epsilon = 8
	$(BIN)/fedapt-secure simulate --dp-epsilon 8

compiled: $(STAMP) ## the byte code of all that tests import, so that not each of their processes makes it
	@$(BIN)/python -m pytest --collect-only -q > /dev/null

test: $(STAMP) ## the tests
	$(TESTS) -m "not slow and not chaos"

test-all: $(STAMP) ## the tests and the long ones: whole simulations, chaos
	$(TESTS)

bench: $(STAMP) ## the benchmarks (25 min, a quiet machine); renews docs/benchmarks.md
	$(BIN)/python -m benchmarks.suite

lint: $(STAMP) ## ruff: style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## mypy --strict
	$(BIN)/mypy

check: lint types test ## everything that has to be green

clean: ## remove caches and the environment, not your runs
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
