//! What a matrix has evaluated already.

use std::rc::Rc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::PairPorts;
use crate::graph::{DecisionId, GroupId};
use crate::sets::PortSet;

/// The number of a distinct set of ports.
pub(super) type SetId = u32;

/// Evaluated sides are forgotten beyond this many, to bound memory.
pub(super) const MOST_SIDES: usize = 4_000_000;

/// What was evaluated already. There are few distinct sets of ports, so they are kept once.
pub(super) struct Memo {
    sets: Vec<Rc<PortSet>>,
    ids: FxHashMap<Rc<PortSet>, SetId>,
    /// By decision, and the unit and class of the other end.
    pub(super) sides: FxHashMap<(DecisionId, u32, u32), SetId>,
    intersections: FxHashMap<(SetId, SetId), SetId>,
    pub(super) selected: FxHashMap<DecisionId, Selected>,
    /// What is allowed alike between all pods of two units.
    uniform: FxHashMap<Rc<PortSet>, Rc<PairPorts>>,
    /// By the kinds of both units.
    pub(super) pairs: FxHashMap<(u32, u32), Option<Rc<PairPorts>>>,
}

/// What the peer sets of a decision select.
pub(super) struct Selected {
    pub(super) groups: FxHashSet<GroupId>,
    /// Whether addresses are selected by blocks too.
    pub(super) has_blocks: bool,
}

/// The numbers of the empty set and of the full one.
pub(super) const NONE: SetId = 0;
pub(super) const ALL: SetId = 1;

impl Memo {
    pub(super) fn new() -> Self {
        let mut memo = Self {
            sets: Vec::new(),
            ids: FxHashMap::default(),
            sides: FxHashMap::default(),
            intersections: FxHashMap::default(),
            selected: FxHashMap::default(),
            uniform: FxHashMap::default(),
            pairs: FxHashMap::default(),
        };
        // INVARIANT: these are `NONE` and `ALL`.
        memo.id(PortSet::none());
        memo.id(PortSet::all());
        memo
    }

    pub(super) fn id(&mut self, ports: PortSet) -> SetId {
        if let Some(id) = self.ids.get(&ports) {
            return *id;
        }
        let id = u32::try_from(self.sets.len()).unwrap_or(u32::MAX);
        let ports = Rc::new(ports);
        self.sets.push(Rc::clone(&ports));
        self.ids.insert(ports, id);
        id
    }

    pub(super) fn set(&self, id: SetId) -> Rc<PortSet> {
        self.sets.get(id as usize).map(Rc::clone).unwrap_or_default()
    }

    /// The ports of units of which all pods may use the same.
    pub(super) fn uniform(&mut self, ports: &Rc<PortSet>) -> Rc<PairPorts> {
        if let Some(found) = self.uniform.get(ports) {
            return Rc::clone(found);
        }
        let new = Rc::new(PairPorts { all: PortSet::clone(ports), some: PortSet::clone(ports) });
        self.uniform.insert(Rc::clone(ports), Rc::clone(&new));
        new
    }

    /// The intersection of two sets.
    pub(super) fn both(&mut self, a: SetId, b: SetId) -> Rc<PortSet> {
        match (a, b) {
            (NONE, _) | (_, NONE) => return self.set(NONE),
            (ALL, other) | (other, ALL) => return self.set(other),
            _ => {}
        }
        let id = match self.intersections.get(&(a, b)) {
            Some(id) => *id,
            None => {
                let ports = self.set(a).intersection(&self.set(b));
                let id = self.id(ports);
                self.intersections.insert((a, b), id);
                id
            }
        };
        self.set(id)
    }
}
