# Everything that the project does from a bare machine (Python 3.11, git, make); see README.md.
PYTHON ?= python3.11
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH := $(shell grep '^torch==' requirements.txt)
TORCHVISION := $(shell sed -n 's/^\(torchvision==[0-9.]*\).*/\1/p' scripts/nnunet/requirements.txt)
BIN := .venv/bin

.PHONY: install deploy nnunet quickstart test torture lint benchmark

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

# nnU-Net, a baseline, has an environment of its own, too: half a gigabyte that the bundles do not need.
nnunet: .venv-nnunet/installed

.venv-nnunet/installed: requirements.txt scripts/nnunet/requirements.txt
	$(PYTHON) -m venv .venv-nnunet
	.venv-nnunet/bin/pip install --quiet --retries 1 --timeout 60 --extra-index-url $(TORCH_INDEX) $(TORCH) $(TORCHVISION)
	.venv-nnunet/bin/pip install --quiet --requirement requirements.txt --requirement scripts/nnunet/requirements.txt
	touch $@

quickstart: .venv/installed
	$(BIN)/python -m scripts.quickstart

test: .venv/installed .venv-deploy/installed .venv-nnunet/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto --ignore=tests/deploy --ignore=tests/nnunet
	OMP_NUM_THREADS=1 .venv-deploy/bin/python -m pytest --numprocesses=auto tests/deploy
	OMP_NUM_THREADS=1 .venv-nnunet/bin/python -m pytest --numprocesses=auto --dist=loadfile tests/nnunet

# Nightly: 50 kills at random moments (another TORTURE_SEED, other moments), and 1,000 steps with flat memory.
torture: .venv/installed
	TORTURE_KILLS=50 TORTURE_STEPS=1000 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto -rP tests/torture

lint: .venv/installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	$(BIN)/codespell
	$(BIN)/check-jsonschema --schemafile scripts/package/meta_schema_20240725.json bundles/*/configs/metadata.json

benchmark: .venv/installed
	$(BIN)/python -m scripts.benchmark all
