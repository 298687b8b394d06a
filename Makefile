# make demo: set up, train, sample and score on the embedded default.    make test: set up, run every test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The tensors of the demo are small: threads that wait busily for each other cost more than they bring on a shared machine.
export OMP_WAIT_POLICY ?= PASSIVE
export HF_HUB_OFFLINE ?= 1

APT := DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=1 -o Acquire::http::Timeout=20

.DEFAULT_GOAL := help
.PHONY: help setup demo browser test bench docs docs-serve lint format wheel clean

help: ## Show this list.
	@grep -E '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.installed ## Make .venv and install the project with the test extras.

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; use make PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

demo: setup ## Train, sample and score on the embedded default; results in runs/demo.
	$(BIN)/superlora-diff train --config demo
	test -f runs/demo/samples/before/samples.json || $(BIN)/superlora-diff sample synthdigits-16 --guidance-scale 3 --out runs/demo/samples/before
	test -f runs/demo/samples/after/samples.json || $(BIN)/superlora-diff sample runs/demo --out runs/demo/samples/after
	$(BIN)/superlora-diff eval-is runs/demo
	@echo
	@echo "Pictures before: runs/demo/samples/before/grid.png"
	@echo "Pictures after:  runs/demo/samples/after/grid.png"
	@echo "Scores:          runs/demo/scores.json (plot: runs/demo/is-distance.png)"
	@echo "Adapter:         runs/demo/adapter"

browser: ## Install Debian's chromium for the tests of the pages, where this user can.
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing chromium for the tests of the pages ..."; \
		{ $(APT) update -qq && $(APT) install -y -qq --no-install-recommends chromium >/dev/null; } \
		|| echo "chromium could not be installed: the tests of the pages will say that they are skipped."; \
	else echo "No chromium, and no right to install it: the tests of the pages will say that they are skipped."; fi

# worksteal: neighbours share their fixtures, and no process idles at the end.
test: setup browser ## Run every test.
	$(BIN)/python -m pytest -n 2 --dist worksteal

bench: setup ## Run every bench (half an hour) and write docs/benchmarks.md.
	$(BIN)/python scripts/bench/all.py

docs: setup ## Build the documents as a site into site/, the command-line reference first.
	$(BIN)/python scripts/make_cli_reference.py
	$(BIN)/mkdocs build --strict

docs-serve: setup ## Show the documents at http://127.0.0.1:8000 while they are written.
	$(BIN)/mkdocs serve

lint: setup ## Check style.
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: setup ## Put style right.
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

wheel: setup ## Build the wheel into dist/.
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean: ## Remove the environment and build products; runs/ stays.
	rm -rf $(VENV) dist build site
