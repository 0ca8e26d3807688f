//! Which of several objects of one name counts.
//!
//! In files an object is written once. A file after a live cluster, or before it, is applied to the cluster: its object replaces the
//! cluster's. A patch never replaces anything.

use std::collections::hash_map::{DefaultHasher, Entry};
use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};

use crate::diagnostic::{ObjectRef, Place, Position};

/// Where an object is from; of two, the later one in this order counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Rank {
    /// Part of an object, which something else completes.
    Patch,
    /// An API server.
    Live,
    /// A file.
    File,
}

/// What becomes of an object.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// It counts, in place of others of its name.
    Counts,
    /// Another one of its name counts.
    Yields,
    /// It says the same as an earlier one, which counts.
    Repeats(Place),
    /// It counts, although another file says something else.
    Contradicts(Place),
}

/// The objects that have been read, by name. An object takes some 60 bytes.
#[derive(Default)]
pub(crate) struct Claims {
    /// By the hash of kind and name: two names with one hash are too unlikely to matter.
    seen: HashMap<u64, Claim>,
    files: Vec<String>,
    replaced: BTreeSet<ObjectRef>,
    has_superseded: bool,
    has_live: bool,
}

#[derive(Clone, Copy)]
struct Claim {
    rank: Rank,
    /// The hash of what was read of the object.
    content: u64,
    /// The hash of what people write of it, without what API servers fill in and change.
    written: u64,
    /// Whether the cluster has the object of the file as it is.
    is_unchanged: bool,
    file: usize,
    line: u32,
    column: u32,
    bytes: (usize, usize),
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl Claims {
    /// What becomes of an object with this content.
    pub(crate) fn take(
        &mut self,
        object: &ObjectRef,
        rank: Rank,
        content: &impl Hash,
        written: &impl Hash,
        place: &Place,
    ) -> Outcome {
        self.has_live |= rank == Rank::Live;
        if self.files.last().is_none_or(|last| *last != place.file) {
            self.files.push(place.file.clone());
        }
        let Position { line, column, bytes } = place.position.clone().unwrap_or_default();
        let file = self.files.len() - 1;
        let new = Claim { rank, content: hash(content), written: hash(written), is_unchanged: false, file, line, column, bytes };
        let old = match self.seen.entry(hash(object)) {
            Entry::Vacant(entry) => {
                entry.insert(new);
                return Outcome::Counts;
            }
            Entry::Occupied(entry) => entry.into_mut(),
        };
        let is_applied = (old.rank == Rank::Live && rank == Rank::File) || (old.rank == Rank::File && rank == Rank::Live);
        let is_same = if is_applied || old.is_unchanged { old.written == new.written } else { old.content == new.content };
        if (is_applied || old.is_unchanged) && !is_same {
            self.replaced.insert(object.clone());
        }
        if is_applied && is_same {
            *old = Claim { is_unchanged: true, ..if rank == Rank::File { new } else { *old } };
            return Outcome::Yields;
        }
        if rank < old.rank {
            return Outcome::Yields;
        }
        let first = *old;
        if rank == Rank::File && first.rank == Rank::File && is_same {
            return Outcome::Repeats(self.place(first));
        }
        *old = new;
        self.has_superseded = true;
        if rank == Rank::File && first.rank == Rank::File {
            return Outcome::Contradicts(self.place(first));
        }
        Outcome::Counts
    }

    fn place(&self, claim: Claim) -> Place {
        let position = Position { line: claim.line, column: claim.column, bytes: claim.bytes };
        Place { file: self.files.get(claim.file).cloned().unwrap_or_default(), position: Some(position) }
    }

    /// Whether an object has been read that another one of its name replaces.
    pub(crate) fn has_superseded(&self) -> bool {
        self.has_superseded
    }

    /// Whether there is a live cluster that files may be applied to.
    pub(crate) fn has_live(&self) -> bool {
        self.has_live
    }

    /// Whether the object that counts is from an API server, or is there as a file has it.
    pub(crate) fn is_live(&self, object: &ObjectRef) -> bool {
        self.seen.get(&hash(object)).is_some_and(|claim| claim.rank == Rank::Live || claim.is_unchanged)
    }

    /// Notes that an object of a file replaces what a cluster has.
    pub(crate) fn replace(&mut self, object: ObjectRef) {
        self.replaced.insert(object);
    }

    /// The objects of a live cluster that files replace, in order.
    pub(crate) fn into_replaced(self) -> Vec<ObjectRef> {
        self.replaced.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(file: &str) -> Place {
        Place { file: file.to_owned(), position: Some(Position::default()) }
    }

    /// What becomes of the last of several objects of one name, and whether one was replaced.
    fn last(objects: &[(Rank, u8)]) -> (Outcome, bool) {
        let object = ObjectRef::namespaced("Pod", "x", "a");
        let mut claims = Claims::default();
        let outcomes: Vec<Outcome> =
            objects.iter().map(|(rank, content)| claims.take(&object, *rank, content, content, &place("f"))).collect();
        (outcomes.into_iter().last().unwrap(), !claims.into_replaced().is_empty())
    }

    #[test]
    fn files_replace_clusters_in_either_order_and_patches_nothing() {
        use Outcome::{Contradicts, Counts, Repeats, Yields};
        use Rank::{File, Live, Patch};
        for (objects, expected) in [
            (vec![(File, 1)], (Counts, false)),
            (vec![(File, 1), (File, 1)], (Repeats(place("f")), false)),
            (vec![(File, 1), (File, 2)], (Contradicts(place("f")), false)),
            (vec![(Live, 1), (File, 2)], (Counts, true)),
            (vec![(File, 2), (Live, 1)], (Yields, true)),
            (vec![(Live, 1), (File, 1)], (Yields, false)),
            (vec![(File, 1), (Live, 1)], (Yields, false)),
            (vec![(Live, 1), (File, 2), (File, 3)], (Contradicts(place("f")), true)),
            (vec![(Live, 1), (File, 1), (File, 3)], (Contradicts(place("f")), true)),
            (vec![(Live, 1), (Live, 2)], (Counts, false)),
            (vec![(File, 1), (Patch, 2)], (Yields, false)),
            (vec![(Live, 1), (Patch, 2)], (Yields, false)),
            (vec![(Patch, 1), (File, 2)], (Counts, false)),
            (vec![(Patch, 1), (Patch, 2)], (Counts, false)),
        ] {
            assert_eq!(last(&objects), expected, "{objects:?}");
        }
    }
}
