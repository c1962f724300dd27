# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
#
#   make demo ARGS="--seconds 60 --out DIR"   the built-in world through the real nodes
#   make test                                 lint and every test that is not slow
#   make test-all                             the slow tests too
#   make bench BENCH=robot                    measures the stated figures
#   make setup | lint | clean
#
# All set themselves up: nothing has to be installed or sourced by hand but what `make check-system`
# asks for. Variables:
#   PYTHON       the Python to start from, 3.10 or newer                          [python3]
#   VENV         where the environment goes                                       [.venv]
#   TORCH_INDEX  address of a package index with CPU-only torch builds, for `setup` and `test`:
#                the default registry's torch for Linux brings several GB of CUDA  [none]
#   ARGS         options for `demo`, `bench`, and pytest in `test`
#   WORKERS      tests that run side by side; 0: one after another, as a debugger needs       [3]

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
BENCH ?= robot
# More than there are processors: tests of nodes mostly wait.
WORKERS ?= 3
ARGS ?=
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# Discovery stays on this machine, away from other ROS systems on it.
export ROS_AUTOMATIC_DISCOVERY_RANGE := LOCALHOST
ifndef ROS_DOMAIN_ID
ROS_DOMAIN_ID := $(shell echo $$((1 + $$(od -An -N2 -tu2 /dev/urandom) % 100)))
endif
export ROS_DOMAIN_ID
# A sourced ROS distribution or another environment would shadow what is installed here.
unexport PYTHONPATH AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH PYTHONHOME
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE ROS_LOCALHOST_ONLY

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
# What an environment depends on; its stamp carries their digest, so an edit builds it anew.
INPUTS := setup.py pyproject.toml constraints.txt CMakeLists.txt package.xml Makefile \
  $(sort $(wildcard msg/*.msg srv/*.srv cmake/*))
DIGEST := $(shell { echo "$(CURDIR) $(TORCH_INDEX)"; $(PYTHON) -V || true; cat $(INPUTS); } 2>&1 | sha256sum | cut -c1-16)
ROBOT := $(VENV)/robot-$(DIGEST).stamp
DEV := $(VENV)/dev-$(DIGEST).stamp
# The editable install generates modules in the tree; without them the stamp means nothing.
ifeq ($(wildcard crowdhmt_ros/msg/__init__.py),)
$(ROBOT): FORCE
endif

# What a robot imports at run time is Python 3.8, which JetPack 5 has; the rest is for workstations.
WORKSTATION := graph elastic tta cli dashboard msg srv _lib bundle/writer.py planner/pareto.py

.PHONY: help setup setup-robot demo test test-all bench lint clean check-system FORCE

help:
	@sed -n '4,19s/^# \{0,1\}//p' $(firstword $(MAKEFILE_LIST))

setup: $(DEV)

setup-robot: $(ROBOT)

# Not a recursive make: those run even under make -n.
define CHECK_SYSTEM
missing=
command -v gcc >/dev/null || missing+=' gcc'
command -v g++ >/dev/null || missing+=' g++'
if ! command -v $(PYTHON) >/dev/null; then
  missing+=' python3 python3-venv python3-dev'
else
  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
    echo "$(PYTHON) is $$($(PYTHON) -V 2>&1), 3.10 or newer is needed: make PYTHON=python3.10 ..." >&2
    exit 2; }
  $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing+=' python3-venv'
  $(PYTHON) -c 'import os, sysconfig as s; os.stat(os.path.join(s.get_path("include"), "Python.h"))' \
    2>/dev/null || missing+=' python3-dev'
fi
if [ -n "$$missing" ]; then
  echo "system packages are missing: sudo apt-get install$$missing" >&2
  exit 2
fi
endef

check-system:
	@$(CHECK_SYSTEM)

# The robot side: what a robot runs, without torch, onnx and scipy.
$(ROBOT):
	@$(CHECK_SYSTEM)
	echo 'setting up $(VENV): ROS 2 by pip and the interfaces, about two minutes the first time'
	if ! $(BIN)/python -c 'import sys; sys.exit(sys.prefix == sys.base_prefix)' 2>/dev/null; then
	  rm -rf $(VENV)
	  $(PYTHON) -m venv $(VENV)
	fi
	rm -f $(VENV)/*.stamp
	$(PIP) install -c constraints.txt -e .
	touch $@

# On top: everything that development and the offline side need.
$(DEV): $(ROBOT)
	@echo 'adding what training, search and the tests need'
	if [ -n '$(TORCH_INDEX)' ]; then
	  $(PIP) install -c constraints.txt --index-url '$(TORCH_INDEX)' torch
	fi
	$(BIN)/python -c 'from importlib.metadata import requires; print(*(
	  line.partition(";")[0] for line in requires("crowdhmt-ros")
	  if "extra == \"dev\"" in line), sep="\n")' \
	  > $(VENV)/dev-requirements.txt
	$(PIP) install -c constraints.txt -r $(VENV)/dev-requirements.txt
	touch $@

demo: $(ROBOT)
	@$(BIN)/crowdhmt demo $(ARGS)

# Two parts: side by side what computes or waits, then by itself what holds a time to a limit.
# Code 5 of one part, which selected nothing, is none of the whole.
# They start many processes: what Python has compiled for one serves the next.
define TESTS
unset PYTHONDONTWRITEBYTECODE
status=5
part() {
  code=0
  $(BIN)/python -m pytest -q "$$@" $(ARGS) || code=$$?
  case $$code in
    0) if [ $$status = 5 ]; then status=0; fi ;;
    2) exit 2 ;;
    5) ;;
    *) status=$$code ;;
  esac
}
part -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m '$(1)not alone'
part -m '$(1)alone'
exit $$status
endef

test: $(DEV) lint
	@$(call TESTS,not slow and )

test-all: $(DEV) lint
	@$(call TESTS,)

bench: $(DEV)
	@$(BIN)/crowdhmt bench $(BENCH) $(ARGS)

lint: $(DEV)
	@$(BIN)/ruff check --quiet .
	$(BIN)/mypy --no-error-summary
	find crowdhmt_ros -name '*.py' $(foreach x,$(WORKSTATION),! -path 'crowdhmt_ros/$x' ! -path 'crowdhmt_ros/$x/*') \
	  -print0 | xargs -0 $(BIN)/vermin --quiet --no-tips --violations --target=3.8-

clean:
	rm -rf $(VENV) build install log dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -rf crowdhmt_ros/msg crowdhmt_ros/srv crowdhmt_ros/_lib crowdhmt_ros/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
