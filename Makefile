# The commands of this project. Each one installs what it needs; `make help` lists them.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
NPM := tests/browser/npm
PEERS := benches/peers
PEERS_VENV := build/peers/venv
AUDIT := build/audit
CORE_SOURCES := Cargo.toml Cargo.lock pyproject.toml $(shell find rust_core load_client -name '*.rs' -o -name Cargo.toml)

.DEFAULT_GOAL := help
.PHONY: help run run-cluster install bench bench-suite bench-bindings bench-core bench-peers soak simulate simulate-cluster conformance echo-server fuzz fuzz-corpora fuzz-api miri sanitize audit test test-rust test-python lint format lock vendor clean

help: ## lists these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: install ## builds everything and starts the demo on http://127.0.0.1:8000
	$(BIN)/jasaweb-rt serve --demo

run-cluster: install $(VENV)/.dev ## three servers that are one on http://127.0.0.1:8000, with three NATS servers and one PostgreSQL
	$(BIN)/python -m tests.cluster

install: $(VENV)/.core-release ## builds the package (release profile) into .venv

bench: bench-suite bench-bindings bench-core ## measures everything; takes three quarters of an hour

bench-suite: $(VENV)/.core-release ## measures the core against the floor program: all, or BENCH_ARGS="cost flood"
	cargo build --locked --release --quiet -p jasaweb_rt_floor
	$(MANY_FILES) && $(BIN)/python -m benches $(BENCH_ARGS)

bench-bindings: $(VENV)/.core-release $(VENV)/.dev ## measures what a call into the core costs
	$(MANY_FILES) && $(BIN)/python -m pytest benches/bindings --quiet --benchmark-columns=median,iqr,ops,rounds --benchmark-sort=name

bench-core: ## measures the core's parts one by one
	$(MANY_FILES) && cargo bench --locked --quiet -p jasaweb_rt_core

bench-peers: $(PEERS_VENV)/.installed $(PEERS)/node_modules/.installed ## installs other servers and measures them beside ours
	$(MAKE) --no-print-directory bench-suite BENCH_ARGS="peers $(BENCH_ARGS)"

soak: $(VENV)/.core-release ## joins, floods, leaves for ten minutes (SOAK_MINUTES): nothing may grow
	$(BIN)/python -m benches.soak

simulate: $(VENV)/.core-dev ## faults of every kind for ten minutes (SIMULATE_MINUTES): nothing may be lost, doubled or out of order
	$(BIN)/python -m tests.simulator $(SIMULATE_ARGS)

simulate-cluster: $(VENV)/.core-dev ## the same of three nodes with three NATS servers, in network namespaces; as root
	$(BIN)/python -m tests.simulator --cluster $(SIMULATE_ARGS)

conformance: $(VENV)/.dev echo-server ## all 517 Autobahn cases (RFC 6455, RFC 7692) against the sessions; takes two minutes
	$(BIN)/python -m tests.conformance --reports build/conformance

# Sessions that send each message back. As `cargo test` builds it, so that nothing is built twice.
echo-server:
	cargo build --locked --quiet --workspace --example echo

FUZZ_MINUTES ?= 60
FUZZERS := frame inflate token head
FUZZ_CRATE := rust_core/fuzz
FUZZ := build/fuzz
# Longer inputs reach nothing that shorter ones do not, and are kept for ever.
FUZZ_OPTIONS := -max_len=2048 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0

fuzz: $(FUZZ)/.built ## looks for bytes that break a property of the core: an hour (FUZZ_MINUTES), a quarter of it each
	for target in $(FUZZERS); do mkdir -p $(FUZZ)/found/$$target; $(FUZZ)/bin/$$target \
	  -max_total_time=$$(($(FUZZ_MINUTES) * 60 / $(words $(FUZZERS)))) -dict=$(FUZZ_CRATE)/dictionaries/$$target.dict $(FUZZ_OPTIONS) \
	  -artifact_prefix=$(FUZZ)/failed-$$target- $(FUZZ)/found/$$target $(FUZZ_CRATE)/corpus/$$target || exit 1; done

# What `make fuzz` has found reaches into more of the code; the tests run it from then on.
fuzz-corpora: $(FUZZ)/.built
	for target in $(FUZZERS); do $(FUZZ)/bin/$$target -merge=1 -use_counters=0 $(FUZZ_OPTIONS) $(FUZZ_CRATE)/corpus/$$target $(FUZZ)/found/$$target || exit 1; done

$(FUZZ)/.built: $(CORE_SOURCES) build/.nightly build/tools/bin/cargo-fuzz
	PATH="$(CURDIR)/build/tools/bin:$$PATH" RUSTUP_TOOLCHAIN=nightly CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
	  cargo fuzz build --fuzz-dir $(FUZZ_CRATE) --target-dir target/fuzz --features fuzzers
	mkdir -p $(FUZZ)/bin
	cp $(FUZZERS:%=target/fuzz/$(HOST)/release/%) $(FUZZ)/bin
	touch $@

build/tools/bin/cargo-fuzz:
	cargo install --quiet --locked --root build/tools --version 0.13.2 cargo-fuzz

miri: build/.nightly ## runs the parts without I/O in Miri, which finds undefined behaviour in what they stand on
	MIRIFLAGS=-Zmiri-disable-isolation PROPTEST_CASES=2 PROPTEST_DISABLE_FAILURE_PERSISTENCE=1 \
	  cargo +nightly miri test --locked --quiet --target-dir target/miri -p jasaweb_rt_core --lib -- $(MIRI_TESTS)

# Modules that touch no socket and no clock of the system's.
MIRI_TESTS := close:: deflate:: due_ring:: extensions:: forwarding:: frame:: frame_boundary:: handshake:: index:: inflate:: \
  origin:: rate_limit:: rounds:: send_queue:: sequence:: token::

sanitize: build/.nightly ## runs the core's tests, many threads and real sockets, under ThreadSanitizer
	RUSTFLAGS=-Zsanitizer=thread CARGO_PROFILE_DEV_OPT_LEVEL=1 \
	  cargo +nightly test --locked --quiet -Zbuild-std --target $(HOST) --target-dir target/sanitize -p jasaweb_rt_core --lib --tests

HOST = $(shell rustc -vV | sed -n 's/^host: //p')

# Only for what looks for faults; everything else is built by the stable toolchain.
build/.nightly:
	rustup toolchain install nightly --profile minimal --component miri,rust-src
	mkdir -p build && touch $@

fuzz-api: $(VENV)/.core-dev ## requests made up from the OpenAPI schema for ten minutes (FUZZ_SECONDS): every answer must be as it says
	$(BIN)/python -m tests.fuzz_api

audit: $(AUDIT)/venv/.installed $(AUDIT)/bin/cargo-deny ## what is known of every locked dependency: licences, sources, vulnerabilities
	$(AUDIT)/venv/bin/python tests/audit.py $(AUDIT)

test: test-rust test-python ## builds everything and runs every test

test-rust:
	cargo test --locked --workspace

test-python: $(VENV)/.core-dev $(VENV)/.browser $(NPM)/node_modules/.installed build/proxies/.unpacked echo-server
ifdef PYTEST_ARGS
	$(BIN)/python -m pytest $(PYTEST_ARGS)
else
	$(BIN)/python -m pytest --ignore=tests/simulator || { test $$? -eq 1 && echo "$(AGAIN)" && $(BIN)/python -m pytest --verbose --last-failed --last-failed-no-failures=none --ignore=tests/simulator; }
	$(BIN)/python -m pytest tests/simulator
endif

# Real sockets, processes, databases and browsers on a machine that may be busy: what fails among all others is tried once
# more by itself, and named. Any other end of pytest (1: tests have failed) is final, and so is what the simulator says,
# for a seed that has found something strikes elsewhere the next time.
AGAIN := Once more, by themselves. What passes now depends on what else the machine does: mend it, too.

lint: $(VENV)/.core-dev ## formatting, lints, types, stub, migrations
	cargo fmt --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked --workspace --all-targets --features python -- -D warnings
	$(BIN)/ruff format --check benches python tests
	$(BIN)/ruff check benches python tests
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest --ignore-disjoint-bases jasaweb_rt._core
	$(BIN)/squawk --config .squawk.toml migrations/*.sql

format: $(VENV)/.dev ## rewrites Rust and Python in the house format
	cargo fmt
	$(BIN)/ruff format benches python tests
	$(BIN)/ruff check --fix benches python tests

lock: $(VENV)/.dev ## writes requirements/*.txt anew from pyproject.toml, and those of the peers
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra embedded --group build $(LOCK_OPTIONS) -o requirements/runtime.txt
	$(BIN)/uv pip compile pyproject.toml --extra embedded --group test $(LOCK_OPTIONS) -o requirements/dev.txt
	$(BIN)/uv pip compile --group audit $(LOCK_OPTIONS) -o requirements/audit.txt
	$(BIN)/uv pip compile $(PEERS)/requirements.in $(LOCK_OPTIONS) -o $(PEERS)/requirements.txt

LOCK_OPTIONS := --quiet --generate-hashes --no-emit-index-url --universal --python-version 3.11 --custom-compile-command "make lock"

CARGO_DENY_VERSION := 0.20.2

# The viewer of the OpenAPI schema: for another version, change both lines and run `make vendor`.
SWAGGER_UI_VERSION := 5.35.0
SWAGGER_UI_SHA512 := 534eaba4cb56f55dd73c638179a993512af4674f63317e0826e00da44fc465b021c341bc0a0c2bcd4e18997927fe1d3008336c5dd19aad334d1c2dec53cc9551
SWAGGER_UI := python/jasaweb_rt/web/static/vendor/swagger-ui
SWAGGER_UI_FILES := LICENSE NOTICE swagger-ui.css swagger-ui-bundle.js swagger-ui-bundle.js.LICENSE.txt

vendor: ## fetches the files of other projects that the wheel carries (needs npm)
	rm -rf build/vendor && mkdir -p build/vendor
	npm pack --silent --pack-destination build/vendor swagger-ui-dist@$(SWAGGER_UI_VERSION)
	echo "$(SWAGGER_UI_SHA512)  build/vendor/swagger-ui-dist-$(SWAGGER_UI_VERSION).tgz" | sha512sum --check --quiet
	tar -xzf build/vendor/swagger-ui-dist-$(SWAGGER_UI_VERSION).tgz -C $(SWAGGER_UI) --strip-components=1 $(SWAGGER_UI_FILES:%=package/%)
	sed -i 's/^Version: .*/Version: $(SWAGGER_UI_VERSION)/' $(SWAGGER_UI)/README.md

clean: ## removes what was built; data under .jasaweb stays
	rm -rf $(VENV) $(NPM)/node_modules $(PEERS)/node_modules target build python/jasaweb_rt/*.so

# Thousands of connections in a process: as many open files as the system allows.
MANY_FILES := ulimit -S -n "$$(ulimit -H -n)"

NEEDS_PYTHON := command -v $(PYTHON) >/dev/null \
  || { echo "$(PYTHON) is not installed; name another Python, 3.11 or newer: make PYTHON=python3.12 …" >&2; exit 1; }
# The system's, or Debian's package where we may install it.
NEEDS_NPM := command -v npm >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends nodejs npm; } \
  || { echo "npm is missing; install Node.js 18 or newer with npm (Debian: apt-get install nodejs npm)" >&2; exit 1; }

$(VENV)/.venv:
	@$(NEEDS_PYTHON)
	@command -v cargo >/dev/null || { echo "cargo is not installed; install a Rust toolchain, 1.89 or newer" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.runtime: $(VENV)/.venv requirements/runtime.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/runtime.txt
	touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	touch $@

$(VENV)/.core-release: $(VENV)/.runtime $(CORE_SOURCES)
	$(BIN)/maturin develop --release --quiet
	rm -f $(VENV)/.core-dev && touch $@

$(VENV)/.core-dev: $(VENV)/.dev $(CORE_SOURCES)
	$(BIN)/maturin develop --quiet
	rm -f $(VENV)/.core-release && touch $@

# A browser for the tests: the system's, or Debian's package where we may install it.
$(VENV)/.browser: $(VENV)/.dev
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } \
	  || { echo "chromium is missing; install it (Debian: apt-get install chromium) for the browser tests" >&2; exit 1; }
	touch $@

# nginx and Caddy for the tests: the system's, or Debian's packages, unpacked here and not installed, for that would start
# them. Where that may not be done, their tests are skipped.
build/proxies/.unpacked:
	mkdir -p $(@D)
	@{ command -v nginx && command -v caddy; } >/dev/null || { cd $(@D) && apt-get update -qq \
	  && apt-get -o APT::Sandbox::User=root download -qq nginx caddy && for package in *.deb; do dpkg-deb -x $$package . || exit 1; done && rm -- *.deb; } \
	  || echo "nginx or caddy is missing; install them (Debian: apt-get install nginx caddy) for the tests of proxies" >&2
	touch $@

# What the browser tests load into their pages, React and axe-core, in the versions of the lock file.
$(NPM)/node_modules/.installed: $(NPM)/package-lock.json
	@$(NEEDS_NPM)
	npm --prefix $(NPM) ci --silent
	touch $@

# What asks about dependencies is none itself, so it has a place of its own.
$(AUDIT)/venv/.installed: requirements/audit.txt
	@$(NEEDS_PYTHON)
	$(PYTHON) -m venv $(AUDIT)/venv
	$(AUDIT)/venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/audit.txt
	touch $@

$(AUDIT)/bin/cargo-deny:
	cargo install --locked --quiet --root $(AUDIT) cargo-deny@$(CARGO_DENY_VERSION)

# Other servers, in places of their own: what they need is no concern of ours.
$(PEERS_VENV)/.installed: $(PEERS)/requirements.txt
	@$(NEEDS_PYTHON)
	$(PYTHON) -m venv $(PEERS_VENV)
	$(PEERS_VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $(PEERS)/requirements.txt
	touch $@

$(PEERS)/node_modules/.installed: $(PEERS)/package-lock.json
	@$(NEEDS_NPM)
	npm --prefix $(PEERS) ci --silent
	touch $@
