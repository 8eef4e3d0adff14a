# Two commands matter: `make replicate` and `make test`. Both need Python 3.11 or 3.12 and nothing else.
VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# D4RL's own package: the oracle of our score table and reader. Its dependencies can't be built any more.
ORACLE := d4rl==1.1 gym==0.26.2 gym_notices cloudpickle
# A test process takes one thread, a notebook mostly one.
PARALLEL := -n auto --maxprocesses 8

.PHONY: replicate test install lint notebooks clean help

help:  ## this text
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

replicate: $(READY)  ## train what is missing, draw the figures, write the report
	$(BIN)/o2okit run gde/toy_maze --profile laptop
	$(BIN)/o2okit finetune hopper-medium-v2 iql --profile laptop --seeds 3 --offline-steps 3000 --steps 1500 --eval-every 500
	@$(BIN)/o2okit report
	@echo
	@echo "figure:  figures/gde/figure_2c.png (2a, 2b and 2_loss beside it; PDF too)"
	@echo "cell:    figures/cells/hopper-medium-v2.iql.naive.offline_steps-3000_steps-1500_eval_every-500.png"
	@echo "table:   figures/gde/toy_maze_table.csv"
	@echo "report:  figures/REPORT.md"

test: $(READY)  ## pytest, then every notebook under nbval
	$(BIN)/python -m pytest $(PARALLEL) --dist worksteal
	@$(MAKE) --no-print-directory notebooks

notebooks: $(READY)  ## every notebook executes (nbval, smoke profile)
	O2OKIT_PROFILE=smoke O2OKIT_BATCH=1 O2OKIT_RUNS=$$(mktemp -d) \
		$(BIN)/python -m pytest --nbval-lax -p no:cacheprovider $(PARALLEL) --dist loadfile notebooks

lint: $(READY)  ## ruff, code and notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

install: $(READY)  ## the virtual environment with everything in it

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || \
		{ echo "o2okit needs Python 3.11 or 3.12; found '$(PYTHON)'. Name one: make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	@# uv does not read pip's configuration: where pip looks for wheels beside PyPI, uv is told so.
	@links=$$($(BIN)/pip config list | sed -n "s/.*find-links='\([^']*\)'.*/\1/p" | head -n 1); \
	UV_FIND_LINKS="$$links" $(BIN)/uv pip install --quiet --compile-bytecode \
		--python $(BIN)/python --constraint constraints.txt --editable '.[notebook,dev,data,atari]' && \
	$(BIN)/uv pip install --quiet --no-deps --python $(BIN)/python $(ORACLE)
	@touch $@

clean:  ## remove the virtual environment and caches; runs and data stay
	rm -rf $(VENV) .pytest_cache .ruff_cache
