# make demo          notebooks 1 to 4 on the embedded data set, results in outputs/demo
# make all           all seven
# make test          unit tests, and every notebook against its stored outputs
# make test-long     what takes minutes, and the tests on the JAX backend
# make test-lowest   unit tests with the lowest versions of requirements.txt, on Python 3.11
# make test-kaggle   unit tests with the versions of Kaggle's image, on Python 3.12
# make test-formats  annotation files that datumaro reads, in an environment of its own
# make bench         what can be measured in minutes and without data, against other ways to do it
# make notebooks     execute the notebooks in place, as they are kept in git
# make lint          style
#
# Each makes its own environment when there is none: .venv, or .venv-3.12 with PYTHON=python3.12.

PYTHON ?= python3
LOWEST_PYTHON ?= python3.11
KAGGLE_PYTHON ?= python3.12

VERSION := $(patsubst python3.%,3.%,$(filter python3.%,$(notdir $(PYTHON))))
VENV := .venv$(addprefix -,$(VERSION))
BIN := $(VENV)/bin
NOTEBOOKS := $(sort $(wildcard notebooks/[0-9]*.ipynb))
ONE_RUN := $(foreach number,03 04 07,$(wildcard notebooks/$(number)*.ipynb))
# Campaigns of hours, and what needs CamVid, are started by hand.
BENCHMARKS := $(patsubst %,benchmarks/%.py,masks augment checkpoint training step inference)
BACKEND_TESTS := $(wildcard $(patsubst %,tests/test_%.py, \
  compressing encoders losses models optimizers predicting training))
UNIT_TESTS := -m pytest -n 2 --dist loadfile tests seglib
NOTEBOOK_TESTS := -m pytest --nbval -q -p no:cacheprovider

.PHONY: demo all test test-long test-lowest test-kaggle test-formats bench notebooks lint

demo: $(VENV)/installed
	$(call run_notebooks,$(wordlist 1,4,$(NOTEBOOKS)))

all: $(VENV)/installed
	$(call run_notebooks,$(NOTEBOOKS))

# Two at a time: the notebooks that share a run, the unit tests, then all other notebooks.
test: $(VENV)/installed-test
	@printf '%s\n' "$(NOTEBOOK_TESTS) $(ONE_RUN)" "$(UNIT_TESTS)" \
	  "$(NOTEBOOK_TESTS) $(filter-out $(ONE_RUN),$(NOTEBOOKS))" | \
	  xargs -t -P 2 -L 1 $(BIN)/python

test-long: $(VENV)/installed-jax
	$(BIN)/python -m pytest -m long tests
	KERAS_BACKEND=jax $(BIN)/python -m pytest $(BACKEND_TESTS)

test-lowest: .venv-lowest/installed
	.venv-lowest/bin/python $(UNIT_TESTS)

test-kaggle: .venv-kaggle/installed
	.venv-kaggle/bin/python $(UNIT_TESTS)

test-formats: .venv-formats/installed
	.venv-formats/bin/python -m pytest -q tests/test_annotations.py

bench: $(VENV)/installed-test
	for script in $(BENCHMARKS); do $(BIN)/python $$script || exit 1; done

# As under nbval: the same start-up messages, and no progress bars.
notebooks: $(VENV)/installed-test
	PYTEST_CURRENT_TEST=1 TQDM_DISABLE=1 $(BIN)/jupyter nbconvert --to notebook --execute --inplace $(NOTEBOOKS)

lint: $(VENV)/installed-test
	$(BIN)/ruff check seglib tests benchmarks
	$(BIN)/ruff format --check seglib tests benchmarks

define run_notebooks
	@mkdir -p outputs/demo
	@for notebook in $(1); do \
	  echo "$$notebook"; \
	  $(BIN)/papermill $$notebook outputs/demo/$$(basename $$notebook) --cwd . \
	    -p OUTPUT_DIR outputs/demo || exit 1; \
	done
	@echo
	@echo "Executed notebooks, models, tables and figures are in outputs/demo. What was reached:"
	@$(BIN)/python -c "import seglib; \
	  columns = ['run', 'status', 'epochs', 'mean_iou', 'pixel_accuracy', 'seconds']; \
	  print(seglib.list_runs('outputs/demo')[columns].round(3).to_string(index=False))"
endef

# Environments: a file says what was installed into one.

define make_venv
	@$(1) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
	  { echo "seglib needs Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 1; }
	$(1) -m venv $(2)
endef

$(VENV)/installed: requirements.txt pyproject.toml
	$(call make_venv,$(PYTHON),$(VENV))
	@echo "Downloading and installing TensorFlow, Jupyter and the rest, 2 GB: once, some minutes"
	$(BIN)/python -m pip install -r requirements.txt -e .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	@echo "Installing what tests need, and the runtimes that models are exported to, 1 GB"
	$(BIN)/python -m pip install -q -e ".[test,deploy]"
	@touch $@

$(VENV)/installed-jax: $(VENV)/installed-test
	$(BIN)/python -m pip install -q -e ".[jax]"
	@touch $@

.venv-lowest/installed: requirements.txt pyproject.toml
	$(call make_venv,$(LOWEST_PYTHON),.venv-lowest)
	sed 's/>=/==/' requirements.txt > .venv-lowest/requirements.txt
	.venv-lowest/bin/python -m pip install -q -r .venv-lowest/requirements.txt -e ".[test]"
	@touch $@

.venv-kaggle/installed: requirements.txt pyproject.toml tests/kaggle.txt
	$(call make_venv,$(KAGGLE_PYTHON),.venv-kaggle)
	.venv-kaggle/bin/python -m pip install -q -r requirements.txt -c tests/kaggle.txt -e ".[test]"
	@touch $@

# Without TensorFlow, which reading data does not need.
.venv-formats/installed: requirements.txt pyproject.toml
	$(call make_venv,$(PYTHON),.venv-formats)
	grep -v '^tensorflow\|^keras\|^jupyterlab\|^papermill' requirements.txt > .venv-formats/requirements.txt
	.venv-formats/bin/python -m pip install -q -r .venv-formats/requirements.txt "datumaro>=1.13" pytest
	.venv-formats/bin/python -m pip install -q --no-deps -e .
	@touch $@
