//! Metrics for Prometheus. Names end in their unit; the table in docs/src/reference/metrics.md is tested against this list.

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
    /// Metrics, all zero.
    ///
    /// # Errors
    /// If a name is invalid in Prometheus, or registered twice.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some("netpol".to_owned()), None)?;
        let build = GaugeVec::new(Opts::new("build_info", "Always 1; the label is the version that runs"), &["version"])?;
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
        let sandboxes = IntGaugeVec::new(Opts::new("sandboxes", "Sandboxes that the CNI plugin reported, by state"), &["state"])?;
        registry.register(Box::new(sandboxes.clone()))?;
        let source_stale = GaugeVec::new(
            Opts::new(
                "source_stale_seconds",
                "Seconds since a stale watch of a kind of objects last received data; 0 if it is current",
            ),
            &["kind"],
        )?;
        registry.register(Box::new(source_stale.clone()))?;
        let last_success = Gauge::new("last_success_timestamp_seconds", "When the table was last known to be correct")?;
        registry.register(Box::new(last_success.clone()))?;
        Ok(Self {
            change_to_kernel: histogram(
                "change_to_kernel_seconds",
                "Time from the arrival of a change to the acknowledgement of the kernel",
            )?,
            compile: histogram("compile_seconds", "Time to compile and render changes")?,
            transactions: counters("transactions_total", "Transactions by kind and outcome", &["kind", "outcome"])?,
            elements_changed: counter("set_elements_changed_total", "Set elements added and deleted")?,
            drift_repairs: counter("drift_repairs_total", "Replacements of the table after another program changed it")?,
            connections_cut: counter(
                "connections_cut_total",
                "Established connections that were terminated because policies no longer allow them",
            )?,
            connections_cut_coarsely: counter(
                "connections_cut_coarsely_total",
                "Terminated connections that are blocked together with all others of their addresses and protocol, for lack of space",
            )?,
            connections_not_held: counter(
                "connections_not_held_total",
                "Terminated connections without a handshake, such as UDP, that may resume, for lack of space",
            )?,
            cut_seconds: histogram("cut_seconds", "Time to check established connections after a change")?,
            denied_packets: counters(
                "denied_packets_total",
                "Packets denied, by direction and group of pods, as counted by the kernel",
                &["direction", "group"],
            )?,
            deny_log_lines: counter("deny_log_lines_total", "Denied packets that were explained in the log")?,
            deny_log_lost: counter(
                "deny_log_lost_total",
                "Samples of denied packets that were dropped because there were too many",
            )?,
            log_lines_dropped: counter(
                "log_lines_dropped_total",
                "Log lines that were dropped because the log was not read in time",
            )?,
            http_refused: counter(
                "http_refused_total",
                "Connections to the HTTP port that were closed because too many were open",
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
            in_sync: gauge(
                "in_sync",
                "1 if the kernel holds the rules for the current objects, as far as the agent has observed; else 0",
            )?,
            source_problems: gauge("source_problems", "Objects or files that are invalid now")?,
            cni_unchained: gauge(
                "cni_unchained",
                "1 if the CNI plugin is configured but missing from the CNI chain of the node, so that pods start open; else 0",
            )?,
            sandboxes,
            source_stale,
            last_success,
            registry,
        })
    }

    /// The metrics in the text format of Prometheus, including those of the process.
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
