# crosstap. `make` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN    := bin/crosstap
TOOLS  := bin/tools
GOFLAGS_BUILD := -trimpath
FUZZTIME ?= 10s
PACKAGES = ./...

# The linker leaves a program in the kernel's memory page by page; written in a few large pieces it is there in such, and starts faster.
written = dd if=$(1) of=$(1).new bs=16M status=none && chmod --reference=$(1) $(1).new && mv -f $(1).new $(1)

.PHONY: help demo build agent deb test check fmt lint vet generated race lab fuzz bench web web-test docs deps clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' Makefile

demo: build ## build, make a lab of six VMs in two tenants, and watch it on http://127.0.0.1:8474
	@$(BIN) demo $(ARGS)

build: ## build bin/crosstap
	@tools/need go gcc g++
	@go build $(GOFLAGS_BUILD) -ldflags '-extld=$(CURDIR)/tools/link' -o $(BIN) ./cmd/crosstap
	@$(call written,$(BIN))

agent: ## build bin/crosstap-agent: the tap line alone, static, no cgo
	@tools/need go
	@CGO_ENABLED=0 go build $(GOFLAGS_BUILD) -tags agent -ldflags '-s -w' -o bin/crosstap-agent ./cmd/crosstap
	@$(call written,bin/crosstap-agent)

# The version of packages: that of the last tag, or of none yet.
VERSION ?= $(shell git describe --tags --match 'v*' 2>/dev/null | sed 's/^v//; s/-\([0-9]*\)-g/+\1.g/' | grep . || echo "0.1.0~dev+$$(git rev-parse --short HEAD)")
DEBARCH ?= $(shell go env GOARCH)

deb: agent ## build the agent's Debian package bin/crosstap-agent_VERSION_ARCH.deb
	@rm -rf bin/man && mkdir -p bin/man && bin/crosstap-agent man --dir bin/man >/dev/null
	@cd tools/pack && GOARCH= go run . -root ../.. -binary ../../bin/crosstap-agent -man ../../bin/man -version '$(VERSION)' -arch $(DEBARCH) -out ../../bin

# What runs the tests. .ci/run has tools/retest, which runs once more what failed.
GO_TEST      ?= go test -timeout 15m
BROWSER_TEST ?= npm run --silent test:browser

test: build ## run every test; what needs root or a peer tool is skipped with its reason
	@CROSSTAP_E2E_BIN=$(CURDIR)/$(BIN) $(GO_TEST) $(PACKAGES)
	@cd tools/pack && go test ./...
	@$(MAKE) --no-print-directory web-test

check: fmt lint vet generated ## formatting, import rules, lint, vet, generated files

fmt:
	@out=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$out" || { echo "gofmt -w these files:"; echo "$$out"; exit 1; }

lint: $(TOOLS)/staticcheck $(TOOLS)/depguard
	@out=$$($(TOOLS)/depguard ./... 2>&1) || { echo "$$out"; exit 1; }; test -z "$$out" || { echo "$$out"; exit 1; }
	@$(TOOLS)/staticcheck ./...

vet:
	@go vet ./...
	@CGO_ENABLED=0 go vet -tags agent ./cmd/... ./internal/tap/... ./internal/agent/...

generated: build web ## regenerate docs, web assets and go.mod; fails when that changes a file
	@go mod tidy -diff
	@$(MAKE) --no-print-directory docs
	@out=$$(git status --porcelain -- docs web/dist); test -z "$$out" || { echo "generated files differ from what is committed:"; echo "$$out"; git --no-pager diff --stat -- docs web/dist; exit 1; }

$(TOOLS)/%: tools/go.mod tools/go.sum
	@mkdir -p $(TOOLS)
	@cd tools && go build -o ../$(TOOLS)/ tool
	@touch $(TOOLS)/*

race: ## run the tests of everything that has goroutines under the race detector
	@go test -race -timeout 20m ./internal/...

lab: build ## run the end-to-end tests alone (namespaces; as root for all of them)
	@CROSSTAP_E2E_BIN=$(CURDIR)/$(BIN) go test -v -count=1 -timeout 15m ./test/e2e/...

fuzz: ## run every fuzz target for FUZZTIME (10s)
	@tools/fuzz $(FUZZTIME)

bench: build ## compare with peers in one run and keep the table in test/bench/RESULTS.txt
	@tools/need softflowd nfpcapd nfcapd
	@test/bench/run

web: ## build the console's assets into web/dist
	@tools/need node npm
	@cd web && npm ci --silent --no-audit --no-fund && npm run --silent check && npm run --silent build

web-test: ## test the console: units, then a real browser against the built assets
	@tools/need node npm chromium
	@cd web && { test -d node_modules || npm ci --silent --no-audit --no-fund; } && npm test --silent && $(BROWSER_TEST)

docs: build ## generate docs/cli and docs/metrics.md from the program
	@$(BIN) docs --dir docs

deps: ## install what tests and benchmarks compare with (Debian packages, as root; libchdb)
	@tools/need --install
	@tools/chdb

clean: ## remove what the targets made
	@rm -rf bin web/node_modules
