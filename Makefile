# make demo CONSTRAINTS=   uses the newest torch instead of the tested one
PYTHON      ?= python3
VENV        ?= .venv
CONSTRAINTS ?= -c constraints.txt
BIN         := $(abspath $(VENV))/bin
STAMP       := $(VENV)/.installed

# One thread per core that waits without spinning: a busy machine is many times slower otherwise.
export OMP_WAIT_POLICY := PASSIVE
export NO_MKDOCS_2_WARNING := 1

.PHONY: install demo test lint bench clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS) -e '.[dev]'
	touch $@

demo: install
	cd examples/digits && $(BIN)/python train.py
	cd examples/digits && $(BIN)/method-cards run || [ $$? -eq 1 ]
	cd examples/digits && $(BIN)/method-cards notebook digits-cnn
	$(BIN)/method-cards build
	@echo
	@echo "The report is above: the second subject is broken on purpose. Look at"
	@echo "  build/site/index.html                          the site, with these results in it"
	@echo "  examples/digits/notebooks/digits-cnn.ipynb     the checklist of the first subject"
	@echo "  examples/digits/method-cards.yaml              where it all starts"

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

bench: install
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build
