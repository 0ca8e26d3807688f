//! Figures of benchmarks: what is compared with what, and when a comparison says nothing.

use std::fmt;

/// A base may move by this part between its two measurements.
const STEADY: f64 = 0.1;
/// So many comparisons are wanted, and so many are the least that say something.
const WANTED: usize = 5;
const LEAST: usize = 3;
/// So often it is tried.
const TRIES: usize = 12;

/// The value in the middle; `NaN` when there is none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

/// The value below which this part of the values lies; `NaN` when there is none.
#[must_use]
pub fn percentile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * part).round() as usize).copied().unwrap_or(f64::NAN)
}

/// The least and the greatest value.
#[must_use]
pub fn spread(values: &[f64]) -> (f64, f64) {
    (values.iter().copied().fold(f64::NAN, f64::min), values.iter().copied().fold(f64::NAN, f64::max))
}

/// Ratios of a value to a base that is measured before and after it.
///
/// A machine that was busy for a while makes any ratio. So what the base says twice must be about the same, or the ratio is not
/// counted and the comparison is made again, a bounded number of times.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Ratios {
    steady: Vec<f64>,
    tries: usize,
}

impl Ratios {
    /// Takes a value with what the base was before and after; whether it counts.
    pub fn take(&mut self, before: f64, value: f64, after: f64) -> bool {
        self.tries += 1;
        let is_steady = (before - after).abs() <= STEADY * before.max(after);
        if is_steady && !self.is_done() {
            self.steady.push(2.0 * value / (before + after));
        }
        is_steady
    }

    /// Whether there are enough, or it was tried often enough.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.steady.len() >= WANTED || self.tries >= TRIES
    }
}

impl fmt::Display for Ratios {
    /// The median, with the least and the greatest; or that the machine was never quiet enough.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.steady.len() < LEAST {
            return write!(f, "not stable ({} of {} tries)", self.steady.len(), self.tries);
        }
        let (least, greatest) = spread(&self.steady);
        write!(f, "{:.2} ({least:.2}–{greatest:.2})", median(&self.steady))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_to_the_mean_of_what_the_base_was() {
        let mut ratios = Ratios::default();
        for value in [95.0, 105.0, 115.0] {
            assert!(ratios.take(100.0, value, 110.0));
        }
        assert_eq!(ratios.to_string(), "1.00 (0.90–1.10)");
        assert!(!ratios.is_done());
    }

    #[test]
    fn a_base_that_moved_gives_no_ratio() {
        let mut ratios = Ratios::default();
        while !ratios.is_done() {
            assert!(!ratios.take(100.0, 100.0, 89.0));
            assert!(!ratios.take(89.0, 100.0, 100.0));
        }
        assert_eq!(ratios.to_string(), "not stable (0 of 12 tries)");
    }

    #[test]
    fn enough_is_enough() {
        let mut ratios = Ratios::default();
        for _ in 0..WANTED {
            assert!(!ratios.is_done());
            ratios.take(1.0, 1.0, 1.0);
        }
        assert!(ratios.is_done());
        ratios.take(1.0, 9.0, 1.0);
        assert_eq!(ratios.to_string(), "1.00 (1.00–1.00)");
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        assert_eq!(percentile(&[3.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(percentile(&[3.0, 1.0, 2.0], 1.0), 3.0);
        assert_eq!(spread(&[3.0, 1.0, 2.0]), (1.0, 3.0));
        assert!(median(&[]).is_nan());
    }
}
