# Every target sets up what it needs: a fresh clone needs nothing but Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-all check docs format clean

$(STAMP): pyproject.toml constraints.txt
	@echo "installing into $(VENV): about 2.5 GB, a minute or two"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(STAMP)           ## train a small model, optimize it, verify it
	$(BIN)/autosparse demo --output-dir autosparse-demo

check: $(STAMP)          ## format, lint, types, architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check              ## the gate: everything that must hold before a change lands
	$(BIN)/pytest -n 2 --dist loadfile -m 'not slow and not browser'

test-all: check          ## the gate and the slower suites
	$(BIN)/pytest

docs: $(STAMP)           ## the site, from the pages and from the code
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/python docs/write_reference.py
	$(BIN)/mkdocs build --strict

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache autosparse-demo
