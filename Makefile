# Two commands do everything: `make demo` and `make test`. Both install what they need.

CARGO ?= cargo
export PATH := $(PATH):/usr/sbin:/sbin
export CARGO_TERM_COLOR ?= auto

.PHONY: help build install demo demo-cluster image krew manifests test check bench fuzz-more

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

build: ## Build `netpol` and `policy-agent` (target/release)
	$(CARGO) build --release --locked --package policy-cli --package policy-agent

install: ## Install `netpol`, and `kubectl netpol` beside it, into cargo's bin folder
	$(CARGO) install --path policy-cli --locked
	ln -sf netpol "$${CARGO_HOME:-$$HOME/.cargo}/bin/kubectl-netpol"

demo: ## The shop on three nodes, enforced on real packets: predicted and measured side by side (root)
	@.ci/install
	$(CARGO) build --release --locked --package policy-agent --package conformance --bins
	@$(if $(WAIT),WAIT=1) target/release/demo

test: ## Run every test: unit, cases, properties over 20,000 clusters, command line, examples, real kernel (root)
	@.ci/install
	$(CARGO) test --workspace --locked

check: ## The fast checks: format, clippy with warnings denied, documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked

bench: ## Measure the targets of the design (the dataplane as root)
	@.ci/install
	$(CARGO) bench --package policy-core
	$(CARGO) bench --package policy-cli
	$(CARGO) bench --package conformance --bench dataplane

fuzz-more: ## The properties over ten times as many clusters
	NETPOL_CLUSTERS=10 $(CARGO) test --package conformance --test properties --test kernel --locked

manifests: ## Make the plain manifests from the Helm chart
	@.ci/install
	@helm=$$(conformance/tools/build helm)/helm && cd policy-agent/deploy && \
	for variant in netpol:false netpol-uninstall:true; do \
	  { echo "# Made from the Helm chart in chart/ by \`make manifests\`."; \
	    $$helm template netpol chart --namespace netpol --set "createNamespace=true,uninstall=$${variant#*:}"; } \
	    > "$${variant%%:*}.yaml"; \
	done
