# `make` alone lists what there is. Everything lives in .venv of this folder; nothing is installed elsewhere.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp

.DEFAULT_GOAL := help
.PHONY: help setup demo notebook notebooks test coverage lint bench soak lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## make .venv with the pinned packages and .venv/bin/zads (PYTHON=… to choose a Python)

$(STAMP): requirements.lock pyproject.toml .ci/set_up.py .ci/find_python .ci/compile_decoder.py
	@python=$$(sh .ci/find_python $(PYTHON)) && "$$python" .ci/set_up.py $(VENV)
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python .ci/compile_decoder.py
	@touch $@

demo: $(STAMP) ## the whole system on this machine in a minute (ALERTS=folder for real packets)
	@$(BIN)/zads demo $(if $(ALERTS),--alerts "$(ALERTS)")

notebook: $(VENV)/.lab ## open the notebooks in JupyterLab, an archive to try them on at hand
	$(BIN)/python -c "import zads; print(zads.sample_archive())"
	$(BIN)/jupyter lab --notebook-dir notebooks $(LAB)

$(VENV)/.lab: $(STAMP) requirements-lab.lock
	@$(BIN)/python .ci/set_up.py $(VENV) requirements-lab.lock
	@touch $@

notebooks: $(STAMP) ## run the notebooks; each with its pictures is then notebooks/*.ipynb
	$(BIN)/python -m tests.notebooks.run

test: lint ## lint, types and tests, as CI runs them
	$(BIN)/pytest -n 3 --dist loadscope --no-loadscope-reorder

coverage: $(STAMP) ## the same tests, and what they run of each file (TESTS=… to choose some)
	$(BIN)/pytest -n 3 --dist loadscope --no-loadscope-reorder --cov --cov-report=term $(TESTS)

lint: $(STAMP) ## lint, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(STAMP) ## every speed claim, measured beside its peer
	$(BIN)/python -m benchmarks.decode
	$(BIN)/python -m benchmarks.decode_rubin
	$(BIN)/python -m benchmarks.end_to_end
	$(BIN)/python -m benchmarks.latency
	$(BIN)/python -m benchmarks.burst
	$(BIN)/python -m benchmarks.simulate
	$(BIN)/python -m benchmarks.archive_ingest
	$(BIN)/python -m benchmarks.archive_rubin
	$(BIN)/python -m benchmarks.archive_follow
	$(BIN)/python -m benchmarks.replay
	$(BIN)/python -m benchmarks.everything
	$(BIN)/python -m benchmarks.filters
	$(BIN)/python -m benchmarks.type_ia
	$(BIN)/python -m benchmarks.sandbox
	$(BIN)/python -m benchmarks.attack
	$(BIN)/python -m benchmarks.crossmatch
	$(BIN)/python -m benchmarks.stamps
	$(BIN)/python -m benchmarks.channels cost
	$(BIN)/python -m benchmarks.channels crowd

soak: $(STAMP) ## long proofs: hours of faults (ZADS_SEEDS=1-200 chooses the storms)
	$(BIN)/pytest -m soak

lock: $(STAMP) ## choose versions anew: requirements.lock and cluster/kafka/kafka.lock
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade --quiet \
		--generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links \
		--custom-compile-command "make lock" --output-file requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra lab --universal --python-version 3.11 --quiet \
		--generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links -c requirements.lock \
		--custom-compile-command "make lock" --output-file requirements-lab.lock
	$(BIN)/python -m cluster.kafka.fetch

clean: ## remove .venv and what tools left; ~/.zads and ~/.cache/zads stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
