# The tasks of plantops. Each one makes or refreshes .venv by itself and says what it does.
# Kept to GNU make 3.81 and POSIX sh, so that a plain macOS runs it as well as Linux.

VENV := .venv
PYTHON := $(VENV)/bin/python

# Homebrew and Debian keep mosquitto in an sbin folder that is not on every user's PATH.
SBIN := /usr/sbin:/usr/local/sbin:/opt/homebrew/sbin

# More workers than cores, for tests mostly wait; ARGS='-n 0' comes later on the line, and wins.
# A few tests at a time, so that all workers end together, and most of a module's share what it has set up.
SIDE_BY_SIDE := -n 8 --dist load --maxschedchunk 8

# Python keeps what it has compiled: else each of eight workers and each command that they start compiles all anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test check bench coverage test-all test-lowest
.NOTPARALLEL:

help:  ## list the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s  %s\n", $$1, $$2 }' Makefile
	@echo "ARGS='...' is handed on to plantops demo, pytest or the benchmarks."

# For longer than 30 s: make demo ARGS='-W 600', or ARGS= to run until Ctrl-C.
demo: ARGS ?= -W 30
demo: $(VENV)/demo.stamp  ## 30 s of simulated devices on an embedded broker
	@$(VENV)/bin/plantops demo --embedded $(ARGS)

test bench: export PATH := $(PATH):$(SBIN)
test: $(VENV)/dev.stamp  ## all tests, on a real Mosquitto (installed when missing)
	@.ci/mosquitto
	@echo "==> pytest"
	@$(PYTHON) -m pytest $(SIDE_BY_SIDE) $(ARGS)

check: $(VENV)/dev.stamp  ## formatting, lint and types
	@echo "==> ruff format --check"
	@$(PYTHON) -m ruff format --check .
	@echo "==> ruff check"
	@$(PYTHON) -m ruff check .
	@echo "==> mypy"
	@$(PYTHON) -m mypy
	@echo "==> basedpyright"
	@$(VENV)/bin/basedpyright --level error --pythonpath $(PYTHON)

bench: $(VENV)/dev.stamp  ## speed, in numbers
	@.ci/mosquitto
	@$(PYTHON) -m benchmarks $(ARGS)

coverage: export PATH := $(PATH):$(SBIN)
coverage: export PLANTOPS_FRESH := 1
coverage: $(VENV)/dev.stamp  ## the share of lines and branches that the tests run
	@.ci/mosquitto
	@$(PYTHON) -m coverage erase
	@$(PYTHON) -m coverage run -m pytest $(SIDE_BY_SIDE) -n 4 $(ARGS)  # slower, so fewer at once
	@$(PYTHON) -m coverage combine --quiet || true  # a process that is killed may leave half a file
	@$(PYTHON) -m coverage report

test-all: export PATH := $(PATH):$(SBIN)
test-all:  ## all tests on Python 3.11, 3.12, 3.13 and 3.14, as far as this machine has them
	@.ci/mosquitto
	@.ci/test-all $(SIDE_BY_SIDE) $(ARGS)

test-lowest: export PATH := $(PATH):$(SBIN)
test-lowest:  ## all tests on the oldest dependencies that pyproject.toml admits (needs uv)
	@.ci/mosquitto
	@uv venv --quiet --clear --python 3.11 .venv-lowest
	@uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct --editable '.[dev]'
	@.venv-lowest/bin/python -m pytest $(SIDE_BY_SIDE) $(ARGS)

$(VENV)/demo.stamp $(VENV)/dev.stamp: pyproject.toml constraints.txt
	@.ci/venv $(basename $(@F))
