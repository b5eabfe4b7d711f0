# make demo   a live run on the embedded scripted providers, in the console (a summary where there is no terminal)
# make test   the tests
# Both set up .venv themselves: Python >= 3.11 and make are all they need.
# make test-peer   the tests with the real Data Designer, which it installs into $(PEER)
# make truth   the scoreboard of the diagnosis: OPTIONS="--runs 3 --neighbour hang1 s503"
# make docs   the documentation in site/
# make diagrams   the diagrams of plans/, with PlantUML
# make pictures   its pictures, from recordings
# make dist   wheel and sdist in dist/, each tried in an environment of its own
# make constraints   constraints.txt anew, from what a fresh environment gets
# make bench   speed of scheduling, console, diagnosis and recording
# make bench-peer   Data Designer beside us, the same work in turn: OPTIONS="--quick --only run"
# make bench-peer-e2e   both behind a provider that refuses, fails or is out: rows lost, and time
# make bench-providers   what request admission gets out of each kind of provider: OPTIONS="--quick"
# make bench-calls   CPU of a call behind HTTP: the client, and whole runs: OPTIONS="--profile 500"
# make bench-exec   what `headgate exec` costs a Data Designer run
# make bench-gates   every scenario at its full size, 20 minutes: OPTIONS="--only hidden-waiters-salvage"
# make bench-soak   memory over a million tasks and 100,000 groups: OPTIONS="--tasks 100000"
# make bench-large   processor time a cell, and memory, of 100,000 records x 4 columns with journal and cells
# make bench-wide   memory of engine, recorder and front in a run of 500 columns x 2,500 rows
# make bench-refs REFS="main HEAD"   a scenario on two states of the code: SCENARIO=, OUT=, OPTIONS="--smoke"

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEER := .venv-peer

.PHONY: demo test test-all test-peer truth plans docs diagrams pictures dist constraints lint types layers bench bench-peer bench-peer-e2e bench-providers bench-calls bench-exec bench-gates bench-soak bench-large bench-wide bench-refs clean

demo: $(READY)
	@$(BIN)/headgate demo || { code=$$?; test $$code -eq 130 || exit $$code; }  # 130: stopped by its user

test: $(READY)
	$(BIN)/pytest

# Every case of the generated tests, where `make test` takes a sample.
test-all: $(READY)
	HEADGATE_TESTS=all $(BIN)/pytest

test-peer: $(READY)
	@PYTHON=$(PYTHON) .ci/install-data-designer $(PEER)
	HEADGATE_PEER_PYTHON=$(abspath $(PEER))/bin/python $(BIN)/pytest --dist loadgroup tests/peer

truth: $(READY)
	@PYTHON=$(PYTHON) .ci/install-data-designer $(PEER)
	HEADGATE_PEER_PYTHON=$(abspath $(PEER))/bin/python $(BIN)/python -m tests.truth.board $(OPTIONS)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

layers: $(READY)
	$(BIN)/lint-imports

# The documentation in site/, with its reference written anew from the code.
docs: $(VENV)/.docs
	$(BIN)/python -m tests.docs.generate
	$(BIN)/mkdocs build --quiet --strict

# The pictures of plans/diagrams whose source has changed; needs PlantUML.
diagrams:
	.ci/render-diagrams

# The pictures of the documentation, from recordings of runs under virtual time.
pictures: $(READY)
	HEADGATE_HOME=$(abspath $(VENV))/pictures $(BIN)/python -m tests.docs.pictures

$(VENV)/.docs: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

# A wheel and an sdist in dist/, tried in an environment of their own.
dist: $(READY)
	PYTHON=$(PYTHON) .ci/dist

constraints:
	PYTHON=$(PYTHON) .ci/update-constraints

# Rewrites the tables of plans/ that derive from code.
plans: $(READY)
	$(BIN)/python -m tests.plans.generate

bench: $(READY)
	$(BIN)/python tests/bench/request_waiters.py
	$(BIN)/python tests/bench/console_update.py
	$(BIN)/python tests/bench/attached_console.py
	$(BIN)/python tests/bench/console_response.py
	HEADGATE_SIMULATED_RUNS=1000 $(BIN)/pytest -q tests/replay/diagnosis/test_random_runs.py
	$(BIN)/python tests/bench/replay_speed.py
	$(BIN)/python tests/bench/recording_scale.py

bench-peer: $(READY)
	@PYTHON=$(PYTHON) .ci/install-data-designer $(PEER)
	$(BIN)/python -m tests.bench.peer.compare --python $(PEER)/bin/python $(OPTIONS)

bench-peer-e2e: $(READY)
	@PYTHON=$(PYTHON) .ci/install-data-designer $(PEER)
	$(BIN)/python -m tests.bench.peer.trials --python $(PEER)/bin/python $(OPTIONS)

# Renews the table and the pictures of plans/request-admission.md.
bench-providers: $(READY)
	$(BIN)/python -m tests.bench.provider_models $(OPTIONS)

bench-calls: $(READY)
	$(BIN)/python -m tests.bench.call_cost $(OPTIONS)

bench-exec: $(READY)
	@PYTHON=$(PYTHON) .ci/install-data-designer $(PEER)
	HEADGATE_PEER_PYTHON=$(abspath $(PEER))/bin/python $(BIN)/python tests/bench/exec_overhead.py

bench-gates: $(READY)
	$(BIN)/python -m tests.bench.gates $(OPTIONS)

bench-soak: $(READY)
	$(BIN)/python -m tests.bench.soak $(OPTIONS)

bench-large: $(READY)
	$(BIN)/python tests/bench/large_run.py $(OPTIONS)

bench-wide: $(READY)
	$(BIN)/python tests/bench/wide_run.py $(OPTIONS)

SCENARIO ?= heavy-root
OUT ?= bench-refs
bench-refs: $(READY)
	$(BIN)/python -m tests.bench.refs $(SCENARIO) $(REFS) --out $(OUT) $(OPTIONS)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "headgate needs Python 3.11 or newer; run: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) $(PEER) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
