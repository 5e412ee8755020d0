# Everything a fresh machine needs beyond Go and make is fetched by go itself.
SHELL := /bin/bash
.DEFAULT_GOAL := help

GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOFUMPT       := mvdan.cc/gofumpt@v0.12.0
NATS_CLI      := github.com/nats-io/natscli/nats@v0.5.1
# The race detector needs a C compiler; without one the tests run without it.
RACE          := $(if $(shell command -v gcc || command -v clang),-race)
# One goroutine each, and large modules to compile: ten times as long for nothing.
PLAIN         := /wasm/fuel$$|/examples/guests
# Tests wait as long as they work: one more at once than there are processors.
JOBS          := $(shell expr $$(getconf _NPROCESSORS_ONLN || echo 2) + 1)
FUZZTIME      ?= 60s
ARGS          ?=

.PHONY: help build test demo bench report fuzz lint fmt tidy check nats

help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build bin/cloudburst
	go build -o bin/cloudburst ./cmd/cloudburst

demo: build ## Run Retwis, a Twitter clone, on an embedded server and verify every post (ARGS="--graph FILE --keep")
	./bin/cloudburst demo $(ARGS)

test: ## Run all tests, nearly all with the race detector, the e2e suite included
	@$(if $(RACE),,echo "no C compiler found: running without the race detector")
	go test $(RACE) -p $(JOBS) -timeout 20m $$(go list ./... | grep -Ev '/e2e$$|$(PLAIN)')
	go test -timeout 20m $$(go list ./... | grep -E '$(PLAIN)')
	go tool ginkgo $(RACE) --procs=$(JOBS) --no-color --timeout=20m ./e2e

bench: build ## Measure calls beside raw NATS (ARGS="-o json")
	./bin/cloudburst bench call $(ARGS)

report: build ## Run all benchmarks and write report.md (ARGS="--short")
	./bin/cloudburst bench all $(ARGS)

fuzz: ## Run every fuzz target for FUZZTIME (60s)
	@for pkg in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$target"; go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg || exit 1; \
	  done; \
	done

lint: ## Run the linters
	go vet ./...
	go run $(GOLANGCI_LINT) run

fmt: ## Format the code
	go run $(GOFUMPT) -w .

tidy: ## Check that go.mod lists what is used, no more
	go mod tidy -diff

check: tidy lint test ## What CI runs: tidy, lint and test, on a clean tree
	@dirty=$$(git status --porcelain); if [ -n "$$dirty" ]; then echo "the tree is dirty:"; echo "$$dirty"; exit 1; fi

nats: ## Run the plain nats CLI (ARGS="kv ls")
	@go run $(NATS_CLI) $(ARGS)
