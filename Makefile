# `make demo` and `make test` are all a fresh machine needs: Python 3.11+ and a package registry.
PYTHON ?= python3
, := ,
# The suite starts some thousand processes; none should read the same sources again.
export PYTHONDONTWRITEBYTECODE :=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
# TensorRT for RTX has no wheels for other machines.
TENSORRT := $(if $(filter x86_64,$(shell uname -m)),[rtx$(,)compile],[compile])
OURS := -e 'plugins/edgekit-runtime[text,image,audio]' -e '.[export,metrics,parquet,testing]' -e 'plugins/edgekit-onnxruntime[compile]' \
	-e 'plugins/edgekit-openvino[compile]' -e 'plugins/edgekit-tensorrt$(TENSORRT)' -e plugins/edgekit-example
SOURCES := edgekit plugins tests samples
WHEELS := . $(addprefix plugins/edgekit-,runtime onnxruntime openvino tensorrt example)

.PHONY: help install demo test test-slow architectures check bench dist clean

help:            ## show the targets
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/'

install: $(VENV)/.installed  ## a virtual environment with everything, pinned by constraints.txt

$(VENV)/.installed: constraints.txt pyproject.toml requirements-dev.txt $(wildcard plugins/*/pyproject.toml)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt torch
	$(PIP) install -c constraints.txt -r requirements-dev.txt $(OURS)
	touch $@

demo: install  ## fine-tune, export, compile for this machine on two runtimes, validate, package, run
	$(BIN)/python samples/01-sentiment/demo.py build/demo

test: install  ## the tests, without those that take over a minute
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow"

test-slow: install  ## those that take over a minute, without the sweep over architectures
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "slow and not sweep"

architectures: install  ## export every architecture that the README of exporting lists
	$(BIN)/python -m pytest -q -n 2 -m sweep tests/exporting/test_architectures.py

check: install  ## style, types, layers
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install  ## benchmarks, paired in one run
	$(BIN)/python -m tests.benchmarks

dist: install  ## every wheel, into dist/
	rm -rf dist
	$(PIP) wheel -q --no-deps --wheel-dir dist $(WHEELS)

clean:           ## remove what make made, the virtual environment too
	rm -rf build dist $(VENV)
