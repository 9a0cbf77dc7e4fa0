# `make demo`, `make test` and `make docs` do all the set-up themselves, into .venv.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --constraint constraints.txt --editable

.PHONY: demo test lint tables docs clean

demo: .venv/.installed
	$(BIN)/cnn-compare compare --config configs/comparisons/quickstart.yaml

test: lint
	$(BIN)/pytest

lint: .venv/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The pages run their commands while they are built, anew each time, so that no output on them is stale.
docs: .venv/.installed-dev
	$(BIN)/sphinx-build --fail-on-warning --keep-going --fresh-env --jobs 2 docs docs/_build/html
	@echo "open docs/_build/html/index.html"

tables: .venv/.installed-dev
	$(BIN)/python tools/reference.py tables

# What running needs; tests add the rest. uv installs torch's five gigabytes several times as fast as pip. Bytecode is
# written here, because containers often forbid it later (PYTHONDONTWRITEBYTECODE): each start would compile everything.
.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv --constraint constraints.txt
	$(INSTALL) .
	$(BIN)/python -m compileall -q cnn_compare
	touch $@

.venv/.installed-dev: .venv/.installed
	$(INSTALL) '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist docs/_build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
