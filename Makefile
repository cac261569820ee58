# Needs Python 3.11+, make and a network with package indexes; everything else is made here, inside this folder.

PYTHON ?= python3
CONFIG ?= costwarden.yaml
PYTEST := .venv/bin/pytest -n auto

ENV   := .venv/.installed
TOOLS := .tools/.fetched

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.SUFFIXES:
.PHONY: help env tools demo run test check lint format types alerts mutants alertmanager dashboards dashboards-check pictures bench golden wheel lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: $(ENV) ## create .venv from the lock, with the project installed in place

tools: $(TOOLS) ## fetch prometheus, promtool, alertmanager, amtool and a headless browser into .tools where PATH lacks them (SUITE=sid: from there)

demo: $(ENV) $(TOOLS) ## show a bill, a budget, an alert and a stopped workload end to end (KEEP=1 leaves it running)
	.venv/bin/python deploy/demo/demo.py $(if $(KEEP),--keep)

run: $(ENV) ## serve CONFIG (costwarden.yaml unless given)
	.venv/bin/costwarden serve --config $(CONFIG)

test: $(ENV) $(TOOLS) ## run every test, the ones on real servers included (ARGS="-k budget" narrows)
	$(PYTEST) $(ARGS)

check: lint types dashboards-check test ## all that CI asks: lint, types, rendered dashboards, then every test (rules, routes, wheel)

lint: $(ENV) ## check style and formatting
	.venv/bin/ruff check
	.venv/bin/ruff format --check

format: $(ENV) ## mend style and formatting
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

types: $(ENV) ## check types, strictly
	.venv/bin/mypy
	@for script in scripts/shutdown/stop_ec2_instances scripts/shutdown/suspend_ai_tenant; do \
		MYPYPATH=scripts/shutdown .venv/bin/mypy --scripts-are-modules $$script || exit 1; done

alerts: $(ENV) $(TOOLS) ## check and test the Prometheus rules, and that each alert has all its cases
	$(PYTEST) tests/alerts --ignore tests/alerts/test_mutation.py

mutants: $(ENV) $(TOOLS) ## change each rule in each small way, and see that a case notices it
	$(PYTEST) tests/alerts/test_mutation.py

alertmanager: $(ENV) $(TOOLS) ## check the Alertmanager configuration and test its routes
	$(PYTEST) tests/alertmanager

dashboards: $(ENV) ## render dashboards/*.jsonnet to dashboards/json
	.venv/bin/python dashboards/render.py

dashboards-check: $(ENV) ## fail where a committed dashboard is not what its source renders to
	.venv/bin/python dashboards/render.py --check

pictures: $(ENV) $(TOOLS) ## make docs/pictures/*.png: a month of a made-up company, then the real stack (some minutes)
	.venv/bin/python docs/pictures/make_pictures.py

bench: $(ENV) $(TOOLS) ## run every benchmark: our figure, the floor or peer of the same run, the ratio
	@failed=0; for bench in benchmarks/bench_*.py; do echo "== $$bench"; .venv/bin/python $$bench || failed=1; done; exit $$failed

golden: $(ENV) $(TOOLS) ## write the golden files anew from what the code says today; read the diff before you commit it
	COSTWARDEN_GOLDEN=write $(PYTEST) $(ARGS)

wheel: $(ENV) ## build dist/*.tar.gz, and from it dist/*.whl
	rm -rf dist
	.venv/bin/uv build --no-build-isolation --offline --python .venv/bin/python --out-dir dist

# Universal: one lock for every platform and every Python from 3.11. The lock names no package index.
lock: $(ENV) ## pin the dependencies of pyproject.toml anew, with hashes (UPGRADE=1 takes the newest)
	.venv/bin/uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 --generate-hashes \
		--no-header --no-emit-index-url $(if $(UPGRADE),--upgrade) --quiet --output-file requirements/dev.lock
	echo 'litellm[proxy]' | .venv/bin/uv pip compile - --universal --python-version 3.11 --generate-hashes \
		--no-header --no-emit-index-url $(if $(UPGRADE),--upgrade) --quiet --output-file requirements/litellm.lock

clean: ## remove all that make made
	rm -rf .venv .tools dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.locked: requirements/dev.lock
	@command -v $(PYTHON) > /dev/null || { echo "costwarden needs Python 3.11 or newer, and PATH has no $(PYTHON):" \
		"install it (Debian: apt-get install python3 python3-venv), or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "costwarden needs Python 3.11 or newer, and $(PYTHON) is" \
		"$$($(PYTHON) -c 'import platform; print(platform.python_version())'): name a newer one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { echo "$(PYTHON) cannot make a virtual environment:" \
		"install its venv module (Debian: apt-get install python3-venv), or name another: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --require-hashes --requirement requirements/dev.lock
	@touch $@

$(ENV): .venv/.locked pyproject.toml
	.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --no-index --editable .
	@touch $@

$(TOOLS): .ci/fetch-tools | .venv/.locked
	.venv/bin/python .ci/fetch-tools .tools $(if $(SUITE),--suite $(SUITE))
	@touch $@
