# `make help` lists what there is. Everything runs in .venv, installed from requirements.lock.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: help run test check check-format check-lint check-types check-macos check-imports ui lock format clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(INSTALLED) ## Train model2 and track it: python -m svhn_sweep model=model2
	$(BIN)/python -m svhn_sweep model=model2

test: $(INSTALLED) ## Run the tests; SVHN_H5=FILE adds those on real digits
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

check: check-format check-lint check-types check-macos check-imports ## Formatting, lint, types (the package also for macOS) and the directions of imports

check-format: $(INSTALLED)
	$(BIN)/ruff format --check .

check-lint: $(INSTALLED)
	$(BIN)/ruff check .

check-types: $(INSTALLED)
	$(BIN)/mypy

check-macos: $(INSTALLED)
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin svhn_sweep hydra_plugins/svhn_sweep_optuna.py

check-imports: $(INSTALLED)
	$(BIN)/lint-imports

ui: $(INSTALLED) ## Open the MLflow UI on the runs of this folder
	$(BIN)/python -m svhn_sweep ui

format: $(INSTALLED) ## Format the code and apply safe lint fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

COMPILE := $(BIN)/uv pip compile pyproject.toml --generate-hashes --no-emit-index-url --no-header --quiet
IMAGES := --constraint requirements.lock --no-annotate --python-version 3.11 --python-platform x86_64-manylinux_2_28 --extra server --extra ray

lock: $(INSTALLED) ## Resolve pyproject.toml anew into requirements.lock, and for the images
	$(COMPILE) --extra dev --extra postgres --extra ray --universal --python-version 3.11 --upgrade --output-file requirements.lock
	$(COMPILE) $(IMAGES) --output-file docker/cpu.lock
	$(COMPILE) $(IMAGES) --extra gpu --output-file docker/gpu.lock

clean: ## Remove the environment and caches; runs and data stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build dist

# pip takes uv from the lock, with its hashes; uv installs the rest five times as fast as pip would.
$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	awk '/^uv==/ { found = 1 } found { print } found && !/\\$$/ { exit }' requirements.lock \
		| $(BIN)/pip install --quiet --require-hashes -r /dev/stdin
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $(INSTALLED)
