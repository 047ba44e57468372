# Every target does the set-up it needs. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help setup demo test check format bench soak clean
RUN := .venv/bin/

help: ## list the targets
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install uv, the locked environment and helpful system packages
	@scripts/setup

demo: setup ## a site of four nodes runs a real job array, loses a node half-way, and explains itself
	@$(RUN)python -m demo

test: check ## every test (what CI runs)
	@scripts/setup tests
	$(RUN)pytest -n 2 --dist loadscope

check: setup ## format, lint, types, layers (the types take a minute or two)
	$(RUN)ruff format --check .
	$(RUN)ruff check .
	$(RUN)basedpyright
	$(RUN)lint-imports --no-cache

format: setup ## rewrite the sources in the project's style
	$(RUN)ruff format .
	$(RUN)ruff check --fix .

bench: setup ## measure, beside the peers' figures
	@$(RUN)python -m bench

soak: setup ## the tests at their full sizes (an hour or two)
	@scripts/setup tests
	MYC_TEST_LONG=1 MYC_API_EXAMPLES=500 MYC_CONFORMANCE=all POLYMER_PROGRAMS=10000 POLYMER_KILLS=200 \
		$(RUN)pytest -n 2 --dist loadscope --timeout 3600

clean: ## remove what the targets made
	rm -rf .venv .tools .hypothesis .pytest_cache .ruff_cache dist build
