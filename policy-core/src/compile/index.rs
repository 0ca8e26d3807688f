//! Things by label, for the keys that something looks for.

use rustc_hash::FxHashMap;

use crate::graph::{Id, IdSet, Symbol, shrink_map};

/// Things with labels, by label pair.
///
/// Shape: one entry for each key that is looked for, filled when the first looks for it and dropped after the last.
pub(super) struct LabelIndex<I> {
    keys: FxHashMap<Symbol, ByValue<I>>,
}

struct ByValue<I> {
    /// How many look for the key.
    uses: u32,
    ids: FxHashMap<Symbol, IdSet<I>>,
}

impl<I> Default for LabelIndex<I> {
    fn default() -> Self {
        Self { keys: FxHashMap::default() }
    }
}

impl<I: Id> LabelIndex<I> {
    /// One more looks for this key. Whether it is the first, so that everything that has the key must be entered.
    pub(super) fn want(&mut self, key: Symbol) -> bool {
        let by_value = self.keys.entry(key).or_insert_with(|| ByValue { uses: 0, ids: FxHashMap::default() });
        by_value.uses += 1;
        by_value.uses == 1
    }

    /// One less looks for it.
    pub(super) fn unwant(&mut self, key: Symbol) {
        let Some(by_value) = self.keys.get_mut(&key) else { return };
        by_value.uses = by_value.uses.saturating_sub(1);
        if by_value.uses == 0 {
            self.keys.remove(&key);
            shrink_map(&mut self.keys);
        }
    }

    /// Enters a thing; nothing happens unless a selector uses the key.
    pub(super) fn insert(&mut self, (key, value): (Symbol, Symbol), id: I) {
        if let Some(by_value) = self.keys.get_mut(&key) {
            by_value.ids.entry(value).or_default().insert(id);
        }
    }

    pub(super) fn remove(&mut self, (key, value): (Symbol, Symbol), id: I) {
        let Some(by_value) = self.keys.get_mut(&key) else { return };
        let Some(ids) = by_value.ids.get_mut(&value) else { return };
        ids.remove(id);
        if ids.is_empty() {
            by_value.ids.remove(&value);
            shrink_map(&mut by_value.ids);
        }
    }

    /// What has this label.
    pub(super) fn with(&self, (key, value): (Symbol, Symbol)) -> Vec<I> {
        self.keys.get(&key).and_then(|by_value| by_value.ids.get(&value)).map(IdSet::to_vec).unwrap_or_default()
    }

    /// Keys, uses of keys, label pairs, and entries.
    #[cfg(test)]
    #[expect(clippy::disallowed_methods, reason = "a sum has no order")]
    pub(super) fn sizes(&self) -> [usize; 4] {
        let by_value = || self.keys.values();
        let uses: u32 = by_value().map(|v| v.uses).sum();
        let entries = by_value().flat_map(|v| v.ids.values()).map(|ids| ids.to_vec().len()).sum();
        [self.keys.len(), uses as usize, by_value().map(|v| v.ids.len()).sum(), entries]
    }
}
