PYTHON ?= python3
PYTEST_ARGS ?=
# Processes that run the tests; those of a file, which share its fixtures, stay together.
JOBS ?= 2

# Paths stay relative, so that a checkout may lie under a path with spaces.
PY := .venv/bin/python
PIP_INSTALL := $(PY) -m pip install -qq --disable-pip-version-check --editable

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test lint docs bench faults audit sbom clean

# Everything is installed by now: a missing file is an error, not a download.
demo test bench faults: export HF_HUB_OFFLINE := 1

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' Makefile

demo: .venv/.base  ## interpret the sample recordings with the embedded default, into out/
	.venv/bin/lmaczs demo --out out

test: .venv/.extra-test  ## every test that needs no data set; PYTEST_ARGS="-k mask"
	$(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: .venv/.extra-dev  ## style, docstrings, directions of imports and types, as .ci/run wants them
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m flake8 $(wildcard lmaczs recipes benchmarks)
	.venv/bin/lint-imports --no-logo --no-cache
	$(PY) -m mypy

docs: export NO_MKDOCS_2_WARNING := 1
docs: .venv/.extra-docs  ## the documentation as a site, site/index.html; a dead link is an error
	$(PY) -m mkdocs build --strict

bench: .venv/.extra-test  ## every benchmark of time and memory, one after the other
	@mkdir -p build
	$(PY) benchmarks/cost.py --json build/cost.json --history benchmarks/history.csv
	@set -e; for script in $(filter-out %/cost.py %/fuzz.py %/faults_table.py,$(wildcard benchmarks/*.py)); do \
		echo "== $$script"; $(PY) "$$script"; \
	done

faults: .venv/.extra-test  ## faults and attacks, tried again, into docs/faults.md; hours
	$(PY) benchmarks/faults_table.py

audit: .venv/.base build/audit/.made  ## known weaknesses of what is installed, by pip-audit; needs a network
	build/audit/bin/pip-audit --path "$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

sbom: .venv/.base build/audit/.made  ## what is installed, as a bill of materials (CycloneDX): build/sbom.json
	build/audit/bin/cyclonedx-py environment $(PY) --of JSON --output-file build/sbom.json

# An environment of their own: what they need is no part of what they look at.
build/audit/.made:
	"$(PYTHON)" -m venv build/audit
	build/audit/bin/python -m pip install -qq --disable-pip-version-check pip-audit cyclonedx-bom
	touch $@

clean:  ## remove what is made here, except .venv (5 GB to install again) and results/
	rm -rf build dist out site lmaczs.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .coverage
	find $(wildcard lmaczs recipes benchmarks tests) -name __pycache__ -prune -exec rm -rf {} +

# A stamp is written when pip has finished; until setup.cfg or pyproject.toml
# changes, later runs need neither pip nor a network.
.venv/.base: setup.cfg pyproject.toml
	@echo "Installing into .venv: minutes, and about 5 GB, on a first run"
	"$(PYTHON)" -m venv .venv
	$(PIP_INSTALL) .
	touch $@

.venv/.extra-%: .venv/.base
	$(PIP_INSTALL) ".[$*]"
	touch $@
