//! Stores with typed ids, and interning with use counts.
//!
//! What has no users any more is freed, and its room is given back, so that what came and went costs nothing.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, Hash};

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;
use smallvec::{Array, SmallVec};

use super::ids::{Id, NamespaceId, Symbol};

pub(crate) fn hash_of<T: Hash + ?Sized>(value: &T) -> u64 {
    FxBuildHasher.hash_one(value)
}

/// The hash under which the name of a namespaced object is found.
pub(crate) fn hash_name(namespace: NamespaceId, name: &str) -> u64 {
    hash_of(&(namespace, name))
}

/// Collections with room for fewer values than this keep it.
const ROOM: usize = 64;

/// Whether a collection has so much room to spare that it is worth giving back. It must be left with room for twice its values,
/// so that the cost of moving them is shared by as many changes.
fn is_spacious(len: usize, capacity: usize) -> bool {
    capacity > ROOM && len < capacity / 4
}

/// Gives back the room of values that are gone.
pub(crate) fn shrink_table<T>(table: &mut HashTable<T>, hash: impl Fn(&T) -> u64) {
    if is_spacious(table.len(), table.capacity()) {
        table.shrink_to(table.len() * 2, hash);
    }
}

/// Gives back the room of values that are gone.
pub(crate) fn shrink_map<K: Hash + Eq, V, S: BuildHasher>(map: &mut HashMap<K, V, S>) {
    if is_spacious(map.len(), map.capacity()) {
        map.shrink_to(map.len() * 2);
    }
}

/// Gives back the room of values that are gone.
pub(crate) fn shrink_list<A: Array>(list: &mut SmallVec<A>) {
    if is_spacious(list.len(), list.capacity()) {
        list.shrink_to_fit();
    }
}

fn index<I: Id>(id: I) -> usize {
    id.index() as usize
}

fn next_id<I: Id>(len: usize) -> I {
    // INVARIANT: four billion objects do not fit in memory, so the conversion never saturates.
    I::from_index(u32::try_from(len).unwrap_or(u32::MAX))
}

/// Values by id; ids of removed values are used again.
///
/// Shape: chunks of equal size, so that growing moves nothing and leaves no slack: at a hundred thousand objects of each kind
/// the slack of a growing vector would be a fifth of all memory. The lowest chunk with a vacancy is filled first, and a chunk
/// without values has no memory, so a store that was large once becomes small again.
pub(crate) struct Store<I, T> {
    chunks: Vec<Chunk<T>>,
    /// The chunks that have room.
    open: BTreeSet<usize>,
    len: usize,
    kind: std::marker::PhantomData<I>,
}

struct Chunk<T> {
    slots: Vec<Option<T>>,
    /// The slots without a value.
    vacant: Vec<u16>,
}

/// Values in one chunk.
const CHUNK: usize = 1 << 9;

impl<T> Chunk<T> {
    fn len(&self) -> usize {
        self.slots.len().saturating_sub(self.vacant.len())
    }

    /// Puts a value into a chunk that is not full.
    fn insert(&mut self, value: T, is_first: bool) -> usize {
        if let Some(at) = self.vacant.pop() {
            let at = usize::from(at);
            if let Some(slot) = self.slots.get_mut(at) {
                *slot = Some(value);
            }
            return at;
        }
        // The first chunk grows, so that small graphs stay small.
        if self.slots.capacity() == 0 && !is_first {
            self.slots.reserve_exact(CHUNK);
        }
        self.slots.push(Some(value));
        self.slots.len() - 1
    }

    fn remove(&mut self, at: usize) -> Option<T> {
        let value = self.slots.get_mut(at)?.take()?;
        // INVARIANT: a place in a chunk is less than 512.
        self.vacant.push(u16::try_from(at).unwrap_or(u16::MAX));
        if self.len() == 0 {
            *self = Self { slots: Vec::new(), vacant: Vec::new() };
        }
        Some(value)
    }
}

impl<I: Id, T> Store<I, T> {
    pub(crate) fn new() -> Self {
        Self { chunks: Vec::new(), open: BTreeSet::new(), len: 0, kind: std::marker::PhantomData }
    }

    fn slot(&self, id: I) -> Option<&T> {
        self.chunks.get(index(id) / CHUNK)?.slots.get(index(id) % CHUNK)?.as_ref()
    }

    fn slot_mut(&mut self, id: I) -> Option<&mut T> {
        self.chunks.get_mut(index(id) / CHUNK)?.slots.get_mut(index(id) % CHUNK)?.as_mut()
    }

    pub(crate) fn insert(&mut self, value: T) -> I {
        let at = self.open.first().copied().unwrap_or_else(|| {
            self.chunks.push(Chunk { slots: Vec::new(), vacant: Vec::new() });
            self.open.insert(self.chunks.len() - 1);
            self.chunks.len() - 1
        });
        self.len += 1;
        let Some(chunk) = self.chunks.get_mut(at) else { return next_id(usize::MAX) };
        let id = next_id(at * CHUNK + chunk.insert(value, at == 0));
        if chunk.len() == CHUNK {
            self.open.remove(&at);
        }
        id
    }

    pub(crate) fn remove(&mut self, id: I) -> Option<T> {
        let at = index(id) / CHUNK;
        let value = self.chunks.get_mut(at)?.remove(index(id) % CHUNK)?;
        self.len = self.len.saturating_sub(1);
        self.open.insert(at);
        while self.chunks.last().is_some_and(|last| last.slots.is_empty()) {
            self.chunks.pop();
            self.open.remove(&self.chunks.len());
        }
        if is_spacious(self.chunks.len(), self.chunks.capacity()) {
            self.chunks.shrink_to(self.chunks.len() * 2);
        }
        Some(value)
    }

    #[expect(clippy::expect_used, reason = "an id is given out with its value and forgotten before the value is removed")]
    pub(crate) fn get(&self, id: I) -> &T {
        self.slot(id).expect("an id of this store")
    }

    #[expect(clippy::expect_used, reason = "an id is given out with its value and forgotten before the value is removed")]
    pub(crate) fn get_mut(&mut self, id: I) -> &mut T {
        self.slot_mut(id).expect("an id of this store")
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The values that there is memory for.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.slots.capacity()).sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (I, &T)> {
        self.chunks.iter().enumerate().flat_map(|(at, chunk)| {
            let slots = chunk.slots.iter().enumerate();
            slots.filter_map(move |(i, slot)| slot.as_ref().map(|value| (next_id(at * CHUNK + i), value)))
        })
    }
}

struct Entry<K, D> {
    key: K,
    data: D,
    uses: u32,
}

/// Values with one id per distinct key and a count of uses.
///
/// A value without uses stays, and can be taken up again, until [`Interner::sweep`]; so ids are stable between two flushes.
pub(crate) struct Interner<I, K, D = ()> {
    entries: Store<I, Entry<K, D>>,
    table: HashTable<I>,
    unused: Vec<I>,
}

impl<I: Id, K: Hash + Eq, D> Interner<I, K, D> {
    pub(crate) fn new() -> Self {
        Self { entries: Store::new(), table: HashTable::new(), unused: Vec::new() }
    }

    /// One more use of `key`; the second value is whether it is new.
    pub(crate) fn acquire(&mut self, key: K) -> (I, bool)
    where
        D: Default,
    {
        match self.find(&key) {
            Some(id) => {
                self.retain(id);
                (id, false)
            }
            None => (self.insert(key, D::default()), true),
        }
    }

    /// The first use of a key that is not there.
    pub(crate) fn insert(&mut self, key: K, data: D) -> I {
        let hash = hash_of(&key);
        let id = self.entries.insert(Entry { key, data, uses: 1 });
        let entries = &self.entries;
        self.table.insert_unique(hash, id, |id| hash_of(&entries.get(*id).key));
        id
    }

    pub(crate) fn find<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<I>
    where
        K: Borrow<Q>,
    {
        self.table.find(hash_of(key), |id| Borrow::<Q>::borrow(&self.entries.get(*id).key) == key).copied()
    }

    pub(crate) fn retain(&mut self, id: I) {
        self.entries.get_mut(id).uses += 1;
    }

    pub(crate) fn uses(&self, id: I) -> u32 {
        self.entries.get(id).uses
    }

    /// One use less.
    pub(crate) fn release(&mut self, id: I) {
        let entry = self.entries.get_mut(id);
        debug_assert!(entry.uses > 0, "released more often than acquired");
        entry.uses = entry.uses.saturating_sub(1);
        if entry.uses == 0 {
            self.unused.push(id);
        }
    }

    /// Takes the values that have no uses out of the table; [`Interner::forget`] must follow for each.
    pub(crate) fn unused(&mut self) -> Vec<I> {
        let mut out = Vec::new();
        for id in std::mem::take(&mut self.unused) {
            // A value can have been released, taken up and released again since the last sweep.
            let hash = match self.entries.slot(id) {
                Some(entry) if entry.uses == 0 => hash_of(&entry.key),
                _ => continue,
            };
            if let Ok(found) = self.table.find_entry(hash, |other| *other == id) {
                found.remove();
                out.push(id);
            }
        }
        let entries = &self.entries;
        shrink_table(&mut self.table, |id| hash_of(&entries.get(*id).key));
        out
    }

    pub(crate) fn forget(&mut self, id: I) -> Option<(K, D)> {
        self.entries.remove(id).map(|entry| (entry.key, entry.data))
    }

    /// Removes everything without uses.
    pub(crate) fn sweep(&mut self) -> Vec<(I, K, D)> {
        let unused = self.unused();
        unused.into_iter().filter_map(|id| self.forget(id).map(|(key, data)| (id, key, data))).collect()
    }

    pub(crate) fn key(&self, id: I) -> &K {
        &self.entries.get(id).key
    }

    pub(crate) fn data(&self, id: I) -> &D {
        &self.entries.get(id).data
    }

    pub(crate) fn data_mut(&mut self, id: I) -> &mut D {
        &mut self.entries.get_mut(id).data
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Values with uses, values that wait for the sweep, and values that there is memory for.
    #[cfg(test)]
    pub(crate) fn sizes(&self) -> [usize; 3] {
        assert!(self.table.len() == self.entries.len(), "every value can be found");
        [self.entries.len(), self.unused.len(), self.entries.capacity().max(self.table.capacity())]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (I, &K, &D)> {
        self.entries.iter().map(|(id, entry)| (id, &entry.key, &entry.data))
    }
}

/// Strings by symbol. Every value that holds a symbol has a use of it.
pub(crate) type Strings = Interner<Symbol, Box<str>>;

impl Strings {
    /// One more use of a text.
    pub(crate) fn intern(&mut self, text: &str) -> Symbol {
        match self.find(text) {
            Some(symbol) => {
                self.retain(symbol);
                symbol
            }
            None => self.insert(text.into(), ()),
        }
    }

    pub(crate) fn text(&self, symbol: Symbol) -> &str {
        self.key(symbol)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::LabelsId;
    use super::*;

    #[test]
    fn ids_are_stable_until_the_sweep_and_then_used_again() {
        let mut interner: Interner<LabelsId, &str> = Interner::new();
        let (a, fresh) = interner.acquire("a");
        assert!(fresh);
        interner.release(a);
        assert_eq!(interner.acquire("a"), (a, false));
        interner.release(a);
        assert_eq!(interner.sweep().len(), 1);
        assert_eq!(interner.len(), 0);
        assert_eq!(interner.find(&"a"), None);
        assert_eq!(interner.acquire("b"), (a, true));
    }

    #[test]
    fn a_store_that_was_large_gives_its_room_back() {
        let mut store: Store<LabelsId, usize> = Store::new();
        let few: Vec<LabelsId> = (0..3).map(|i| store.insert(i)).collect();
        let many: Vec<LabelsId> = (3..100_000).map(|i| store.insert(i)).collect();
        assert_eq!(store.len(), 100_000);
        // Whatever the order in which they go.
        let (odd, even): (Vec<LabelsId>, Vec<LabelsId>) = many.iter().partition(|id| id.index() % 2 == 1);
        for id in odd.iter().chain(even.iter().rev()) {
            assert_eq!(store.remove(*id), Some(index(*id)));
            assert_eq!(store.remove(*id), None);
        }
        assert_eq!(store.len(), 3);
        assert!(store.capacity() <= 2 * CHUNK && store.chunks.capacity() <= ROOM, "{}", store.capacity());
        assert_eq!(store.iter().map(|(id, value)| (id, *value)).collect::<Vec<_>>(), [(few[0], 0), (few[1], 1), (few[2], 2)]);
    }

    #[test]
    fn vacancies_are_filled_before_the_store_grows() {
        let mut store: Store<LabelsId, usize> = Store::new();
        let ids: Vec<LabelsId> = (0..3 * CHUNK).map(|i| store.insert(i)).collect();
        for id in &ids[10..20] {
            store.remove(*id);
        }
        store.remove(ids[2 * CHUNK]);
        let mut again: Vec<LabelsId> = (0..11).map(|i| store.insert(i)).collect();
        assert_eq!(again.pop(), Some(ids[2 * CHUNK]));
        again.sort_unstable();
        assert_eq!(again, ids[10..20]);
        assert_eq!(index(store.insert(0)), 3 * CHUNK);
    }
}
