# Two commands do everything: `make demo` and `make test`. Both install what they need.

CARGO ?= cargo
export PATH := $(PATH):/usr/sbin:/sbin
export CARGO_TERM_COLOR ?= auto

TARGET := $(or $(CARGO_TARGET_DIR),target)
# The demo needs neither the API client nor the command line, and no optimised code.
DEMO := --locked --package conformance --package policy-agent --no-default-features --bin demo --bin policy-agent

.PHONY: help build install demo demo-cluster e2e image krew manifests docs reference test check bench fuzz-more

help: ##         | Show this list
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## | [|] ' '{printf "  make %-13s%7s  %s\n", $$1, $$2, $$3}'
	@echo "Times are those of the first run on two cores. Later runs build only what changed."

build: ##  ~8 min | Build `netpol`, `policy-agent` and `netpol-cni` (target/release)
	$(CARGO) build --release --locked --package policy-cli --package policy-agent --package netpol-cni --features policy-cli/cluster

install: ##  ~8 min | Install `netpol`, and `kubectl netpol` beside it, into cargo's bin folder
	$(CARGO) install --path policy-cli --locked --features cluster
	ln -sf netpol "$${CARGO_HOME:-$$HOME/.cargo}/bin/kubectl-netpol"
	ln -sf netpol "$${CARGO_HOME:-$$HOME/.cargo}/bin/kubectl_complete-netpol"

demo: ##    90 s | The shop on three nodes, enforced on real packets: predicted and measured side by side (root)
	@.ci/install cc ip nft conntrack setpriv
	@[ -x $(TARGET)/demo/demo ] || echo "Building the agent and the demo in $(TARGET)/demo: about 90 seconds on two cores, only the first time."
	$(CARGO) build --profile demo $(DEMO)
	@NETPOL_BINARIES=$(TARGET)/demo $(if $(WAIT),WAIT=1) $(TARGET)/demo/demo

demo-cluster: ## ~20 min | A real API server and three nodes: a policy applied with kubectl, and seen enforced (root)
	@.ci/install
	@[ -x $(TARGET)/debug/demo-cluster ] || echo "Building all programs: about 6 minutes on two cores, then kube-apiserver, etcd and kubectl: about 12 minutes, only the first time."
	$(CARGO) build --locked --workspace --bins --all-features
	@$(if $(WAIT),WAIT=1) $(TARGET)/debug/demo-cluster

e2e: image ## ~30 min | The suite of Kubernetes about NetworkPolicy, in a cluster of real parts (root); E2E_PROXY, E2E_FOCUS, SUITE=cyclonus, SUITE=field, CONTROL=1, WAIT=1, KUBECONFIG=…
	@.ci/install cc libc-dev ip nft iptables conntrack openssl setpriv hostname containerd runc cni-plugins
	@[ -x $(TARGET)/demo/e2e ] || echo "Building the cluster: about 15 minutes on two cores, only the first time."
	$(CARGO) build --profile demo --locked --package conformance --no-default-features --bin e2e
	$(if $(filter field,$(SUITE)),$(CARGO) build --locked --package policy-cli --features cluster)
	@E2E_FOLDER=$(abspath $(TARGET)/e2e) E2E_IMAGE=$(abspath target/image/netpol.tar) E2E_NETPOL=$(abspath $(TARGET)/debug/netpol) \
	$(if $(filter command,$(firstword $(origin KUBECONFIG))),E2E_KUBECONFIG=$(abspath $(KUBECONFIG))) \
	$(if $(WAIT),WAIT=1) $(if $(CONTROL),CONTROL=1) $(if $(SUITE),SUITE=$(SUITE)) $(TARGET)/demo/e2e

image: ##  ~8 min | Build the container image without a daemon (target/image/netpol.tar)
	@.ci/install cc buildah
	@policy-agent/deploy/image $(IMAGE)

krew: ##  ~8 min | Pack `kubectl netpol` for krew (target/krew)
	@.ci/install cc
	@policy-cli/krew/pack

docs: ##    10 s | Build the manual as a website and check its links (target/docs)
	@.ci/install python3 python3-venv
	@"$$(.ci/tool mdbook)" build docs
	@.ci/links

reference: ## ~2 min | Write the pages that describe commands and the values of the chart (the tests compare them)
	@mkdir -p $(TARGET)
	$(CARGO) run --quiet --locked --package policy-cli -- reference > $(TARGET)/reference.md
	mv $(TARGET)/reference.md docs/src/reference/netpol.md
	$(CARGO) run --quiet --locked --package policy-cli -- reference --rules > $(TARGET)/reference.md
	mv $(TARGET)/reference.md docs/src/reference/rules.md
	WRITE_REFERENCE=1 $(CARGO) test --quiet --locked --package conformance --test readme the_reference
	WRITE_REFERENCE=1 $(CARGO) test --quiet --locked --package conformance --test deploy the_readme

test: ## ~25 min | Run every test: unit, cases, properties over 20,000 clusters, command line, examples, real kernel (root)
	@.ci/install
	$(CARGO) test --workspace --locked --all-features

check: ##  ~4 min | The fast checks: format, spelling, dependencies, clippy with warnings denied, documentation
	@.ci/install python3 python3-venv
	$(CARGO) fmt --all --check
	.ci/lint
	$(CARGO) clippy --workspace --all-targets --locked --all-features -- -D warnings
	$(CARGO) clippy --package policy-cli --locked -- -D warnings
	$(CARGO) clippy $(DEMO) -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked --all-features

bench: ## ~30 min | Measure the targets of the design (the dataplane as root)
	@.ci/install
	$(CARGO) bench --package policy-core
	$(CARGO) bench --package policy-cli
	$(CARGO) bench --package conformance --bench dataplane
	$(CARGO) bench --package conformance --bench under_fire
	$(CARGO) bench --package conformance --bench cluster

fuzz-more: ## ~30 min | The properties over ten times as many clusters
	NETPOL_CLUSTERS=10 $(CARGO) test --package conformance --test properties --test kernel --locked

manifests: ##  ~2 min | Make the plain manifests from the Helm chart
	@.ci/install cc python3 python3-venv
	@helm=$$(conformance/tools/build helm)/helm && cd policy-agent/deploy && \
	for variant in netpol:false netpol-uninstall:true; do \
	  { echo "# Made from the Helm chart in chart/ by \`make manifests\`."; \
	    $$helm template netpol chart --namespace netpol --set "createNamespace=true,uninstall=$${variant#*:}"; } \
	    > "$${variant%%:*}.yaml"; \
	done
