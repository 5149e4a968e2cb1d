# Everything runs in .venv, which the first target that needs it makes.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MINIATURES := ssm vit_seg mllm llm t2i alm vit vit_dep

# How a variable of the command line becomes an option, if it is set.
CONFIGS := $(sort $(basename $(notdir $(wildcard lamofcbench/scenarios/*.toml))))
option = $(if $($(1)),--$(2) '$($(1))')

.PHONY: help setup extract publish score bench cards miniatures shapes test lint format schema clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml constraints.txt constraints-nodeps.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with PYTHON=..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	sed 's/^torch==.*/$(TORCH)/' constraints.txt > $(VENV)/constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c $(VENV)/constraints.txt \
	  '$(TORCH)' -e '.[models,codecs,learned,interop,inputs,plot,dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r constraints-nodeps.txt
	@touch $@

setup: $(STAMP) ## make .venv with everything in it

extract: $(STAMP) ## capture features: SCENARIO=vqa-mllm [PROFILE= MODEL= SOURCE= SAMPLES= SHARDS= ARCHIVE=]
	@$(BIN)/python -m extraction '$(SCENARIO)' $(call option,PROFILE,profile) $(call option,MODEL,model) \
	  $(call option,SAMPLES,samples) $(call option,SHARDS,shards) \
	  $(call option,ARCHIVE,archive) $(call option,SOURCE,source)

score: $(STAMP) ## score stored features: SCENARIO=name|all [MODE= PROFILE= SAMPLES= ARCHIVE= OUT=]
	@: $(if $(SCENARIO),,$(error name a config: make score SCENARIO=vqa-mllm))
	$(BIN)/lamofcbench score '$(SCENARIO)' $(call option,MODE,mode) $(call option,PROFILE,profile) \
	  $(call option,SAMPLES,samples) $(call option,ARCHIVE,archive) $(call option,OUT,out)

bench: $(STAMP) ## run the board into cards/ [SCENARIO=name|all MODE= PROFILE= SAMPLES= ARCHIVE=]
	$(BIN)/python -m extraction '$(or $(SCENARIO),all)' $(call option,PROFILE,profile) $(call option,ARCHIVE,archive)
	$(BIN)/python -m extraction.inputs '$(or $(SCENARIO),all)' --out build/inputs \
	  $(call option,PROFILE,profile) $(call option,ARCHIVE,archive)
	OMP_NUM_THREADS=1 $(BIN)/lamofcbench bench '$(or $(SCENARIO),all)' --grid --inputs build/inputs --cards cards \
	  $(call option,MODE,mode) $(call option,PROFILE,profile) $(call option,SAMPLES,samples) \
	  $(call option,ARCHIVE,archive) || left_out=$$?; \
	for results in cards/*/results.json; do \
	  $(BIN)/lamofcbench plot $$results --out $$(dirname $$results) || exit; done; \
	$(BIN)/lamofcbench compare cards/*/results.json --anchor uniform; exit $$left_out

cards: $(STAMP) ## write the cards of all configs from what is measured [ARCHIVE= REPO=]
	$(BIN)/python -m extraction all $(call option,ARCHIVE,archive)
	for config in $(CONFIGS); do \
	  test -f cards/$$config/knockout.json || OMP_NUM_THREADS=1 $(BIN)/lamofcbench score $$config --knockout \
	    --samples 0:10 $(call option,ARCHIVE,archive) --out cards/$$config/knockout.json || exit; done
	OMP_NUM_THREADS=1 $(BIN)/lamofcbench card all --out cards $(call option,ARCHIVE,archive) $(call option,REPO,repo)

publish: $(STAMP) ## publish the archive to the Hub: REPO=org/name [SCENARIO=name|all PROFILE= ARCHIVE=]
	@: $(if $(REPO),,$(error name a repository: make publish REPO=org/name))
	$(BIN)/lamofcbench push '$(or $(SCENARIO),all)' --repo '$(REPO)' --lock manifests \
	  $(call option,PROFILE,profile) $(call option,ARCHIVE,archive)

miniatures: $(STAMP) ## train the bundled miniature models again, two at a time
	$(MAKE) -j2 $(addprefix train-,$(MINIATURES))

train-%: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m extraction.tiny.$*

test: $(STAMP) ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

lint: $(STAMP) ## check style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP) ## bring the code into style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

shapes: $(STAMP) ## compare the published architectures with the declarations, without weights
	@$(BIN)/python -m extraction.shapes

schema: $(STAMP) ## write the manifest's JSON Schema again
	$(BIN)/python -m extraction.schema

clean: ## remove .venv and caches; archives stay
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
