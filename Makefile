# make demo    set up, train a small ELECTRA on the built-in corpus, measure it, show a detection
# make test    set up, check style, test everything on JAX, TensorFlow and PyTorch
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/demo

.PHONY: install demo test bench lint clean

install: $(VENV)/.demo-installed

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "Python 3.11 to 3.13 is needed; name one with: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo-installed: requirements.txt pyproject.toml | $(VENV)/bin/python
	@echo "Installing the pinned packages into $(VENV) (a few minutes the first time)."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/.test-installed: requirements-torch.txt requirements-export.txt requirements-dev.txt $(VENV)/.demo-installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-torch.txt -r requirements-export.txt -r requirements-dev.txt
	@touch $@

demo: $(VENV)/.demo-installed
	$(BIN)/electra-keras pretrain --config configs/pretrain/tiny.yaml --run_dir $(RUN) --resume true
	@echo; echo "Held-out text of the built-in corpus:"
	$(BIN)/electra-keras evaluate --run_dir $(RUN)
	@echo; echo "Every token with its probability of being replaced:"
	$(BIN)/electra-keras detect --model $(RUN) --text "Returns a list of strings, one for each line of and file; the default is to return they whole line."
	@echo; echo "Try your own text in the app:  $(BIN)/streamlit run app/main.py"

lint: $(VENV)/.test-installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

# Backend-neutral tests run once, the others under each backend; the last lines are pytest's.
test: lint
	$(BIN)/python -m pytest -n 2 -m "not backend"
	KERAS_BACKEND=jax $(BIN)/python -m pytest -n 2 -m backend
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest -n 2 -m backend
	KERAS_BACKEND=torch $(BIN)/python -m pytest -n 2 -m backend

# Hours on a quiet machine. Figures that stand in a table already are kept where a script can resume.
bench: $(VENV)/.test-installed
	$(BIN)/python benchmarks/throughput.py --out benchmarks/results/throughput.json
	$(BIN)/python benchmarks/scaling.py --out benchmarks/results/scaling.json --plot benchmarks/results/scaling.svg
	$(BIN)/python benchmarks/latency.py --out benchmarks/results/latency.json
	$(BIN)/python benchmarks/prepare.py --out benchmarks/results/prepare.json
	rm -rf runs/bench_demo
	$(BIN)/python benchmarks/demo.py --out benchmarks/results/demo.json
	$(BIN)/python benchmarks/latency.py --out benchmarks/results/latency_demo.json --run_dir runs/bench_demo
	$(BIN)/python benchmarks/parity.py --out benchmarks/results/parity.json
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-formats.txt
	$(BIN)/python benchmarks/formats.py --out benchmarks/results/formats.json --run_dir runs/bench_demo
	$(BIN)/python benchmarks/speedrun.py --out benchmarks/results/speedrun.json

clean:
	rm -rf $(VENV) runs build dist *.egg-info
