# Everything that the project does from a bare machine (Python 3.11, git, make); see README.md.
PYTHON ?= python3.11
CPU_INDEX := https://download.pytorch.org/whl/cpu
TORCH_INDEX ?= $(CPU_INDEX)
TORCH := $(shell grep '^torch==' common/requirements.txt)
UV_TORCH ?= --torch-backend=cpu
BIN := .venv/bin
# Exactly the files whose SHA-256 a lock lists. A package without a wheel is built by the lock's setuptools, installed before.
LOCKED := --require-hashes --no-deps --only-binary=:all: --no-binary=connection-pool --no-build-isolation
# $(call only,PACKAGE,LOCK): a package's lines of a lock
only = sed -n '/^$1==/,/[^\\]$$/p' $2

.DELETE_ON_ERROR:
.PHONY: help install deploy studies tracking lock locked quickstart test test-rest test-all lint test-slow test-deploy test-tracking
PYTEST = -m pytest --numprocesses=auto --dist=worksteal

install: .venv/installed ## .venv: what the bundles and the commands need

# Another TORCH_INDEX has other files of PyTorch, which pip then takes with what they need, unchecked; all the others are
# still those of the lock. Compiling on all cores is faster than pip's and uv's own, and only saves time: it may fail.
.venv/installed: requirements.lock
	@echo ".venv: 2 to 3 GB to download and install"
	$(PYTHON) -m venv .venv
	$(call only,uv,$<) > .venv/uv.lock
	$(call only,torch,$<) > .venv/torch.lock
	sed '/^torch==/,/[^\\]$$/d' $< > .venv/others.lock
	$(BIN)/pip install $(LOCKED) --requirement .venv/uv.lock
	$(BIN)/pip install --retries 1 --timeout 60 --no-compile --extra-index-url $(TORCH_INDEX) \
	  $(if $(filter $(CPU_INDEX),$(TORCH_INDEX)),$(LOCKED) --requirement .venv/torch.lock,$(TORCH))
	$(BIN)/uv pip install --python .venv $(LOCKED) --requirement .venv/others.lock
	-$(BIN)/python -m compileall -q -j 0 -x '/(tests|testing)/' .venv/lib
	touch $@

# $(call beside,ENVIRONMENT,LOCK): an environment with only what .venv lacks, beside .venv's packages. .venv itself stays
# as its lock says. MONAI is installed again, as MONAI Deploy lies in its folder; Python reads 00-venv.pth first.
define beside
	$(PYTHON) -m venv --clear --without-pip $1
	awk 'NR == FNR { if (/==/ && !/^monai==/) known[$$1]; next } /==/ { skip = $$1 in known } !skip' \
	  requirements.lock $2 > $1/others.lock
	$(BIN)/uv pip install --python $1 $(LOCKED) --requirement $1/others.lock
	echo "$(CURDIR)/.venv/lib/python3.11/site-packages" > $1/lib/python3.11/site-packages/00-venv.pth
	touch $1/installed
endef

# MONAI Deploy's environment is its own, as `import monai` would load Holoscan in every process of the bundles.
deploy: .venv-deploy/installed ## .venv-deploy: .venv and MONAI Deploy, for deploy/ and its tests

.venv-deploy/installed: deploy/requirements.lock .venv/installed
	$(call beside,.venv-deploy,$<)

# Snakemake; the commands of its rules run in .venv
studies: .venv-studies/installed ## .venv-studies: with Snakemake and its SLURM executor, for studies/

.venv-studies/installed: studies/requirements.lock .venv/installed
	$(PYTHON) -m venv --clear --without-pip .venv-studies
	$(call only,setuptools,$<) > .venv-studies/setuptools.lock
	$(BIN)/uv pip install --python .venv-studies $(LOCKED) --requirement .venv-studies/setuptools.lock
	$(BIN)/uv pip install --python .venv-studies $(LOCKED) --requirement $<
	touch $@

tracking: .venv-tracking/installed ## .venv-tracking: .venv, MLflow and W&B, for docs/how-to/track.md and its tests

.venv-tracking/installed: tests/tracking/requirements.lock .venv/installed
	$(call beside,.venv-tracking,$<)

# Locks: all packages that the requirements need, with the SHA-256 of their files. What a lock names already stays as it is.
define compile
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --generate-hashes --python-version 3.11 \
	  --python-platform x86_64-manylinux_2_35 $(UV_TORCH) --output-file $2 $1
endef

lock: .venv/installed ## the locks anew, after a change of a requirements.txt; keeps what is pinned already
	$(call compile,.ci/requirements.txt,.ci/requirements.lock)
	$(call compile,requirements.txt,requirements.lock)
	$(call compile,requirements.txt deploy/requirements.txt,deploy/requirements.lock)
	$(call compile,studies/requirements.txt,studies/requirements.lock)
	$(call compile,--constraint requirements.lock tests/tracking/requirements.txt,tests/tracking/requirements.lock)

# $(call agree,REQUIREMENTS,LOCK): each version that the requirements pin is the lock's
define agree
	@sed -n '/==/{s/ *#.*//;s/_/-/g;p}' $1 | tr A-Z a-z | while read pin; do \
	  grep -qE "^$$pin(\+cpu)? " $2 || { echo "$2: lacks $$pin of $1; expected what make lock writes"; exit 2; }; done
endef

locked: ## check that the locks agree with the requirements
	$(call agree,common/requirements.txt requirements.txt,requirements.lock)
	$(call agree,common/requirements.txt requirements.txt deploy/requirements.txt,deploy/requirements.lock)
	$(call agree,studies/requirements.txt,studies/requirements.lock)
	$(call agree,tests/tracking/requirements.txt,tests/tracking/requirements.lock)
	$(call agree,.ci/requirements.txt,.ci/requirements.lock)

quickstart: .venv/installed ## all five stages with small networks, on the embedded cohort
	$(BIN)/python -m scripts.quickstart

EXAMPLES := common scripts
ELSEWHERE := $(addprefix --ignore=tests/,deploy tracking)

test: .venv/installed ## the main test suite, and the examples in docstrings
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST) --doctest-modules -m "not slow" $(ELSEWHERE) tests $(EXAMPLES)

# They mostly wait for processes; --jobs=3 runs them side by side.
test-rest: test-slow test-deploy test-tracking ## the tests that make test leaves out

test-slow: .venv/installed .venv-studies/installed ## the slow tests: studies, and the commands in README and docs
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST) -m slow $(ELSEWHERE)

test-deploy: .venv-deploy/installed ## MONAI Deploy and DICOM
	OMP_NUM_THREADS=1 .venv-deploy/bin/python $(PYTEST) tests/deploy

test-tracking: .venv-tracking/installed ## MLflow and W&B
	OMP_NUM_THREADS=1 .venv-tracking/bin/python $(PYTEST) tests/tracking

test-all: test test-rest ## all tests: the slow ones, MONAI Deploy, tracking

lint: .venv/installed locked ## ruff, mypy, yamllint, codespell, schema of the metadata
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	git ls-files -z --cached --others --exclude-standard | xargs -0 $(BIN)/codespell  # not what runs have written
	$(BIN)/check-jsonschema --schemafile scripts/meta_schema_20240725.json bundles/*/configs/metadata.json

help: ## this list; python -m scripts lists the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s%s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
