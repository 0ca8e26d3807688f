//! Values that hold strings: labels, selectors and named ports. A value has a use of each of its symbols from when it is new until
//! the flush that frees it.

use super::Compiler;
use crate::graph::{CompiledSelector, LabelSet, LabelsId, PortRecord, PortsId, SelectorId};
use crate::model::{Labels, NamedPort, Selector};

impl Compiler {
    /// One more use of these labels. Cost: those that are there already take no use of a string.
    pub(super) fn acquire_labels(&mut self, labels: &Labels) -> LabelsId {
        let graph = &mut self.graph;
        if let Some(id) = LabelSet::find(labels, &graph.strings).and_then(|set| graph.labels.find(&set)) {
            graph.labels.retain(id);
            return id;
        }
        let set = LabelSet::new(labels, &mut graph.strings);
        graph.labels.insert(set, ())
    }

    pub(super) fn acquire_selector(&mut self, selector: &Selector) -> SelectorId {
        let graph = &mut self.graph;
        let compiled = CompiledSelector::new(selector, &mut graph.strings);
        if let Some(id) = graph.selectors.find(&compiled) {
            compiled.symbols().for_each(|symbol| graph.strings.release(symbol));
            graph.selectors.retain(id);
            return id;
        }
        graph.selectors.insert(compiled, ())
    }

    pub(super) fn acquire_ports(&mut self, ports: &[NamedPort]) -> PortsId {
        let graph = &mut self.graph;
        let mut records: Vec<PortRecord> = ports.iter().map(|p| (graph.strings.intern(&p.name), p.protocol, p.number)).collect();
        records.sort_unstable();
        if let Some(id) = graph.ports.find(records.as_slice()) {
            records.iter().for_each(|port| graph.strings.release(port.0));
            graph.ports.retain(id);
            return id;
        }
        graph.ports.insert(records.into(), ())
    }

    /// Frees values without users, and then the strings that only they had.
    pub(super) fn sweep_values(&mut self) {
        let graph = &mut self.graph;
        for (_, labels, ()) in graph.labels.sweep() {
            labels.symbols().for_each(|symbol| graph.strings.release(symbol));
        }
        for (_, selector, ()) in graph.selectors.sweep() {
            selector.symbols().for_each(|symbol| graph.strings.release(symbol));
        }
        for (_, ports, ()) in graph.ports.sweep() {
            ports.iter().for_each(|port| graph.strings.release(port.0));
        }
        graph.strings.sweep();
    }
}
