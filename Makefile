# Two commands: `make demo` shows what neuropil does, `make test` checks that it does it. Both set themselves up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOWEST := .venv-lowest
QUICK := imports face packaging words docs mutants cli cli_refusals runs correlate rules tap propose association settling unit_assignment lif \
  checkpoint spiking_refusals

.PHONY: demo quick test lint types tests kernels gpu processes package docs notebooks lowest mutants clean help

help:
	@echo "make demo     set up, then compare every learner with its baselines on real digits (offline, minutes)"
	@echo "make quick    set up, then the tests of laws, imports, refusals and pages (a minute)"
	@echo "make test     set up, then lint, check types and run the tests (minutes)"
	@echo "make kernels  the kernels of GPUs without a GPU: run in Triton's interpreter, and compiled for two cards"
	@echo "make gpu      where there is a GPU: check and time everything on it, into gpu.json (minutes)"
	@echo "make processes  networks that several processes share: what they learn, and what happens if one is killed"
	@echo "make package  build the archives that are published, check them, install one and use it"
	@echo "make docs     execute the notebooks and build the site, strictly, into site/ (minutes)"
	@echo "make notebooks  only the notebooks, with their outputs, into build/notebooks/"
	@echo "make lowest   the quick tests with the lowest versions that pyproject.toml declares"
	@echo "make mutants  plant every fault of tests/mutants.toml and see the tests catch it (an hour)"
	@echo "make clean    remove the virtual environment and what the demo wrote"

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
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal --durations=5 -m "not kernels and not processes"

kernels: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m kernels tests/test_gpu.py tests/test_rule_kernels.py

gpu: $(READY)
	$(BIN)/python tests/gpu.py --out gpu.json

processes: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m processes tests/test_distributed.py tests/test_launched.py tests/test_workers.py

package: $(VENV)/.package
	$(BIN)/python tests/distribution.py

$(VENV)/.package: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt build twine
	@touch $@

docs: notebooks
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/python tests/site.py
	@echo "open site/index.html"

notebooks: $(VENV)/.docs
	OMP_NUM_THREADS=1 $(BIN)/python docs/theme/notebooks.py

$(VENV)/.docs: $(READY) mkdocs.yml
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs,loops]"
	@touch $@

quick: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not data" $(QUICK:%=tests/test_%.py)

# torch is large and has one tested version: it is taken from the first environment, everything else is installed anew.
lowest: $(LOWEST)/.ready
	OMP_NUM_THREADS=1 PYTHONPATH=$(CURDIR)/src $(LOWEST)/bin/python -m pytest -n 2 -m "not data" $(QUICK:%=tests/test_%.py)

$(LOWEST)/.ready: $(READY) constraints-lowest.txt
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check -r constraints-lowest.txt
	$(BIN)/python -c 'import torch; print(torch.__path__[0].removesuffix("/torch"))' \
	  > "$$($(LOWEST)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torch_from.pth"
	@touch $@

mutants: $(READY)
	$(BIN)/python tests/mutants.py

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "neuropil needs Python 3.11 or newer; name one: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	@touch $@

clean:
	rm -rf $(VENV) $(LOWEST) demo site build/notebooks
