# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test test-slow check bench docs

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/atrous demo

test: install
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile --ignore tests/house  # which `make check` runs

bench: install
	$(BIN)/python benchmarks/run.py $(if $(ONLY),--only $(ONLY)) $(if $(IMAGES),--images $(IMAGES))

test-slow: install
	$(BIN)/pytest -m slow --timeout 3600

docs: .venv/docs-installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

.venv/docs-installed: pyproject.toml constraints.txt
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest tests/house
