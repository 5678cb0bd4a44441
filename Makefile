# make run    watch it train        make test   build and run all tests
# make bench  the measurements      make lint   formats and style
# make wheel  sdist and wheel       make sanitize  the tests under ASan and UBSan
# make docs   the site, in build/site/html; warnings are errors
# make clean  remove all of it
#
# Everything lives in .venv, which is made with $(PYTHON). ARGS="..." is handed to pytest.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := PYTHONWARNINGS=ignore $(BIN)/python -m pip --disable-pip-version-check -q
APT    := Once: sudo apt-get install -y gcc make python3-dev python3-venv

# What the compiled module is made from: a change rebuilds it.
SOURCES := setup.py pyproject.toml $(wildcard csrc/*.* fastopt/*.pyx fastopt/*.pxi)
C_FILES := $(wildcard csrc/*.c csrc/*.h csrc/*.inc)

.PHONY: run test bench lint format docs wheel sanitize clean
.DELETE_ON_ERROR:

run: $(VENV)/.run
	@echo "==> fastopt train demo"
	@$(BIN)/fastopt train demo

test: $(VENV)/.test
	@echo "==> pytest"
	@$(BIN)/pytest $(ARGS)

bench: $(VENV)/.bench
	@for file in bench/bench_*.py; do \
	    echo "==> $$file"; $(BIN)/python -m bench.$$(basename $$file .py) || exit 1; done
	@echo "==> bench/test_micro.py"
	@$(BIN)/python -m pytest -q bench/test_micro.py --benchmark-max-time=0.5 \
	    --benchmark-columns=median,min,iqr --benchmark-sort=name \
	    --benchmark-json=bench/results/micro.json
	@$(BIN)/python -m bench.picture
	@$(BIN)/python -m bench.picture_sparse

lint: $(VENV)/.lint
	@echo "==> ruff check, ruff format, clang-format, cython-lint"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/clang-format --dry-run --Werror $(C_FILES)
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/cython-lint fastopt

format: $(VENV)/.lint
	@echo "==> ruff format, clang-format"
	@$(BIN)/ruff format .
	@$(BIN)/clang-format -i $(C_FILES)

# The pages are those of the README and docs/ as they stand, so the source is the whole tree.
docs: $(VENV)/.docs
	@echo "==> sphinx: build/site/html/docs/site/index.html"
	@$(BIN)/python -m sphinx -q -W --keep-going -c docs/site -d build/site/trees . build/site/html
	@$(BIN)/python -m sphinx -q -W -b linkcheck -c docs/site -d build/site/trees . build/site/links

# The wheel is repaired (its OpenMP runtime is put inside) if it was built on Linux.
wheel: $(VENV)/.wheel
	@echo "==> build, auditwheel repair: dist/, wheelhouse/"
	@rm -rf dist wheelhouse
	@$(BIN)/python -m build -q
	@if [ "$$(uname)" = Linux ]; then PATH="$(abspath $(BIN)):$$PATH" \
	    $(BIN)/auditwheel repair --strip -w wheelhouse dist/*.whl; fi

# Python itself leaks on purpose at its end, and is not built with the sanitizers: preload them.
sanitize: $(VENV)/.test $(VENV)/.wheel
	@echo "==> build with ASan and UBSan, pytest"
	@FASTOPT_SANITIZE=address,undefined $(BIN)/python setup.py -q build \
	    --build-base build/sanitize --build-lib build/sanitize/lib
	@PYTHONPATH="$(CURDIR)/build/sanitize/lib" PYTHONMALLOC=malloc \
	    ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	    LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	    $(BIN)/pytest $(ARGS)

clean:
	@echo "==> removing $(VENV) build dist wheelhouse and built files"
	@rm -rf $(VENV) build docs/site/made dist wheelhouse *.egg-info
	@rm -f fastopt/_core.c fastopt/_core.*.so fastopt/_core.*.pyd fastopt/_buildinfo.py

$(BIN)/python:
	@echo "==> making $(VENV) with $(PYTHON)"
	@command -v $(firstword $(CC)) > /dev/null || { echo "No C compiler. $(APT)"; exit 1; }
	@command -v $(PYTHON) > /dev/null || { echo "No $(PYTHON). $(APT)"; exit 1; }
	@$(PYTHON) -c 'import os, sysconfig; open(sysconfig.get_path("include") + "/Python.h")' \
	    2> /dev/null || { echo "No Python.h. $(APT)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "No venv. $(APT)"; exit 1; }

$(VENV)/.run: $(BIN)/python $(SOURCES)
	@echo "==> building and installing fastopt[cli] into $(VENV)"
	@$(PIP) install -e '.[cli]'
	@touch $@

$(VENV)/.test: $(BIN)/python $(SOURCES)
	@echo "==> building and installing fastopt[cli,test] into $(VENV)"
	@$(PIP) install -e '.[cli,test]'
	@touch $@ $(VENV)/.run

$(VENV)/.bench: $(BIN)/python $(SOURCES)
	@echo "==> building and installing fastopt[bench] into $(VENV)"
	@$(PIP) install -e '.[bench]'
	@touch $@

$(VENV)/.docs: $(BIN)/python $(SOURCES)
	@echo "==> building and installing fastopt[docs] into $(VENV)"
	@$(PIP) install -e '.[docs]'
	@touch $@

# --group, for the lists under [dependency-groups], came with pip 25.1.
$(VENV)/.lint: $(BIN)/python pyproject.toml
	@echo "==> installing the linters into $(VENV)"
	@$(PIP) install 'pip>=25.1' && $(PIP) install --group lint
	@touch $@

$(VENV)/.wheel: $(BIN)/python pyproject.toml
	@echo "==> installing the build tools into $(VENV)"
	@$(PIP) install 'pip>=25.1' && $(PIP) install --group wheel
	@touch $@
