//! The matrix as a graph of units, for paths and reachability over several hops.

use std::collections::VecDeque;

use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::{EdgeRef, VisitMap, Visitable};

use super::matrix::{ConnectivityMatrix, PairPorts};

/// Units as nodes, allowed connections as edges.
pub struct Connections {
    graph: DiGraph<usize, PairPorts>,
}

impl Connections {
    /// Every connection of a survey that at least some pods can make. Cost: units squared.
    #[must_use]
    pub fn new(survey: &ConnectivityMatrix<'_>) -> Self {
        let mut graph = DiGraph::with_capacity(survey.len(), survey.len());
        let nodes: Vec<NodeIndex> = (0..survey.len()).map(|unit| graph.add_node(unit)).collect();
        for (from, source) in nodes.iter().enumerate() {
            for (to, destination) in nodes.iter().enumerate() {
                if let Some(ports) = survey.pair(from, to).filter(|p| !p.some.is_empty()) {
                    graph.add_edge(*source, *destination, ports);
                }
            }
        }
        Self { graph }
    }

    /// The underlying petgraph, for its algorithms. Node weights are unit numbers, and a node's index is its unit's number.
    ///
    /// ```
    /// use petgraph::algo::has_path_connecting;
    /// use policy_core::compile::{Compiler, Options};
    /// use policy_core::manifest::{Loader, Syntax};
    /// use policy_core::verdict::{Connections, ConnectivityMatrix, WorkloadPods};
    ///
    /// let mut loader = Loader::new(Syntax::Strict);
    /// loader.read("demo.yaml", br#"
    /// apiVersion: v1
    /// kind: Pod
    /// metadata: {name: web, namespace: shop, labels: {app: web}}
    /// spec: {nodeName: n1}
    /// status: {podIP: 10.0.0.1}
    /// ---
    /// apiVersion: v1
    /// kind: Pod
    /// metadata: {name: db, namespace: shop, labels: {app: db}}
    /// spec: {nodeName: n1}
    /// status: {podIP: 10.0.0.2}
    /// ---
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata: {name: closed, namespace: shop}
    /// spec: {podSelector: {matchLabels: {app: web}}}
    /// "#);
    /// let mut compiler = Compiler::new(Options::default());
    /// loader.finish().changes().for_each(|change| compiler.apply(change));
    /// compiler.flush();
    ///
    /// let graph = compiler.graph();
    /// let pods = ["web", "db"].into_iter().filter_map(|name| graph.pod("shop", name));
    /// let units = pods.map(|pod| WorkloadPods { pods: vec![pod], has_replicas: false }).collect();
    /// let connections = Connections::new(&ConnectivityMatrix::new(graph, units));
    /// let [web, db] = [0.into(), 1.into()];
    /// assert!(has_path_connecting(connections.as_petgraph(), web, db, None));
    /// assert!(!has_path_connecting(connections.as_petgraph(), db, web, None));
    /// ```
    #[must_use]
    pub fn as_petgraph(&self) -> &DiGraph<usize, PairPorts> {
        &self.graph
    }

    /// The units that can be reached from `from` over any number of hops, each hop on ports that `is_wanted` accepts, with
    /// the unit before it on a shortest path. Nearest first, then by unit number; `from` itself left out.
    #[must_use]
    pub fn reachable(&self, from: usize, is_wanted: impl Fn(&PairPorts) -> bool) -> Vec<(usize, usize)> {
        let start = NodeIndex::new(from);
        let mut seen = self.graph.visit_map();
        seen.visit(start);
        let mut queue = VecDeque::from([start]);
        let mut out = Vec::new();
        while let Some(node) = queue.pop_front() {
            let edges = self.graph.edges(node).filter(|edge| is_wanted(edge.weight()));
            let mut next: Vec<NodeIndex> = edges.map(|edge| edge.target()).collect();
            next.sort_unstable();
            for target in next {
                if seen.visit(target) {
                    out.push((target.index(), node.index()));
                    queue.push_back(target);
                }
            }
        }
        out
    }
}
