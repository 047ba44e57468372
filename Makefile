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
	$(RUN)pytest -n 2 --dist loadscope

check: setup ## format, lint, types, layers (under 30 s)
	$(RUN)ruff format --check .
	$(RUN)ruff check .
	$(RUN)basedpyright
	$(RUN)lint-imports --no-cache

format: setup ## rewrite the sources in the project's style
	$(RUN)ruff format .
	$(RUN)ruff check --fix .

bench: setup ## measure, beside the peers' figures
	@$(RUN)python -m bench

clean: ## remove what the targets made
	rm -rf .venv .tools .hypothesis .pytest_cache .ruff_cache dist build
