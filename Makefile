# Every target works on a fresh clone: what it needs is installed into .tools/ and .venv/ first.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

UV_VERSION := 0.13.8
SAM_VERSION := 1.170.0
AWS_VERSION := 1.46.2
CHECKOV_VERSION := 3.3.30

TOOLS := $(CURDIR)/.tools
export UV := $(or $(shell command -v uv 2>/dev/null),$(TOOLS)/bin/uv)
export UV_TOOL_DIR := $(TOOLS)/environments
export UV_TOOL_BIN_DIR := $(TOOLS)/bin
export SAM_CLI_TELEMETRY := 0
export CKV_SKIP_PACKAGE_UPDATE_CHECK := true
# What `make deploy` was told the first time, and goes by from then on.
ANSWERS := $(CURDIR)/samconfig.local.toml
# Under `uv run`, sam finds the project's python3.13.
RUN := $(UV) run --locked --no-sync
SAM := $(RUN) $(TOOLS)/bin/sam

.PHONY: help
help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ready ## Deploy into a local AWS account and watch all four functions at work.
	@$(RUN) python -m tests.demo

.PHONY: test
test: ready ## Run the unit, integration and e2e tests.
	$(RUN) pytest tests/unit --numprocesses 2
	$(RUN) pytest tests/integration --numprocesses 2
	$(RUN) pytest tests/e2e $(SLOW:%=--ignore %) --numprocesses 3 --dist loadfile --each-permission

# What takes long: the local account itself, a recycler that is killed at every step, an upgrade, and
# what the pages show.
SLOW := tests/e2e/sandbox tests/e2e/test_recycle_service_faults.py tests/e2e/test_upgrade.py \
	tests/e2e/test_operations_page.py tests/e2e/test_readme.py

.PHONY: test-slow
test-slow: ready ## Run the e2e tests that take long: the local account, upgrades, pages, the recycler's bad days.
	$(RUN) pytest $(SLOW) --numprocesses 3 --dist loadfile

.PHONY: bench
bench: ready ## Measure beside other ways, print the ratios and write docs/benchmarks.md.
	@PYTHONPATH=layers/common $(RUN) python -m tests.benchmarks

.PHONY: check
check: ready $(TOOLS)/checkov-$(CHECKOV_VERSION) ## Format, lint, types, template.
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	$(RUN) cfn-lint --include-checks I --template template.yaml docs/examples/*.yaml
	$(SAM) validate --lint --region us-east-1
	$(TOOLS)/bin/checkov --file template.yaml docs/examples/*.yaml
	$(UV) lock --check --quiet
	$(UV) lock --check --quiet --script tests/sandbox/serve.py
	$(UV) export $(EXPORT) | diff layers/common/requirements.txt -

.PHONY: sandbox
sandbox: ready ## Start a local AWS account with the stack in it; then: . .sandbox/env
	@$(RUN) python -m tests.sandbox up

.PHONY: sandbox-down
sandbox-down: ready ## End the local AWS account and leave nothing of it.
	@$(RUN) python -m tests.sandbox down

.PHONY: build
build: ready ## Build what would be deployed, into .aws-sam/.
	$(SAM) build

.PHONY: deploy
deploy: build ## Deploy to the AWS account your credentials name; asks before it changes anything.
	@grep -qs parameter_overrides $(ANSWERS) || cp samconfig.toml $(ANSWERS)
	$(SAM) deploy --config-file $(ANSWERS) $$(grep -q parameter_overrides $(ANSWERS) || echo --guided)

.PHONY: events
events: ready ## Read the event log of the stack ecs-ops; filters in ARGS='--cluster demo --failed'.
	@PYTHONPATH=layers/common $(RUN) python -m ecs_ops.events $(ARGS)

.PHONY: format
format: ready ## Format the code and mend what ruff can mend.
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

# With hashes, so pip takes nothing but what the lock knows.
EXPORT := --quiet --only-group lambda --no-header --no-annotate

.PHONY: lock
lock: | $(UV) ## Bring the locks and the layer's requirements up to date with pyproject.toml.
	$(UV) lock
	$(UV) lock --script tests/sandbox/serve.py
	$(UV) export $(EXPORT) --output-file layers/common/requirements.txt
	$(UV) sync --locked

.PHONY: clean
clean: ## Delete everything that was built or installed here.
	rm -rf .aws-sam .mypy_cache .pytest_cache .ruff_cache .hypothesis .tools .venv

# ---------------------------------------------------------------- tools
.PHONY: ready
ready: $(TOOLS)/sam-$(SAM_VERSION) $(TOOLS)/aws-$(AWS_VERSION)
	@$(UV) sync --locked --quiet

$(TOOLS)/sam-$(SAM_VERSION): | $(UV)
	$(UV) tool install --quiet --force --python 3.13 aws-sam-cli==$(SAM_VERSION)
	@touch $@

$(TOOLS)/aws-$(AWS_VERSION): | $(UV)
	$(UV) tool install --quiet --force --python 3.13 awscli==$(AWS_VERSION)
	@touch $@

$(TOOLS)/checkov-$(CHECKOV_VERSION): | $(UV)
	$(UV) tool install --quiet --force --python 3.13 checkov==$(CHECKOV_VERSION)
	@touch $@

# Only where no uv is installed. A venv needs Python's ensurepip, which Debian packages apart.
$(TOOLS)/bin/uv:
	mkdir -p $(TOOLS)/bin
	python3 -m venv $(TOOLS)/uv && $(TOOLS)/uv/bin/pip install --quiet uv==$(UV_VERSION) \
		&& ln -sf ../uv/bin/uv $@ \
		|| curl -LsSf https://astral.sh/uv/$(UV_VERSION)/install.sh \
			| env UV_INSTALL_DIR=$(TOOLS)/bin UV_NO_MODIFY_PATH=1 sh
