# The Python to build .venv from, and what to hand to `pip install` for torch: any arguments, such as
#   make test TORCH="torch==2.13.0 --index-url URL_OF_YOUR_CPU_OR_CUDA_INDEX"
# A PYTHON that already has torch 2.11 or newer keeps it.
PYTHON ?= python3
TORCH ?= torch==2.13.0
DEMO_ARGS ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=

PINS := constraints.txt
STAMPS := .venv/.stepbus
RUN := .venv/bin/python

export TORCH
export UV_SYSTEM_CERTS ?= true
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test check lint test-device bench install install-demo clean FORCE

help:
	@echo "make demo         install stepbus and the extra 'demo', train a small language model"
	@echo "make test         install everything for development, run the whole test suite"
	@echo "make check        lint, types and the quick tests"
	@echo "make lint         lint and types alone"
	@echo "make test-device  the tests that need an accelerator"
	@echo "make bench        what everything costs, beside peers; report and charts in bench-report/ (1 h)"
	@echo "make clean        remove .venv and caches; runs are kept"
	@echo "PYTHON=$(PYTHON)  TORCH=$(TORCH)"

demo: install-demo
	.venv/bin/stepbus demo $(DEMO_ARGS)

test: install
	$(RUN) -m pytest --numprocesses 3 --dist worksteal $(PYTEST_ARGS)

check: lint
	$(RUN) -m pytest -m "not slow" --numprocesses 2 --quiet $(PYTEST_ARGS)

lint: install
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	.venv/bin/lint-imports

test-device: install
	$(RUN) -m pytest tests/device $(PYTEST_ARGS)

bench: $(STAMPS)/bench
	$(RUN) -m benchmarks --report bench-report $(BENCH_ARGS)

clean:
	rm -rf .venv build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

install-demo: $(STAMPS)/demo
install: $(STAMPS)/dev

# Each stamp is written when its stage is whole, so an interrupted one is done again. The first holds
# what .venv was made with: one that was made for another folder, or with another PYTHON or TORCH than
# is asked for by hand, is replaced.
FRESH := $(shell test -x .venv/bin/python \
	&& grep -qxF 'folder $(CURDIR)' $(STAMPS)/base 2>/dev/null \
	$(if $(filter-out file,$(origin PYTHON)),&& grep -qxF 'python $(PYTHON)' $(STAMPS)/base) \
	$(if $(filter-out file,$(origin TORCH)),&& grep -qxF 'torch $(TORCH)' $(STAMPS)/base) \
	&& echo yes)

$(STAMPS)/base: $(PINS) $(if $(FRESH),,FORCE)
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit( \
		f"stepbus needs Python 3.11 or newer, $(PYTHON) is {v[0]}.{v[1]}: make PYTHON=...")'
	@rm -rf .venv
	@set -e; \
	find_torch='import torch; v = torch.__version__; major, minor = v.split(".")[:2]; \
		print(v if (int(major), int(minor)) >= (2, 11) else "")'; \
	kept=$$($(PYTHON) -c "$$find_torch" 2>/dev/null || true); \
	if [ -n "$$kept" ]; then \
		echo "== .venv: torch $$kept of $(PYTHON) is kept, nothing to download for it"; \
		$(PYTHON) -m venv --system-site-packages .venv; \
		if [ "$$($(RUN) -c "$$find_torch" 2>/dev/null)" != "$$kept" ]; then \
			$(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("purelib")); \
				print(sysconfig.get_path("platlib"))' \
				> "$$($(RUN) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/_parent.pth"; \
			$(RUN) -c 'import torch'; \
		fi; \
	else \
		echo "== .venv: installs $$TORCH: a CPU build is about 200 MB to download and 850 MB on"; \
		echo "   disk, a CUDA build several GB; TORCH=... chooses another"; \
		$(PYTHON) -m venv .venv; \
		if [ "$$TORCH" = "$$(grep '^torch==' $(PINS))" ]; then pins="-c $(PINS)"; else pins=; fi; \
		$(RUN) -m pip install --quiet --disable-pip-version-check $$pins $$TORCH; \
	fi
	@echo "== .venv: installs uv, which installs the rest: 25 MB to download, 40 MB on disk"
	@$(RUN) -m pip install --quiet --disable-pip-version-check --ignore-installed -c $(PINS) uv
	@mkdir -p $(STAMPS)
	@printf '%s\n' "torch ; sys_platform == 'never'" > $(STAMPS)/keep-torch.txt
	@printf '%s\n' 'folder $(CURDIR)' 'python $(PYTHON)' "torch $$TORCH" > $@

# uv is told to leave torch out: it would replace a torch that it does not know by gigabytes from the
# public index. It uses the index that pip was told to use. A stage cut off half-way is reinstalled.
define install_extra
	@set -e; again=; if [ -e $(STAMPS)/unfinished ]; then again=--reinstall; fi; \
	touch $(STAMPS)/unfinished; \
	index=$$($(RUN) -m pip config get global.index-url 2>/dev/null || true); \
	index="$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$index}}"; \
	if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$$index"; fi; \
	$(RUN) -m uv pip install --quiet --python $(RUN) $$again \
		--constraints $(PINS) --overrides $(STAMPS)/keep-torch.txt --editable '.[$(1)]'; \
	$(RUN) -c 'import stepbus, torch'; \
	rm $(STAMPS)/unfinished
endef

$(STAMPS)/demo: $(STAMPS)/base pyproject.toml $(PINS)
	@echo "== .venv: installs stepbus and its extra demo: 65 MB to download, 200 MB on disk"
	$(call install_extra,demo)
	@touch $@

$(STAMPS)/dev: $(STAMPS)/base pyproject.toml $(PINS)
	@echo "== .venv: installs stepbus, demo and the development tools: 1 GB to download, 2 GB on disk"
	$(call install_extra,dev)
	@touch $(STAMPS)/demo $@

$(STAMPS)/bench: $(STAMPS)/dev
	@echo "== .venv: installs the peers of the benchmarks: 130 MB to download, 350 MB on disk"
	$(call install_extra,bench)
	@touch $@
