# Everything that the project does from a bare machine (Python 3.11, git, make); see README.md.
PYTHON ?= python3.11
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH := $(shell grep '^torch==' requirements.txt)
BIN := .venv/bin

.PHONY: install deploy quickstart test lint

install: .venv/installed

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --retries 1 --timeout 60 --extra-index-url $(TORCH_INDEX) $(TORCH)
	$(BIN)/pip install --quiet --requirement requirements.txt
	touch $@

# MONAI Deploy's environment is its own, as `import monai` would load Holoscan in every process of the bundles.
deploy: .venv-deploy/installed

.venv-deploy/installed: requirements.txt deploy/requirements.txt
	$(PYTHON) -m venv .venv-deploy
	.venv-deploy/bin/pip install --quiet --retries 1 --timeout 60 --extra-index-url $(TORCH_INDEX) $(TORCH)
	.venv-deploy/bin/pip install --quiet --requirement requirements.txt --requirement deploy/requirements.txt
	touch $@

quickstart: .venv/installed
	$(BIN)/python -m scripts.quickstart

test: .venv/installed .venv-deploy/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto --ignore=tests/deploy
	OMP_NUM_THREADS=1 .venv-deploy/bin/python -m pytest --numprocesses=auto tests/deploy

lint: .venv/installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	$(BIN)/codespell
	$(BIN)/check-jsonschema --schemafile scripts/package/meta_schema_20240725.json bundles/*/configs/metadata.json
