# Train referring image segmentation from text alone. `make help` explains.
CONFIG    ?= synthetic
SEGMENTER ?= tris
RUN       ?= runs/$(CONFIG)
NPROC     ?=
DATA      ?=
ROUNDS    ?=
ARGS      ?=
PYTHON    ?= python3

# Threads that wait spin for a moment only (GNU's OpenMP), or not at all (others'): on a machine
# that others use, too, longer is many times slower; docs/performance.md has the figures.
export OMP_WAIT_POLICY ?= PASSIVE
export GOMP_SPINCOUNT  ?= 20000
export PYTHONPATH := $(CURDIR)

# pip would compile 18,000 modules on one core, a minute's work; Python compiles the few thousand
# that are used when it first reads them, if it may keep what it compiles.
unexport PYTHONDONTWRITEBYTECODE

BIN      := .venv/bin
SETTINGS := --config configs/$(CONFIG).py --segmenter configs/segmenter/$(SEGMENTER)_$(CONFIG).py \
            --run $(RUN) $(if $(DATA),--data $(DATA)) \
            $(if $(ROUNDS),--segmenter.rounds=$(ROUNDS)) $(ARGS)
LAUNCH   := $(BIN)/python -m stages.launch --nproc $(or $(NPROC),1)
# Labels and scores are the same whatever the number of processes; weights are not.
PER_CORE := $(BIN)/python -m stages.launch $(if $(NPROC),--nproc $(NPROC),--per-core)

.PHONY: stage1 stage2 ceiling evaluate report demo test test-fast check golden bench clean help

.DEFAULT_GOAL := help

stage1: .venv/installed  ## prepare the data, train the response maps (and, for synthetic, a small CLIP)
	@$(BIN)/python -m stages.launch stages/prepare_data.py $(SETTINGS)
	@$(LAUNCH) stages/pretrain_clip.py $(SETTINGS)
	@$(LAUNCH) stages/train_response.py $(SETTINGS)

stage2: .venv/installed  ## make the labels if they are missing or stale, train a segmenter, ROUNDS times, evaluate
	@$(PER_CORE) stages/make_pseudo_labels.py --replace $(SETTINGS)
	@$(LAUNCH) stages/train_segmenter.py $(SETTINGS)
	@$(PER_CORE) stages/relabel.py --replace $(SETTINGS)
	@$(LAUNCH) stages/self_train.py --replace $(SETTINGS)
	@$(PER_CORE) stages/evaluate.py $(SETTINGS)

ceiling: .venv/installed  ## train the same segmenter on annotated masks, for comparison
	@$(LAUNCH) stages/train_segmenter.py --ceiling $(SETTINGS)
	@$(LAUNCH) stages/self_train.py --ceiling $(SETTINGS)
	@$(PER_CORE) stages/evaluate.py $(SETTINGS)

evaluate: .venv/installed  ## score every step of a run
	@$(PER_CORE) stages/evaluate.py $(SETTINGS)

report: .venv/installed  ## RUN/report/index.html: curves, table, gallery
	@$(BIN)/tris report $(RUN) --out $(RUN)/report

demo: .venv/installed  ## try a trained segmenter in the browser
	@$(BIN)/pip install --quiet --no-compile --editable '.[demo]'
	@$(BIN)/tris demo --model $(RUN)/segmenter/model

test: .venv/installed  ## the whole test suite, slow tests included
	@$(BIN)/python -m pytest

test-fast: .venv/installed  ## the tests that take seconds
	@$(BIN)/python -m pytest -m "not slow"

check: .venv/installed  ## lint, format, types, import contract
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

golden: .venv/installed  ## compare with the numbers of the released implementations
	@$(BIN)/python -m pytest -m golden

bench: .venv/installed  ## the benchmarks, in small
	@$(BIN)/python benchmarks/index.py --scale 0.01
	@$(BIN)/python benchmarks/score.py --scale 0.05
	@$(BIN)/python benchmarks/prms.py

clean:  ## remove caches; runs and .venv stay
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

help:  ## this text
	@echo "make TARGET [CONFIG=$(CONFIG)] [SEGMENTER=$(SEGMENTER)] [RUN=$(RUN)] [NPROC=$(NPROC)] [DATA=folder] [ROUNDS=$(ROUNDS)] [ARGS=--field.name=value]"
	@echo
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## */  \1\t/' | expand -t 14
	@echo
	@echo "CONFIG:    $(sort $(patsubst configs/%.py,%,$(wildcard configs/*.py)))"
	@echo "SEGMENTER: $(patsubst configs/segmenter/%_$(CONFIG).py,%,$(sort $(wildcard configs/segmenter/*_$(CONFIG).py))) (of CONFIG=$(CONFIG))"
	@echo
	@echo "Every field of a config: $(strip $(LAUNCH) stages/train_response.py $(SETTINGS)) --help"

.venv/installed: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv (a few minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[dev]'
	@touch $@
