# Two commands do everything: `make demo` and `make test`. Both install what they need.

CARGO ?= cargo
export PATH := $(PATH):/usr/sbin:/sbin
export CARGO_TERM_COLOR ?= auto

.PHONY: help build install demo demo-cluster image krew manifests docs reference test check bench fuzz-more

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

build: ## Build `netpol`, `policy-agent` and `netpol-cni` (target/release)
	$(CARGO) build --release --locked --package policy-cli --package policy-agent --package netpol-cni --features policy-cli/cluster

install: ## Install `netpol`, and `kubectl netpol` beside it, into cargo's bin folder
	$(CARGO) install --path policy-cli --locked --features cluster
	ln -sf netpol "$${CARGO_HOME:-$$HOME/.cargo}/bin/kubectl-netpol"

demo: ## The shop on three nodes, enforced on real packets: predicted and measured side by side (root)
	@.ci/install
	$(CARGO) build --locked --workspace --bins --features policy-cli/cluster
	@$(if $(WAIT),WAIT=1) target/debug/demo

demo-cluster: ## A real API server and three nodes: a policy applied with kubectl, and seen enforced (root)
	@.ci/install
	$(CARGO) build --locked --workspace --bins --features policy-cli/cluster
	@$(if $(WAIT),WAIT=1) target/debug/demo-cluster

image: ## Build the container image without a daemon (target/image/netpol.tar)
	@.ci/install buildah
	@policy-agent/deploy/image $(IMAGE)

krew: ## Pack `kubectl netpol` for krew (target/krew)
	@.ci/install
	@policy-cli/krew/pack

docs: ## Build the manual as a website and check its links (target/docs); seconds, and no Rust where there is a wheel of mdBook
	@.ci/install python3 python3-venv
	@"$$(.ci/mdbook)" build docs
	@.ci/links

reference: ## Write the pages of the manual that describe the commands (the tests compare them)
	$(CARGO) run --quiet --locked --package policy-cli -- reference > target/reference.md
	mv target/reference.md docs/src/reference/netpol.md
	WRITE_REFERENCE=1 $(CARGO) test --quiet --locked --package conformance --test readme the_reference

test: ## Run every test: unit, cases, properties over 20,000 clusters, command line, examples, real kernel (root)
	@.ci/install
	$(CARGO) test --workspace --locked --features policy-cli/cluster

check: ## The fast checks: format, clippy with warnings denied, documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked --features policy-cli/cluster -- -D warnings
	$(CARGO) clippy --package policy-cli --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked

bench: ## Measure the targets of the design (the dataplane as root)
	@.ci/install
	$(CARGO) bench --package policy-core
	$(CARGO) bench --package policy-cli
	$(CARGO) bench --package conformance --bench dataplane
	$(CARGO) bench --package conformance --bench under_fire
	$(CARGO) bench --package conformance --bench cluster

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
