# What there is to type; `make help` lists it. Everything made or fetched goes below target/.

# The demo: how long, how many rows per second, how many kills.
MINUTES ?= 1
RATE ?= 5000
KILLS ?= 1
# For demo-mysql: mysql or mariadb. A SOURCE of the environment is somebody's connection string.
ifneq ($(origin SOURCE),command line)
SOURCE := mysql
endif
# Live tests: these PostgreSQL versions, each of which must be had. Empty: every one that can be had.
MAJORS ?=
# Live tests at the same time. They mostly wait, and share what processors there are with the servers.
LIVE_THREADS ?= $(shell n="$$(nproc)"; echo $$((n > 4 ? n : 4)))
# Live tests that depend on the server's version.
MATRIX := live::zoo live::catalog live::preflight live::fixtures live::apply
# Fuzzing. A TARGET of the environment is somebody's connection string, so only make's own counts.
# For demo-failback it is the server that changes go back to: postgres, mysql or mariadb.
BACK := postgres
ifeq ($(origin TARGET),command line)
BACK := $(TARGET)
else
TARGET := pgoutput
endif
ifneq ($(origin SECONDS),command line)
SECONDS := 60
endif

CARGO ?= cargo
BUILT := $(or $(CARGO_TARGET_DIR),target)
# The demo's programs: release, or debug for those that `make unit` has built.
PROFILE := release
BUILD_DEMO := $(CARGO) build --release -p replicator -p replicator-tests --bin replicator --bin demo
DEMO = $(if $(filter release,$(PROFILE)),$(BUILD_DEMO) &&) $(BUILT)/$(PROFILE)/demo
# All packages together, so that this needs no other build of any crate than `make unit`.
LIVE := $(CARGO) test --quiet --workspace --features replicator-tests/live --test all
TOGETHER := --test-threads $(LIVE_THREADS)
FUZZ_VERSION := 0.13.2
# Most targets need core alone, which is built in a minute.
FUZZ_FEATURES := $(if $(filter server world,$(TARGET)),,--no-default-features) \
  --features $(if $(filter conninfo jwt mysql_conninfo mysql_session packed,$(TARGET)),"libfuzzer adapters",libfuzzer)
TOOLS := $(CURDIR)/target/tools

.DEFAULT_GOAL := build
.PHONY: build demo demo-mysql demo-failback test check lint unit live bench bench-mysql bench-failback fuzz sim-long mutants nightly help

build: ## the program, as target/release/replicator
	$(CARGO) build --release -p replicator

demo: ## two PostgreSQL servers, a load, a kill, a comparison (MINUTES= RATE= KILLS=)
	$(DEMO) --minutes $(MINUTES) --rate $(RATE) --kills $(KILLS)

demo-mysql: ## from MySQL to PostgreSQL, a load, a kill, a comparison (SOURCE=mariadb MINUTES= RATE= KILLS=)
	$(DEMO) --minutes $(MINUTES) --rate $(RATE) --kills $(KILLS) --source $(SOURCE)

demo-failback: ## the way back, with a feed that behaves as CockroachDB's (TARGET=mysql MINUTES= RATE= KILLS=)
	$(DEMO) --minutes $(MINUTES) --rate $(RATE) --kills $(KILLS) --failback $(BACK)

check: lint unit ## before every commit: format, lints, all tests that need no database

test: unit live ## all tests, live ones on every PostgreSQL version that can be had (MAJORS="11 15")

lint: ## format and lints; core on its own, so that it needs no feature that others turn on
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --features replicator-tests/live -- -D warnings
	$(CARGO) check -p replicator-core

unit: ## tests that need no database: units, traces, random worlds, corpora, rules of the house
	$(CARGO) test --workspace

live: ## tests on real servers, which are fetched, started and removed by themselves (MAJORS=)
	$(LIVE) --test program --no-run
	@# What depends on the server's version runs on every one, the rest on the cheapest.
	PG_MAJOR="$$(tests/dbs/postgres.sh pick)" $(LIVE) -- $(TOGETHER) live:: $(foreach test,$(MATRIX),--skip $(test))
	MAJORS="$(MAJORS)" tests/dbs/each-major.sh $(LIVE) -- $(TOGETHER) $(MATRIX)

bench: ## throughput and latency, against PostgreSQL's own replication on the same servers
	$(CARGO) run --release -p replicator-tests --bin bench -- $(BENCH)

bench-mysql: ## from MySQL: against its own replication, and our decoder against mysql_common's
	$(CARGO) run --release --locked --target-dir target/decoders --manifest-path tests/src/bench/decoders/Cargo.toml
	$(CARGO) run --release -p replicator-tests --bin bench -- --mysql $(BENCH)

bench-failback: ## the way back: staging and applying, against inserting the same rows by hand
	$(CARGO) run --release -p replicator-tests --bin bench -- --failback $(BENCH)

fuzz: ## one check of fuzz/fuzz_targets on random bytes (TARGET=pgoutput SECONDS=60); needs g++
	@command -v g++ >/dev/null || { echo "fuzzing needs g++, to build libFuzzer"; exit 1; }
	@PATH="$(TOOLS)/bin:$$PATH"; command -v cargo-fuzz >/dev/null || \
	  $(CARGO) install --locked --root $(TOOLS) --version $(FUZZ_VERSION) cargo-fuzz
	@# Finds go to the first corpus; what is worth keeping is moved to the second by hand.
	mkdir -p target/fuzz-corpus/$(TARGET)
	@# The sanitizers come with the stable compiler, but their flags need this variable.
	@# Linking each target whole with the others would take minutes of each run.
	PATH="$(TOOLS)/bin:$$PATH" RUSTC_BOOTSTRAP=1 CARGO_PROFILE_RELEASE_LTO=off $(CARGO) fuzz run --target-dir target/fuzz $(FUZZ_FEATURES) $(TARGET) \
	  target/fuzz-corpus/$(TARGET) fuzz/corpus/$(TARGET) -- -max_total_time=$(SECONDS)

sim-long: ## worlds from many seeds on all cores, and every story of the tiny ones (SECONDS=60)
	$(CARGO) build --profile sim -p sim
	target/sim/sim exhaustive --transactions 2
	target/sim/sim sweep --seconds $(SECONDS)

mutants: ## plants faults in copies of the sources; the random worlds must notice each of them
	$(CARGO) run --profile sim -p sim -- mutants

nightly: ## for the night: everything, longer, with more worlds, more kills and every decoder
	$(MAKE) lint test
	PROPTEST_CASES=100000 $(CARGO) test -p sim --profile sim
	$(MAKE) sim-long SECONDS=3600
	$(MAKE) mutants
	for target in fuzz/fuzz_targets/*.rs; do \
	  $(MAKE) fuzz TARGET="$$(basename "$$target" .rs)" SECONDS=900 || exit 1; \
	done
	$(MAKE) demo MINUTES=20 KILLS=40

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
