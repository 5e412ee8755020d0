# Everything a fresh machine needs beyond Go and make is fetched by go itself.
SHELL := /bin/bash
.DEFAULT_GOAL := help

GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOFUMPT       := mvdan.cc/gofumpt@v0.12.0
NATS_CLI      := github.com/nats-io/natscli/nats@v0.5.1
# The race detector needs a C compiler; without one the tests run without it.
RACE          := $(if $(shell command -v gcc || command -v clang),-race)
# One goroutine each, and large modules to compile: ten times as long for nothing.
PLAIN         := /wasm/fuel$$|/examples/guests|/internal/prose$$
# Benchmarks are a module of their own, so that the product needs nothing of theirs.
ALL           := ./... ./bench/...
# Tests wait as long as they work: one more at once than there are processors.
JOBS          := $(shell expr $$(getconf _NPROCESSORS_ONLN || echo 2) + 1)
FUZZTIME      ?= 60s
TIMES         ?= 10
ARGS          ?=

.PHONY: help build python tools test test-busy test-clocks bin/cloudburst-skewed demo bench soak faults report fuzz lint fmt tidy check nats FORCE

help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build bin/cloudburst
	go build -o bin/cloudburst ./cmd/cloudburst

demo: build ## Run Retwis, a Twitter clone, on an embedded server and verify every post (ARGS="--graph FILE --keep")
	./bin/cloudburst demo $(ARGS)

python: # The tests run functions in Python, and the commands of the documents, some of which are curl.
	@command -v python3 >/dev/null && command -v curl >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update && apt-get install -y --no-install-recommends python3 curl; \
	} || { echo "the tests need python3 and curl: install them, for instance with apt-get install python3 curl"; exit 1; }

# Downloads and compilations end here: no test with a time limit includes one of them.
# The first time, on an empty cache, this takes some minutes; go names what it fetches and compiles.
tools: python ## Build every program that the tests run: bin/cloudburst, bin/nats, the Go guests and Node's client
	@echo "building the programs that the tests run into bin/"
	@go build -v -o bin/cloudburst ./cmd/cloudburst
	@go build -v -tags cbfaults -o bin/cloudburst-faulty ./cmd/cloudburst
	@go test -c -tags cbfaults -o bin/e2e-faulty ./e2e
	@go build -v $(RACE) -o bin/cloudburst-bench-race ./bench/cmd/cloudburst-bench
	@go build -v -tags cbfaults -o bin/cloudburst-bench-faulty ./bench/cmd/cloudburst-bench
	@GOBIN=$(CURDIR)/bin go install -v $(NATS_CLI)
	@for trim in "" -trimpath; do \
	  GOOS=wasip1 GOARCH=wasm CGO_ENABLED=0 go build -v $$trim -o bin/guests/ ./examples/guests/go/... || exit 1; \
	done
	@$(if $(shell command -v npm),$(MAKE) --no-print-directory e2e/node/node_modules/.package-lock.json,echo "no Node found: its client is not tried")

e2e/node/node_modules/.package-lock.json: e2e/node/package.json
	npm install --prefix e2e/node --no-package-lock --no-audit --no-fund --loglevel error
	@touch $@

test: tools ## Run all tests, nearly all with the race detector, the e2e suite included
	@$(if $(RACE),,echo "no C compiler found: running without the race detector")
	go test $(RACE) -p $(JOBS) -timeout 30m $$(go list $(ALL) | grep -Ev '/e2e$$|$(PLAIN)')
	go test -timeout 30m $$(go list $(ALL) | grep -E '$(PLAIN)')
	go tool ginkgo build $(RACE) ./e2e
	go tool ginkgo --procs=$(JOBS) --no-color --timeout=30m --label-filter='!clocks' ./e2e/e2e.test

test-busy: ## Run all tests TIMES times (10) beside a load that keeps every processor busy
	@load=""; trap 'kill $$load 2>/dev/null' EXIT; trap 'exit 130' INT TERM; \
	for cpu in $$(seq $$(getconf _NPROCESSORS_ONLN)); do (while :; do :; done) & load="$$load $$!"; done; \
	for time in $$(seq $(TIMES)); do \
	  echo "run $$time of $(TIMES) beside $$(echo $$load | wc -w) busy loops"; \
	  $(MAKE) --no-print-directory test GOFLAGS="$$GOFLAGS -count=1" || exit 1; \
	done

# A program whose clock is off takes a compilation of everything, Go's library included.
bin/cloudburst-skewed:
	go run ./e2e/skew bin/skew
	go build -v -overlay bin/skew/overlay.json -tags cbfaults -o $@ ./cmd/cloudburst

test-clocks: tools bin/cloudburst-skewed ## Run three servers whose clocks disagree, and check every promise
	go tool ginkgo --label-filter=clocks --no-color --timeout=2h ./e2e

bin/cloudburst-bench: FORCE
	go build -o $@ ./bench/cmd/cloudburst-bench

bench: bin/cloudburst-bench ## Measure calls beside raw NATS (ARGS="-o json")
	./bin/cloudburst-bench call $(ARGS)

soak: bin/cloudburst-bench ## Run a mixed load for half an hour, and fail if anything grows (ARGS="--for 5m")
	./bin/cloudburst-bench soak $(ARGS)

faults: bin/cloudburst-bench ## Break each part of three servers three times under load; nothing may be lost (ARGS="--faults 14")
	./bin/cloudburst-bench faults --faults 42 $(ARGS)

report: bin/cloudburst-bench ## Run all benchmarks and write report.md (ARGS="--short")
	./bin/cloudburst-bench all $(ARGS)

fuzz: ## Run every fuzz target for FUZZTIME (60s)
	@for pkg in $$(go list $(ALL)); do \
	  for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$target"; go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg || exit 1; \
	  done; \
	done

lint: ## Run the linters
	go vet $(ALL)
	go run $(GOLANGCI_LINT) run $(ALL)

fmt: ## Format the code
	go run $(GOFUMPT) -w .

tidy: ## Check that go.mod lists what is used, no more
	go mod tidy -diff
	cd bench && go mod tidy -diff

check: tidy lint test ## What CI runs: tidy, lint and test, on a clean tree
	@dirty=$$(git status --porcelain); if [ -n "$$dirty" ]; then echo "the tree is dirty:"; echo "$$dirty"; exit 1; fi

nats: ## Run the plain nats CLI (ARGS="kv ls")
	@go run $(NATS_CLI) $(ARGS)
