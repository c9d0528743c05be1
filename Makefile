# Everything runs in .venv, which the first target that needs it creates.
PYTHON ?= python3
RECIPE ?= digits
RANKS  ?= 2
ARGS   ?=
BIN    := .venv/bin

.PHONY: help train train-serial test lint docs clean distclean bench-data bench-eval bench-step bench-precision bench-scaling bench-time chaos

help:
	@echo "make train         train RECIPE=$(RECIPE) on RANKS=$(RANKS) processes; more options in ARGS='…'"
	@echo "make train-serial  the same in one process"
	@echo "make test          run the tests"
	@echo "make lint          ruff, mypy and import-linter"
	@echo "make bench-time    compare methods: RECIPE=digits, cifar10, mnist-table …, SEEDS=$(SEEDS), METHODS='…'"
	@echo "make bench-step, bench-scaling, bench-eval, bench-data, bench-precision   measure: see benchmarks/"
	@echo "make chaos         attack RUNS=$(RUNS) training runs, and see that nothing is lost"
	@echo "make docs          build the manual into site/"
	@echo "make clean         delete caches and what was built; .venv, runs/ and data/ stay"
	@echo "make distclean     delete .venv, too"

# The stamps are renewed when what they install from changes. Constraints pin every version; a
# machine whose Python or platform they do not fit can install with `make CONSTRAINTS= …`.
CONSTRAINTS ?= constraints.txt
PIP_INSTALL = $(BIN)/python -m pip install --quiet $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))

.venv/base: setup.cfg pyproject.toml constraints.txt
	@echo "setting up .venv (once; a minute or two) …"
	@$(PYTHON) -c 'import sys; sys.exit("zipper_dist needs Python 3.10 or newer; set PYTHON=python3.12, say" if sys.version_info < (3, 10) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP_INSTALL) --editable .
	@touch $@

.venv/test: .venv/base
	@echo "installing what the tests need (once) …"
	@$(PIP_INSTALL) --editable '.[test]'
	@touch $@

.venv/bench: .venv/base
	@echo "installing what the benchmarks need (once) …"
	@$(PIP_INSTALL) --editable '.[bench]'
	@touch $@

.venv/lint: .venv/test
	@echo "installing what the linters need (once) …"
	@$(PIP_INSTALL) --editable '.[test,lint]'
	@touch $@

.venv/docs: .venv/base
	@echo "installing what the manual needs (once) …"
	@$(PIP_INSTALL) --editable '.[docs]'
	@touch $@

train: .venv/base
	@$(BIN)/zipper-launch --standalone --nproc_per_node=$(RANKS) -m zipper_dist.train $(RECIPE) $(ARGS)

train-serial: .venv/base
	@$(BIN)/zipper-train $(RECIPE) $(ARGS)

# Two files at a time, the slow ones first; many tests start processes of their own. ARGS='-n 0' runs
# all in turn.
test: .venv/test
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
		--cov zipper_dist --cov-report term:skip-covered $(ARGS)

lint: .venv/lint
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

# Strict: a link to a page, a heading or a name that does not exist is an error.
docs: .venv/docs
	@$(BIN)/zensical build --clean --strict

clean:
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .cache build dist site

distclean: clean
	rm -rf .venv *.egg-info

# AutoAttack by one rank and by two, then the standard attacks against plain code. Trains small
# networks once (DATA: the directory that holds MNIST/), then takes some twenty-five minutes of two
# cores, which should do nothing else; ARGS='--only ranks' or ARGS='--only plain --images 64' is a part.
DATA ?= data
bench-eval: .venv/bench
	@$(BIN)/python benchmarks/bench_eval.py --data-root $(DATA) $(ARGS)

# Images that stay on disk: 20 GB of them, written to benchmarks/out/ or ARGS='--at DIR' and deleted
# at the end; minutes on two cores. ARGS='--gigabytes 0.5' is enough for a look.
bench-data: .venv/bench
	@$(BIN)/python benchmarks/bench_data.py $(ARGS)

# Seconds an iteration by part, plain code against the engine. Compiling takes minutes a network on
# two cores; ARGS='--networks small_cnn --no-compile' is enough for a look.
bench-step: .venv/bench
	@$(BIN)/python benchmarks/bench_step.py $(ARGS)

# Seconds an iteration by placement, on one and two cores, and what a model says of other machines: a
# quarter of an hour of two cores, which should do nothing else; it can be interrupted and continued.
# ARGS='--networks small_cnn' is enough for a look; ARGS=--fresh measures again.
bench-scaling: .venv/bench
	@$(BIN)/python benchmarks/bench_scaling.py $(ARGS)

# Accuracy of bf16 against fp32 training from three seeds: some twenty minutes of two cores. A page a
# recipe in benchmarks/out/time/; it can be interrupted and continued.
bench-precision: .venv/bench
	@$(BIN)/python benchmarks/bench_time.py digits-precision mnist-precision --seeds 3 \
		--data-root $(DATA) $(ARGS)

# TRADES, Zipper serial and Zipper parallel on equal hardware: digits and a slice of MNIST (where it
# is in DATA), or the experiment RECIPE. Minutes on two cores; it can be interrupted and continued.
SEEDS   ?= 1
METHODS ?=
bench-time: .venv/bench
	@$(BIN)/python benchmarks/bench_time.py $(if $(filter file,$(origin RECIPE)),,$(RECIPE)) \
		--seeds $(SEEDS) --data-root $(DATA) $(if $(METHODS),--methods $(METHODS)) $(ARGS)

# Kills, freezes and damages training runs, some 20 s each, and compares what becomes of them with a
# run that was left alone; it can be interrupted and continued.
RUNS ?= 50
chaos: .venv/bench
	@$(BIN)/python benchmarks/chaos.py --runs $(RUNS) $(ARGS)
