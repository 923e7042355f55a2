# Two commands: `make demo` shows what neuropil does, `make test` checks that it does it. Both set themselves up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint types tests mutants clean help

help:
	@echo "make demo   set up, then compare every learner with its baselines on real digits (offline, minutes)"
	@echo "make test   set up, then lint, check types and run the tests"
	@echo "make mutants   plant every fault of tests/mutants.py and see the tests catch it (slow)"
	@echo "make clean  remove the virtual environment and what the demo wrote"

demo: $(READY)
	@rm -rf demo
	$(BIN)/neuropil compare --data digits --seeds 5 --out demo

test: lint types tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

tests: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --durations=5

mutants: $(READY)
	$(BIN)/python tests/mutants.py

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "neuropil needs Python 3.11 or newer; name one: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	@touch $@

clean:
	rm -rf $(VENV) demo
