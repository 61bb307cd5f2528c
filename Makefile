# Two commands matter: `make run` and `make test`. Both set up what they need.
PYTHON ?= python3
VENV   ?= .venv
PY      = $(VENV)/bin/python
PORT   ?= 8501
ADDRESS ?= localhost
TEST_PROCESSES ?= 2

.PHONY: run test test-fast check audit soak rehearse bench bench-gpu accuracy clean browser
.DEFAULT_GOAL := help

help:
	@echo "make run       set up and open the app on http://localhost:$(PORT)"
	@echo "make test      set up and run every check and test, the browser included"
	@echo "make test-fast the tests without a browser"
	@echo "make check     format, lint, types, imports, known vulnerabilities"
	@echo "make soak      the long forms: an hour of walks, thousands of hostile addresses, fifty visitors, 10,000 reruns"
	@echo "make rehearse  the Dockerfile's steps in a clean folder, without a container engine"
	@echo "make bench     measure decode and prefill on this machine; writes bench/results"
	@echo "make bench-gpu everything timed on a GPU, in six minutes, with the machine's own python3 and torch"
	@echo "make accuracy  recompute the accuracy page's results"
	@echo "make clean     remove the virtual environment and caches"

$(VENV)/run.stamp: requirements.txt
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -qq --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements-dev.txt
	$(PY) -m pip install -qq --disable-pip-version-check -r requirements-dev.txt
	touch $@

run: $(VENV)/run.stamp
	$(PY) -m streamlit run serve.py --server.port $(PORT) --server.address $(ADDRESS)

# System packages the tests drive: Chromium and PostgreSQL, from Debian where apt-get and root are at hand.
browser:
	@sh tests/system_packages.sh

check: $(VENV)/dev.stamp
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache
	$(PY) deploy/audit.py

audit: $(VENV)/dev.stamp
	$(PY) deploy/audit.py --timeout 120

# a file's tests stay in one process
test: $(VENV)/dev.stamp browser check
	$(PY) -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

test-fast: $(VENV)/dev.stamp
	$(PY) -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder -m "not browser"

soak: $(VENV)/dev.stamp browser
	HEADSHARE_SOAK=1 $(PY) -m pytest tests/faults tests/worker/test_worker.py tests/kept/test_store.py tests/configs/test_readings.py tests/uptrain tests/browser/test_layout.py tests/walks
	$(PY) -m bench.load

rehearse:
	$(PYTHON) deploy/rehearse.py

bench: $(VENV)/dev.stamp
	$(PY) -m bench

# no virtual environment: a machine with a GPU and no network has its own torch
bench-gpu:
	$(PYTHON) -m bench.gpu

accuracy: $(VENV)/dev.stamp
	$(PY) -m attention accuracy --write

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
