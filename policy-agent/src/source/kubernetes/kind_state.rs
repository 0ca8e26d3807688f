//! What is known of the objects of one kind: enough to tell whether an update changes anything, and what a new list lacks.
//!
//! Objects themselves are not kept, only a hash of each. Most updates change nothing that decides about traffic, and end here.

use std::collections::HashMap;

/// What is known of the objects of one kind, by `namespace/name` or `name`.
#[derive(Default)]
pub(crate) struct KindState {
    objects: HashMap<Box<str>, ObjectState>,
    /// Counts lists.
    list: u32,
}

struct ObjectState {
    /// Of what decides about traffic.
    hash: u64,
    /// The list in which the object was last seen.
    list: u32,
}

impl KindState {
    /// A list begins.
    pub(crate) fn begin_list(&mut self) {
        self.list = self.list.wrapping_add(1);
    }

    /// The list has ended. Returns the objects that were not in it, for the caller to remove.
    pub(crate) fn end_list(&self) -> Vec<String> {
        self.objects.iter().filter(|(_, state)| state.list != self.list).map(|(key, _)| key.to_string()).collect()
    }

    /// Gives back memory that a smaller list does not need.
    pub(crate) fn shrink(&mut self) {
        self.objects.shrink_to_fit();
    }

    /// An object is there, with this hash. Whether it is new or different.
    pub(crate) fn update(&mut self, key: &str, hash: u64) -> bool {
        let list = self.list;
        if let Some(state) = self.objects.get_mut(key) {
            state.list = list;
            return std::mem::replace(&mut state.hash, hash) != hash;
        }
        self.objects.insert(key.into(), ObjectState { hash, list });
        true
    }

    /// An object is gone. Whether it was there.
    pub(crate) fn remove(&mut self, key: &str) -> bool {
        self.objects.remove(key).is_some()
    }

    /// The next update of an object counts as different, whatever it is.
    pub(crate) fn expect_update(&mut self, key: &str) {
        if let Some(state) = self.objects.get_mut(key) {
            state.hash = state.hash.wrapping_add(1);
        }
    }

    pub(crate) fn contains(&self, key: &str) -> bool {
        self.objects.contains_key(key)
    }

    /// The keys of all objects of a namespace.
    pub(crate) fn keys_in(&self, namespace: &str) -> Vec<String> {
        let is_in = |key: &str| key.split_once('/').is_some_and(|(own, _)| own == namespace);
        self.objects.keys().filter(|key| is_in(key)).map(|key| key.to_string()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_with_the_same_hash_changes_nothing() {
        let mut state = KindState::default();
        assert!(state.update("x/a", 1) && !state.update("x/a", 1) && state.update("x/a", 2));
        state.expect_update("x/a");
        assert!(state.update("x/a", 2), "its content was not kept");
        assert!(state.remove("x/a") && !state.remove("x/a"));
    }

    #[test]
    fn a_list_lacks_what_was_not_seen_since_it_began() {
        let mut state = KindState::default();
        for key in ["x/a", "x/b", "xy/c"] {
            state.update(key, 1);
        }
        state.begin_list();
        state.update("x/a", 1);
        state.update("xy/c", 1);
        assert_eq!(state.end_list(), ["x/b"]);
        assert_eq!(state.keys_in("xy"), ["xy/c"]);
    }
}
