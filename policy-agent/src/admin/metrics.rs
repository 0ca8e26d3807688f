//! What Prometheus sees. Names end in their unit; the table in docs/src/reference/metrics.md is tested against this list.

use std::time::Duration;

use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

/// Buckets for times between ten microseconds and ten seconds.
const SECONDS: [f64; 14] = [1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 5.0, 10.0];

/// Everything that is measured.
#[derive(Clone)]
#[expect(missing_docs, reason = "each has its help text below")]
pub struct Metrics {
    registry: Registry,
    pub change_to_kernel: Histogram,
    pub compile: Histogram,
    pub transactions: IntCounterVec,
    pub elements_changed: IntCounter,
    pub drift_repairs: IntCounter,
    pub connections_cut: IntCounter,
    pub connections_cut_coarsely: IntCounter,
    pub connections_not_held: IntCounter,
    pub cut_seconds: Histogram,
    pub denied_packets: IntCounterVec,
    pub deny_log_lines: IntCounter,
    pub deny_log_lost: IntCounter,
    pub log_lines_dropped: IntCounter,
    pub http_refused: IntCounter,
    pub sets: IntGauge,
    pub set_elements: IntGauge,
    pub chains: IntGauge,
    pub rules: IntGauge,
    pub oversized_groups: IntGauge,
    pub objects: IntGaugeVec,
    pub in_sync: IntGauge,
    pub source_problems: IntGauge,
    pub cni_unchained: IntGauge,
    pub sandboxes: IntGaugeVec,
    pub source_stale: GaugeVec,
    pub last_success: Gauge,
}

impl Metrics {
    /// Metrics that say zero.
    ///
    /// # Errors
    /// When a name is not one that Prometheus takes, or is there twice.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some("netpol".to_owned()), None)?;
        let build = GaugeVec::new(Opts::new("build_info", "Always 1; the label says which version runs"), &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        registry.register(Box::new(build))?;
        let histogram = |name: &str, help: &str| -> prometheus::Result<Histogram> {
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok(histogram)
        };
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let counters = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<IntCounterVec> {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok(counters)
        };
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let objects = IntGaugeVec::new(Opts::new("objects", "Objects that the agent holds, by kind"), &["kind"])?;
        registry.register(Box::new(objects.clone()))?;
        let sandboxes = IntGaugeVec::new(Opts::new("sandboxes", "Sandboxes that the CNI plugin told of, by state"), &["state"])?;
        registry.register(Box::new(sandboxes.clone()))?;
        let source_stale = GaugeVec::new(
            Opts::new(
                "source_stale_seconds",
                "Since when nothing was heard of a kind of objects that should have been; 0 while all is well",
            ),
            &["kind"],
        )?;
        registry.register(Box::new(source_stale.clone()))?;
        let last_success = Gauge::new("last_success_timestamp_seconds", "When the table was last known to be right")?;
        registry.register(Box::new(last_success.clone()))?;
        Ok(Self {
            change_to_kernel: histogram(
                "change_to_kernel_seconds",
                "From a change that reaches the agent to the kernel's acknowledgement",
            )?,
            compile: histogram("compile_seconds", "Compiling and rendering changes")?,
            transactions: counters("transactions_total", "Transactions by kind and outcome", &["kind", "outcome"])?,
            elements_changed: counter("set_elements_changed_total", "Set elements added and deleted")?,
            drift_repairs: counter("drift_repairs_total", "Times that the table was replaced because somebody else changed it")?,
            connections_cut: counter("connections_cut_total", "Established connections deleted because they lost their verdict")?,
            connections_cut_coarsely: counter(
                "connections_cut_coarsely_total",
                "Connections that are kept cut together with all others of their addresses and protocol, for lack of room",
            )?,
            connections_not_held: counter(
                "connections_not_held_total",
                "Connections without an opening, as of UDP, that may come back after they were cut, for lack of room",
            )?,
            cut_seconds: histogram("cut_seconds", "Judging established connections after a change")?,
            denied_packets: counters(
                "denied_packets_total",
                "Packets denied, by direction and group of pods, as counted by the kernel",
                &["direction", "group"],
            )?,
            deny_log_lines: counter("deny_log_lines_total", "Denied packets that were explained in the log")?,
            deny_log_lost: counter("deny_log_lost_total", "Samples of denied packets that were dropped, because too many came")?,
            log_lines_dropped: counter("log_lines_dropped_total", "Lines that the log could not take in time")?,
            http_refused: counter(
                "http_refused_total",
                "Connections to the HTTP port that were closed, because too many were open",
            )?,
            sets: gauge("sets", "Named sets in the table")?,
            set_elements: gauge("set_elements", "Elements in the named sets, as counted by the kernel (Linux 6.16; else 0)")?,
            chains: gauge("chains", "Chains in the table")?,
            rules: gauge("rules", "Rules in the table")?,
            oversized_groups: gauge(
                "oversized_groups",
                "Groups of pods and directions that get no traffic, because the policies of the pod or of its node are too large to be compiled",
            )?,
            objects,
            in_sync: gauge("in_sync", "1 while the kernel holds what the objects say, as far as the agent knows; else 0")?,
            source_problems: gauge("source_problems", "Objects or files that are wrong at the moment")?,
            cni_unchained: gauge(
                "cni_unchained",
                "1 while the CNI plugin should be in the node's chain, and is not, so that pods start open; else 0",
            )?,
            sandboxes,
            source_stale,
            last_success,
            registry,
        })
    }

    /// The text that Prometheus reads, those of the process included.
    ///
    /// # Errors
    /// When a metric cannot be written.
    pub fn text(&self) -> prometheus::Result<String> {
        let mut families = self.registry.gather();
        families.extend(prometheus::gather());
        let mut out = Vec::new();
        TextEncoder::new().encode(&families, &mut out)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }
}

/// Seconds, for a histogram.
#[must_use]
pub fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}
