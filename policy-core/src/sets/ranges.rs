//! Sorted, disjoint, inclusive ranges over an integer type, with set algebra.

use std::fmt;

/// An integer that can bound a range.
pub trait Bound: Copy + Ord + fmt::Debug + std::hash::Hash {
    /// The smallest value.
    const LOWEST: Self;
    /// The largest value.
    const HIGHEST: Self;
    /// The next larger value, or `None` at the top.
    fn after(self) -> Option<Self>;
    /// The next smaller value, or `None` at the bottom.
    fn before(self) -> Option<Self>;
}

macro_rules! bound {
    ($($t:ty),*) => {$(
        impl Bound for $t {
            const LOWEST: Self = <$t>::MIN;
            const HIGHEST: Self = <$t>::MAX;
            fn after(self) -> Option<Self> { self.checked_add(1) }
            fn before(self) -> Option<Self> { self.checked_sub(1) }
        }
    )*};
}
bound!(u16, u32, u128);

/// A set of integers.
///
/// Shape: sorted, disjoint, non-adjacent ranges, both ends inclusive. Equal sets have equal representations.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RangeSet<T: Bound>(Vec<(T, T)>);

impl<T: Bound> Default for RangeSet<T> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<T: Bound> RangeSet<T> {
    /// The set without members.
    pub const EMPTY: Self = Self(Vec::new());

    /// Every value of the type.
    #[must_use]
    pub fn full() -> Self {
        Self(vec![(T::LOWEST, T::HIGHEST)])
    }

    /// The values from `low` to `high`, both included; empty when `low > high`.
    #[must_use]
    pub fn range(low: T, high: T) -> Self {
        if low > high { Self::EMPTY } else { Self(vec![(low, high)]) }
    }

    /// The union of ranges in any order, overlapping or not.
    #[must_use]
    pub fn from_ranges(ranges: impl IntoIterator<Item = (T, T)>) -> Self {
        let mut all: Vec<(T, T)> = ranges.into_iter().filter(|(low, high)| low <= high).collect();
        all.sort_unstable();
        let mut out: Vec<(T, T)> = Vec::with_capacity(all.len());
        for (low, high) in all {
            match out.last_mut() {
                // Adjacent ranges are joined too, so that a set has one representation.
                Some(last) if last.1.after().is_none_or(|next| low <= next) => {
                    last.1 = last.1.max(high);
                }
                _ => out.push((low, high)),
            }
        }
        Self(out)
    }

    /// The ranges, ascending, both ends inclusive.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (T, T)> + '_ {
        self.0.iter().copied()
    }

    /// Whether the set has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the set holds every value of the type.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self.0.as_slice(), [(low, high)] if *low == T::LOWEST && *high == T::HIGHEST)
    }

    /// Whether `value` is a member. Logarithmic in the number of ranges.
    #[must_use]
    pub fn contains(&self, value: T) -> bool {
        self.0
            .binary_search_by(|(low, high)| {
                if value < *low {
                    std::cmp::Ordering::Greater
                } else if value > *high {
                    std::cmp::Ordering::Less
                } else {
                    std::cmp::Ordering::Equal
                }
            })
            .is_ok()
    }

    /// The values in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        if self.is_empty() {
            return other.clone();
        }
        if other.is_empty() {
            return self.clone();
        }
        Self::from_ranges(self.iter().chain(other.iter()))
    }

    /// The values in both sets. Linear in the number of ranges.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut out = Vec::new();
        let (mut left, mut right) = (self.iter(), other.iter());
        let (mut a, mut b) = (left.next(), right.next());
        while let (Some(x), Some(y)) = (a, b) {
            let (low, high) = (x.0.max(y.0), x.1.min(y.1));
            if low <= high {
                out.push((low, high));
            }
            if x.1 < y.1 {
                a = left.next();
            } else {
                b = right.next();
            }
        }
        Self(out)
    }

    /// The values of the type that are not in the set.
    #[must_use]
    pub fn complement(&self) -> Self {
        let mut out = Vec::with_capacity(self.0.len() + 1);
        let mut start = Some(T::LOWEST);
        for (low, high) in self.iter() {
            if let (Some(from), Some(to)) = (start, low.before())
                && from <= to
            {
                out.push((from, to));
            }
            start = high.after();
        }
        if let Some(from) = start {
            out.push((from, T::HIGHEST));
        }
        Self(out)
    }

    /// The values of this set that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        if other.is_empty() || self.is_empty() {
            return self.clone();
        }
        self.intersection(&other.complement())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn small() -> impl Strategy<Value = RangeSet<u16>> {
        // Ends near both borders and near each other, where off-by-one errors live.
        let end = prop_oneof![0u16..12, 65524..=65535u16];
        prop::collection::vec((end.clone(), end), 0..5).prop_map(RangeSet::from_ranges)
    }

    fn points() -> impl Iterator<Item = u16> {
        (0..14).chain(65520..=65535)
    }

    proptest! {
        #[test]
        fn algebra_agrees_with_membership(a in small(), b in small()) {
            for p in points() {
                prop_assert_eq!(a.union(&b).contains(p), a.contains(p) || b.contains(p));
                prop_assert_eq!(a.intersection(&b).contains(p), a.contains(p) && b.contains(p));
                prop_assert_eq!(a.difference(&b).contains(p), a.contains(p) && !b.contains(p));
                prop_assert_eq!(a.complement().contains(p), !a.contains(p));
            }
        }

        #[test]
        fn equal_sets_have_one_representation(a in small(), b in small()) {
            let rebuilt = a.difference(&b).union(&a.intersection(&b));
            prop_assert_eq!(rebuilt, a.clone());
            prop_assert_eq!(a.complement().complement(), a);
        }
    }

    #[test]
    fn adjacent_ranges_are_joined() {
        assert_eq!(RangeSet::from_ranges([(1u16, 3), (4, 9)]), RangeSet::range(1, 9));
        assert!(RangeSet::from_ranges([(0u16, 9), (10, 65535)]).is_full());
    }
}
