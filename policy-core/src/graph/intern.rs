//! Stores with typed ids, and interning with use counts.

use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

use super::ids::{Id, NamespaceId, Symbol};

pub(crate) fn hash_of<T: Hash + ?Sized>(value: &T) -> u64 {
    FxBuildHasher.hash_one(value)
}

/// The hash under which the name of a namespaced object is found.
pub(crate) fn hash_name(namespace: NamespaceId, name: &str) -> u64 {
    hash_of(&(namespace, name))
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
/// the slack of a growing vector would be a fifth of all memory.
pub(crate) struct Store<I, T> {
    chunks: Vec<Vec<Option<T>>>,
    free: Vec<I>,
}

/// Values in one chunk.
const CHUNK: usize = 1 << 9;

impl<I: Id, T> Store<I, T> {
    pub(crate) fn new() -> Self {
        Self { chunks: Vec::new(), free: Vec::new() }
    }

    fn slot(&self, id: I) -> Option<&Option<T>> {
        self.chunks.get(index(id) / CHUNK)?.get(index(id) % CHUNK)
    }

    fn slot_mut(&mut self, id: I) -> Option<&mut Option<T>> {
        self.chunks.get_mut(index(id) / CHUNK)?.get_mut(index(id) % CHUNK)
    }

    /// Ids given out so far, free ones included.
    fn capacity(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    pub(crate) fn insert(&mut self, value: T) -> I {
        if let Some(id) = self.free.pop()
            && let Some(slot) = self.slot_mut(id)
        {
            *slot = Some(value);
            return id;
        }
        let id = next_id(self.capacity());
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(Some(value)),
            first => {
                // The first chunk grows, so that small graphs stay small.
                let mut chunk = Vec::with_capacity(if first.is_some() { CHUNK } else { 4 });
                chunk.push(Some(value));
                self.chunks.push(chunk);
            }
        }
        id
    }

    pub(crate) fn remove(&mut self, id: I) -> Option<T> {
        let value = self.slot_mut(id)?.take()?;
        self.free.push(id);
        Some(value)
    }

    #[expect(clippy::expect_used, reason = "an id is given out with its value and forgotten before the value is removed")]
    pub(crate) fn get(&self, id: I) -> &T {
        self.slot(id).and_then(Option::as_ref).expect("an id of this store")
    }

    #[expect(clippy::expect_used, reason = "an id is given out with its value and forgotten before the value is removed")]
    pub(crate) fn get_mut(&mut self, id: I) -> &mut T {
        self.slot_mut(id).and_then(Option::as_mut).expect("an id of this store")
    }

    pub(crate) fn len(&self) -> usize {
        self.capacity() - self.free.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (I, &T)> {
        self.chunks.iter().flatten().enumerate().filter_map(|(i, slot)| slot.as_ref().map(|value| (next_id(i), value)))
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
    kind: PhantomData<I>,
}

impl<I: Id, K: Hash + Eq, D: Default> Interner<I, K, D> {
    pub(crate) fn new() -> Self {
        Self { entries: Store::new(), table: HashTable::new(), unused: Vec::new(), kind: PhantomData }
    }

    /// One more use of `key`; the second value says whether it is new.
    pub(crate) fn acquire(&mut self, key: K) -> (I, bool) {
        let hash = hash_of(&key);
        if let Some(id) = self.table.find(hash, |id| self.entries.get(*id).key == key).copied() {
            self.entries.get_mut(id).uses += 1;
            return (id, false);
        }
        let id = self.entries.insert(Entry { key, data: D::default(), uses: 1 });
        let entries = &self.entries;
        self.table.insert_unique(hash, id, |id| hash_of(&entries.get(*id).key));
        (id, true)
    }

    pub(crate) fn find(&self, key: &K) -> Option<I> {
        self.table.find(hash_of(key), |id| self.entries.get(*id).key == *key).copied()
    }

    pub(crate) fn retain(&mut self, id: I) {
        self.entries.get_mut(id).uses += 1;
    }

    /// One use less.
    pub(crate) fn release(&mut self, id: I) {
        let entry = self.entries.get_mut(id);
        entry.uses -= 1;
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
                Some(Some(entry)) if entry.uses == 0 => hash_of(&entry.key),
                _ => continue,
            };
            if let Ok(found) = self.table.find_entry(hash, |other| *other == id) {
                found.remove();
                out.push(id);
            }
        }
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

    pub(crate) fn iter(&self) -> impl Iterator<Item = (I, &K, &D)> {
        self.entries.iter().map(|(id, entry)| (id, &entry.key, &entry.data))
    }
}

/// Strings by symbol. Strings are never dropped: clusters use few distinct label keys and values, again and again.
pub(crate) struct Strings {
    texts: Vec<Box<str>>,
    table: HashTable<Symbol>,
}

impl Strings {
    pub(crate) fn new() -> Self {
        Self { texts: Vec::new(), table: HashTable::new() }
    }

    pub(crate) fn intern(&mut self, text: &str) -> Symbol {
        let hash = hash_of(text);
        if let Some(symbol) = self.table.find(hash, |s| self.text(*s) == text) {
            return *symbol;
        }
        let symbol = next_id(self.texts.len());
        self.texts.push(text.into());
        let texts = &self.texts;
        self.table.insert_unique(hash, symbol, |s| texts.get(index(*s)).map_or(0, |t| hash_of(t.as_ref())));
        symbol
    }

    /// The symbol of a text that has been interned.
    pub(crate) fn find(&self, text: &str) -> Option<Symbol> {
        self.table.find(hash_of(text), |s| self.text(*s) == text).copied()
    }

    pub(crate) fn text(&self, symbol: Symbol) -> &str {
        self.texts.get(index(symbol)).map_or("", AsRef::as_ref)
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
}
