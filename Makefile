# Every target sets up what it needs: a virtual environment in .venv, system packages, the Kubernetes binaries and the images
# (both in a cache outside the checkout). Needs Python >= 3.11, Go >= 1.26 and apt.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PYTHONDONTWRITEBYTECODE := 1

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.ready: pyproject.toml constraints.txt
	@echo "== virtual environment"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip==26.3
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e '.[operator,kmipd,custody,pkcs11]' --group dev
	@touch $@

.PHONY: setup
setup: $(VENV)/.ready ## Set up everything (other targets do this themselves)
	@bash scripts/apt-packages.sh

.PHONY: cluster-binaries
cluster-binaries: setup ## Build the Kubernetes binaries and Vault (ten to twenty minutes once, then cached)
	@$(PYTHON) kind/native build --with vault

.PHONY: lint
lint: $(VENV)/.ready ## ruff, mypy --strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: crds
crds: $(VENV)/.ready ## Generate crds/ from the models
	$(BIN)/python -c 'from pathlib import Path; from kmip_operator.crd import write; write(Path("crds"))'

.PHONY: test
test: setup lint cluster-binaries ## Lint, then every test: unit, API server, conformance, faults, end to end on a real cluster
	bash scripts/test.sh

.PHONY: test-fast
test-fast: setup lint ## Lint and the tests that need no cluster
	$(BIN)/pytest tests/unit tests/conformance

.PHONY: bench
bench: setup ## Speed beside PyKMIP's server and bare OpenSSL, one interleaved run; OASIS cases where the runner is given
	$(BIN)/python -m tests.bench
	@if [ -n "$$KMIP_OASIS_RUNNER" ]; then $(BIN)/pytest -q -s tests/conformance; \
	else echo "OASIS cases: not run; set KMIP_OASIS_RUNNER and KMIP_OASIS_DATA to a runner and the published cases"; fi

.PHONY: demo
demo: setup ## The main job: a cluster, the operator, four resources, a vCenter-like client (CLUSTER=current uses KUBECONFIG)
	$(BIN)/python -m demo up $(if $(CLUSTER),--cluster $(CLUSTER))

.PHONY: demo-down
demo-down: setup ## Remove what `make demo` made
	$(BIN)/python -m demo down
