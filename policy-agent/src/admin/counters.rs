//! Reads the kernel's counters on a timer, in a thread with a socket of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::admin::metrics::Metrics;
use crate::agent::{Groups, Published};
use crate::kernel::reader::Reader;

/// How often the counters are read.
const PERIOD: Duration = Duration::from_secs(5);
/// Reading takes at the most one part in so many of the time: listing every rule of a large table costs what the table costs.
const SHARE: u32 = 50;

/// Where counters come from.
pub trait Source: Send {
    /// Packets counted in each chain of our table, since the chain was last replaced.
    ///
    /// # Errors
    /// When the kernel does not list them.
    fn packets(&mut self) -> io::Result<BTreeMap<String, u64>>;

    /// Elements in the named sets of our table; `None` when the kernel does not count them.
    ///
    /// # Errors
    /// When the kernel does not list them.
    fn elements(&mut self) -> io::Result<Option<u64>>;
}

impl Source for Reader {
    fn packets(&mut self) -> io::Result<BTreeMap<String, u64>> {
        Self::packets(self)
    }

    fn elements(&mut self) -> io::Result<Option<u64>> {
        Self::elements(self)
    }
}

/// The kernel's counters as metrics.
pub struct Counters<S> {
    source: S,
    metrics: Metrics,
    published: Arc<Published>,
    /// What each chain of the table had counted when it was last read.
    counted: BTreeMap<String, u64>,
    /// The series that there are: direction and group.
    series: BTreeSet<(String, String)>,
}

impl<S: Source> Counters<S> {
    /// Nothing has been counted yet.
    #[must_use]
    pub fn new(source: S, metrics: Metrics, published: Arc<Published>) -> Self {
        Self { source, metrics, published, counted: BTreeMap::new(), series: BTreeSet::new() }
    }

    /// Reads the counters once. Those of packets start again when a chain is replaced, so a series is the sum of what was seen. The
    /// series of a group that is gone goes with it.
    pub fn read(&mut self) {
        if let Ok(Some(elements)) = self.source.elements() {
            self.metrics.set_elements.set(i64::try_from(elements).unwrap_or(i64::MAX));
        }
        let Ok(packets) = self.source.packets() else { return };
        let groups = self.published.groups();
        for (chain, packets) in &packets {
            let before = self.counted.get(chain).copied().unwrap_or(0);
            let more = if *packets >= before { packets - before } else { *packets };
            if more > 0 {
                let series = series(&groups, chain);
                self.metrics.denied_packets.with_label_values(&[&series.0, &series.1]).inc_by(more);
                self.series.insert(series);
            }
        }
        self.counted = packets;
        let live: BTreeSet<(String, String)> = self.counted.keys().map(|chain| series(&groups, chain)).collect();
        for (direction, group) in self.series.extract_if(.., |known| !live.contains(known)) {
            // It is there, and if not, nothing is lost.
            let _ = self.metrics.denied_packets.remove_label_values(&[&direction, &group]);
        }
    }
}

/// What a chain counts for.
fn series(groups: &Groups, chain: &str) -> (String, String) {
    groups.get(chain).cloned().unwrap_or_else(|| ("any".to_owned(), "no connection".to_owned()))
}

/// Starts the thread, in the network namespace of the caller. `dropped` is how many lines the log has dropped.
///
/// # Errors
/// When there is no netlink socket or no thread for it.
pub fn start(metrics: Metrics, published: Arc<Published>, dropped: impl Fn() -> usize + Send + 'static) -> io::Result<()> {
    let mut counters = Counters::new(Reader::open()?, metrics.clone(), published);
    std::thread::Builder::new().name("counters".to_owned()).spawn(move || {
        loop {
            let start = Instant::now();
            counters.read();
            let dropped = dropped() as u64;
            metrics.log_lines_dropped.inc_by(dropped.saturating_sub(metrics.log_lines_dropped.get()));
            std::thread::sleep(PERIOD.max(start.elapsed() * SHARE));
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake(BTreeMap<String, u64>);

    impl Source for Fake {
        fn packets(&mut self) -> io::Result<BTreeMap<String, u64>> {
            Ok(self.0.clone())
        }

        fn elements(&mut self) -> io::Result<Option<u64>> {
            Ok(Some(3))
        }
    }

    fn denied(metrics: &Metrics) -> Vec<String> {
        let text = metrics.text().unwrap();
        text.lines().filter_map(|line| line.strip_prefix("netpol_denied_packets_total").map(str::to_owned)).collect()
    }

    #[test]
    fn counters_add_up_and_go_with_their_group() {
        let (metrics, published) = (Metrics::new().unwrap(), Arc::new(Published::default()));
        let mut counters = Counters::new(Fake(BTreeMap::new()), metrics.clone(), published);
        let mut read = |packets: &[(&str, u64)]| {
            counters.source.0 = packets.iter().map(|(chain, n)| ((*chain).to_owned(), *n)).collect();
            counters.read();
            denied(&metrics)
        };
        assert!(read(&[("a.deny", 0)]).is_empty());
        assert_eq!(read(&[("a.deny", 5)]), ["{direction=\"any\",group=\"no connection\"} 5"]);
        // The chain was replaced, and has counted three packets since.
        assert_eq!(read(&[("a.deny", 3)]), ["{direction=\"any\",group=\"no connection\"} 8"]);
        assert!(read(&[]).is_empty(), "no chain counts for it any more");
    }
}
