//! Every instrument, declared once; labels come from closed lists. Workers write to cells of their own
//! ([`CoreCells`]), which are summed when `/metrics` is read; the rest are gauges that the gateway sets just before.

mod cells;
mod health;

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{Bucket, Counter, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{
    CounterVec, Encoder as _, IntCounter, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use cells::CoreCells;
use cells::{BOUNDS_US, Cell, LOGIN_DELAYS, LOGIN_RESULTS, Times, VERDICTS};
pub use health::{Health, Limits};

use crate::fault::FaultKind;
use crate::sql::Verb;

/// All instruments.
pub struct Metrics {
    registry: Registry,
    cores: Arc<Vec<CoreCells>>,
    /// Whether it is well.
    pub health: Health,
    /// How much there may be.
    pub limits: Limits,
    /// Grows with every snapshot.
    pub policy_serial: IntGauge,
    /// Reloads that took.
    pub reloads: IntCounter,
    /// Reloads that were refused; the old snapshot stays.
    pub reload_failures: IntCounter,
    /// 1 for the driver that runs, by `driver`.
    pub driver: IntGaugeVec,
    /// 1 while the record can't be written.
    pub audit_failed: IntGauge,
    /// Bytes of records that wait for the disk.
    pub audit_queued_bytes: IntGauge,
    /// Records written.
    pub audit_records: IntCounter,
    /// Sessions open.
    pub sessions: IntGauge,
    /// What long packets take now.
    pub collected: IntGauge,
    /// 1 while a target's schema is known and it can be reached, by `target`.
    pub target_up: IntGaugeVec,
    /// Connections to a target, by `target`.
    pub upstream_connections: IntGaugeVec,
    /// Sessions waiting for a connection, by `target`.
    pub upstream_waiting: IntGaugeVec,
    /// Statements waiting for approval.
    pub approvals_pending: IntGauge,
    /// Calls of a plugin, by `plugin`.
    plugin_calls: CounterVec,
    /// Seconds spent in a plugin, by `plugin`.
    plugin_seconds: CounterVec,
    /// Traps, time-outs and broken answers of a plugin, by `plugin`.
    plugin_faults: CounterVec,
}

impl Metrics {
    /// Declares everything.
    pub fn new(workers: usize) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let cores: Vec<CoreCells> = (0..workers.max(1)).map(|_| CoreCells::default()).collect();
        let cores = Arc::new(cores);
        registry.register(Box::new(Cores(Arc::clone(&cores))))?;
        // Descriptors, memory, CPU time, the start: under the names that every process's have.
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let all = &registry;
        let gauge = |name: &str, help: &str| registered(all, IntGauge::new(name, help));
        let gauges = |name: &str, help: &str, label: &str| {
            registered(all, IntGaugeVec::new(Opts::new(name, help), &[label]))
        };
        let counter = |name: &str, help: &str| registered(all, IntCounter::new(name, help));
        let of_plugins = |name: &str, help: &str| {
            registered(all, CounterVec::new(Opts::new(name, help), &["plugin"]))
        };
        let build = gauges("rowgate_build_info", "1, by version.", "version")?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let workers_gauge = gauge("rowgate_workers", "Worker threads.")?;
        workers_gauge.set(i64::try_from(workers).unwrap_or(i64::MAX));
        Ok(Self {
            health: Health::new(all)?,
            limits: Limits::new(all)?,
            policy_serial: gauge("rowgate_policy_serial", "Grows with every snapshot.")?,
            reloads: counter("rowgate_policy_reloads_total", "Reloads that took.")?,
            reload_failures: counter(
                "rowgate_policy_reload_failures_total",
                "Reloads that were refused; the old snapshot stays.",
            )?,
            driver: gauges("rowgate_driver_info", "1 for the I/O driver that runs.", "driver")?,
            audit_failed: gauge("rowgate_audit_failed", "1 while the record can't be written.")?,
            audit_queued_bytes: gauge(
                "rowgate_audit_queued_bytes",
                "Bytes of records that wait for the disk.",
            )?,
            audit_records: counter(
                "rowgate_audit_records_total",
                "Records written since the start.",
            )?,
            sessions: gauge("rowgate_sessions", "Sessions open.")?,
            collected: gauge(
                "rowgate_collected_bytes",
                "What statements and masked rows of over 64 KiB take now.",
            )?,
            target_up: gauges("rowgate_target_up", "1 while a target is ready.", "target")?,
            upstream_connections: gauges(
                "rowgate_upstream_connections",
                "Connections to a target.",
                "target",
            )?,
            upstream_waiting: gauges(
                "rowgate_upstream_waiting",
                "Sessions waiting for a connection.",
                "target",
            )?,
            approvals_pending: gauge(
                "rowgate_approvals_pending",
                "Statements waiting for approval.",
            )?,
            plugin_calls: of_plugins("rowgate_plugin_calls_total", "Calls of a plugin.")?,
            plugin_seconds: of_plugins("rowgate_plugin_seconds_total", "Time in a plugin.")?,
            plugin_faults: of_plugins(
                "rowgate_plugin_faults_total",
                "Traps, time-outs and broken answers of a plugin.",
            )?,
            registry,
            cores,
        })
    }

    /// The plugins of the live snapshot, each with its calls, nanoseconds and faults since it was loaded. Others are
    /// shown no more.
    pub fn set_plugins<'a>(&self, plugins: impl Iterator<Item = (&'a str, [u64; 3])>) {
        let all = [&self.plugin_calls, &self.plugin_seconds, &self.plugin_faults];
        all.iter().for_each(|counters| counters.reset());
        for (name, [calls, ns, faults]) in plugins {
            let values = [float(calls), float(ns) / 1e9, float(faults)];
            for (counters, value) in all.iter().zip(values) {
                counters.with_label_values(&[name]).inc_by(value);
            }
        }
    }

    /// All workers' cells.
    pub fn cores(&self) -> Arc<Vec<CoreCells>> {
        Arc::clone(&self.cores)
    }

    /// Everything in Prometheus's text format.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            Ok(()) => String::from_utf8(text).unwrap_or_default(),
            Err(error) => {
                tracing::error!(%error, "metrics can't be encoded");
                String::new()
            }
        }
    }
}

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    made: Result<C, prometheus::Error>,
) -> Result<C, prometheus::Error> {
    let made = made?;
    registry.register(Box::new(made.clone()))?;
    Ok(made)
}

/// Sums the workers' cells when asked.
struct Cores(Arc<Vec<CoreCells>>);

impl Cores {
    fn sum(&self, pick: impl Fn(&CoreCells) -> &Cell) -> u64 {
        self.0.iter().map(|core| pick(core).value()).sum()
    }

    fn times(&self, pick: impl Fn(&CoreCells) -> &Times) -> Metric {
        let mut histogram = Histogram::default();
        let mut count = 0;
        let mut buckets = Vec::with_capacity(BOUNDS_US.len());
        for (at, bound) in BOUNDS_US.iter().enumerate() {
            count += self.sum(|core| &pick(core).buckets[at]);
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(float(*bound) / 1e6);
            bucket.set_cumulative_count(count);
            buckets.push(bucket);
        }
        count += self.sum(|core| &pick(core).buckets[BOUNDS_US.len()]);
        histogram.set_bucket(buckets);
        histogram.set_sample_count(count);
        histogram.set_sample_sum(float(self.sum(|core| &pick(core).sum_us)) / 1e6);
        let mut metric = Metric::default();
        metric.set_histogram(histogram);
        metric
    }

    /// Where statements spend their time.
    fn latencies(&self) -> [MetricFamily; 3] {
        let histogram = MetricType::HISTOGRAM;
        [
            family(
                "rowgate_gateway_latency_seconds",
                "The gateway's own time before a statement is sent.",
                histogram,
                vec![self.times(|core| &core.gateway)],
            ),
            family(
                "rowgate_upstream_latency_seconds",
                "From sending a statement to the database's first byte.",
                histogram,
                vec![self.times(|core| &core.upstream)],
            ),
            family(
                "rowgate_hold_seconds",
                "Waiting for approvers.",
                histogram,
                vec![self.times(|core| &core.hold)],
            ),
        ]
    }
}

impl Collector for Cores {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let count = |value: u64, labels: &[(&str, &str)]| counted(value, labels);
        let mut statements = Vec::new();
        for (row, verb) in Verb::ALL.iter().enumerate() {
            for (column, verdict) in VERDICTS.iter().enumerate() {
                let value = self.sum(|core| &core.statements[row][column]);
                statements.push(count(value, &[("verb", verb.as_str()), ("verdict", verdict)]));
            }
        }
        let faults = FaultKind::ALL.iter().enumerate();
        let faults =
            faults.map(|(at, kind)| count(self.sum(|c| &c.faults[at]), &[("kind", kind.label())]));
        let logins = LOGIN_RESULTS.iter().enumerate();
        let logins = logins.map(|(at, r)| count(self.sum(|c| &c.logins[at]), &[("result", r)]));
        let delays = LOGIN_DELAYS.iter().enumerate();
        let delays = delays.map(|(at, by)| count(self.sum(|c| &c.login_delays[at]), &[("by", by)]));
        let counter = MetricType::COUNTER;
        let total = |name, help, pick: fn(&CoreCells) -> &Cell| {
            family(name, help, counter, vec![count(self.sum(pick), &[])])
        };
        let mut families = vec![
            family("rowgate_statements_total", "Statements decided.", counter, statements),
            family(
                "rowgate_faults_total",
                "Errors of the gateway's own.",
                counter,
                faults.collect(),
            ),
            family("rowgate_logins_total", "Logins by how they ended.", counter, logins.collect()),
            family(
                "rowgate_login_delays_total",
                "Failed logins answered late, by whose failures say how late.",
                counter,
                delays.collect(),
            ),
            total(
                "rowgate_audit_refusals_total",
                "Statements refused for lack of room in the record.",
                |core| &core.audit_refused,
            ),
            total("rowgate_rows_total", "Rows released.", |core| &core.rows),
            total("rowgate_response_bytes_total", "Bytes of responses released.", |core| {
                &core.bytes
            }),
            total("rowgate_masked_cells_total", "Cells that a mask changed.", |core| {
                &core.masked_cells
            }),
            total(
                "rowgate_upstream_errors_total",
                "Errors of the databases, passed on or withheld.",
                |core| &core.upstream_errors,
            ),
            total(
                "rowgate_upstream_given_back_total",
                "Connections that idle sessions gave back to the pool.",
                |core| &core.given_back,
            ),
        ];
        families.extend(self.latencies());
        families
    }
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn counted(value: u64, labels: &[(&str, &str)]) -> Metric {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    let mut counter = Counter::default();
    counter.set_value(float(value));
    let mut metric = Metric::default();
    metric.set_label(labels.iter().map(pair).collect());
    metric.set_counter(counter);
    metric
}

#[allow(clippy::cast_precision_loss, reason = "Prometheus counts in floats")]
fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Completion;

    #[test]
    fn cores_are_summed() {
        let metrics = Metrics::new(2).unwrap();
        let cores = metrics.cores();
        for core in cores.iter() {
            core.statement(Verb::Select, "mask");
            core.login_refused("proof");
            core.completed(
                &Completion { rows: 3, decide_us: 7, ..Completion::default() },
                Some(FaultKind::Plugin),
            );
        }
        metrics.set_plugins([("gone", [1, 1, 1])].into_iter());
        metrics.set_plugins([("a", [1, 500_000_000, 0])].into_iter());
        let text = metrics.render();
        assert!(!text.contains("gone"), "a plugin that was unloaded is still shown");
        for line in [
            "rowgate_statements_total{verb=\"select\",verdict=\"mask\"} 2",
            "rowgate_logins_total{result=\"proof\"} 2",
            "rowgate_rows_total 6",
            "rowgate_faults_total{kind=\"plugin\"} 2",
            "rowgate_gateway_latency_seconds_bucket{le=\"0.00001\"} 2",
            "rowgate_gateway_latency_seconds_count 2",
            "rowgate_workers 2",
            "rowgate_plugin_seconds_total{plugin=\"a\"} 0.5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
