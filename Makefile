# make demo      run the notebooks on the embedded data set, results in outputs/demo
# make test      unit tests, then every notebook against its stored outputs
# make test-long what takes longer, and the tests on the JAX backend
# make bench     what can be measured in minutes and without data, against other ways to do it
# make notebooks execute the notebooks in place, as they are kept in git
# make lint      style

PYTHON ?= python3
BIN := .venv/bin
NOTEBOOKS := $(sort $(wildcard notebooks/[0-9]*.ipynb))
# Campaigns of hours, and what needs CamVid, are started by hand.
BENCHMARKS := $(patsubst %,benchmarks/%.py,masks augment checkpoint training step inference)
BACKEND_TESTS := tests/test_models.py tests/test_losses.py tests/test_inference.py tests/test_training.py \
  tests/test_optimizers.py tests/test_muon.py tests/test_normalization.py tests/test_compiling.py tests/test_quantizing.py

.PHONY: demo test test-long bench notebooks lint

demo: $(BIN)/installed
	@mkdir -p outputs/demo
	@for notebook in $(NOTEBOOKS); do \
	  echo "$$notebook"; \
	  $(BIN)/papermill $$notebook outputs/demo/$$(basename $$notebook) --cwd . \
	    -p OUTPUT_DIR outputs/demo || exit 1; \
	done
	@$(BIN)/python -c "import seglib; seglib.describe_run('outputs/demo')"

test: $(BIN)/installed
	$(BIN)/python -m pytest -m "not long" -n 2 --dist loadfile
	$(BIN)/python -m pytest --nbval notebooks

test-long: $(BIN)/installed-jax
	$(BIN)/python -m pytest -m long
	KERAS_BACKEND=jax $(BIN)/python -m pytest -m "not long" $(BACKEND_TESTS)

bench: $(BIN)/installed
	for script in $(BENCHMARKS); do $(BIN)/python $$script || exit 1; done

# As under nbval: the same start-up messages, and no progress bars.
notebooks: $(BIN)/installed
	PYTEST_CURRENT_TEST=1 TQDM_DISABLE=1 $(BIN)/jupyter nbconvert --to notebook --execute --inplace $(NOTEBOOKS)

lint: $(BIN)/installed
	$(BIN)/ruff check seglib tests benchmarks
	$(BIN)/ruff format --check seglib tests benchmarks

$(BIN)/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
	  { echo "seglib needs Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -r requirements.txt -e ".[test,deploy]"
	@touch $@

$(BIN)/installed-jax: $(BIN)/installed
	$(BIN)/python -m pip install -q -e ".[jax]"
	@touch $@
