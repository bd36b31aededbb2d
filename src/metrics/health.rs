//! What tells whether a gateway is well, and what its gauges are to be held against: for alerts.

use prometheus::{IntCounter, IntGauge, IntGaugeVec, Opts, Registry};

use super::registered;

/// Whether it is well.
pub struct Health {
    /// 1 while `/readyz` says so.
    pub ready: IntGauge,
    /// 1 while what the files say is not what runs, since it was refused.
    pub reload_failed: IntGauge,
    /// Held statements that one person let through alone.
    pub broken_glass: IntCounter,
    /// What an administrator who is mapped to nobody did, as root.
    pub unmapped_root: IntCounter,
    /// When a certificate that is shown ends, by `of`: `clients` or `pages`.
    pub certificate_ends: IntGaugeVec,
}

impl Health {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name, help| registered(registry, IntGauge::new(name, help));
        let ends = Opts::new(
            "rowgate_tls_certificate_not_after_timestamp_seconds",
            "When a certificate that is shown ends.",
        );
        let counter = |name, help| registered(registry, IntCounter::new(name, help));
        Ok(Self {
            ready: gauge("rowgate_ready", "1 while /readyz says so.")?,
            reload_failed: gauge(
                "rowgate_policy_reload_failed",
                "1 while the files hold something that was refused; the old snapshot stays.",
            )?,
            broken_glass: counter(
                "rowgate_break_glass_total",
                "Held statements that one person let through alone, in an emergency.",
            )?,
            unmapped_root: counter(
                "rowgate_unmapped_root_total",
                "What root did as an administrator without being mapped to an identity.",
            )?,
            certificate_ends: registered(registry, IntGaugeVec::new(ends, &["of"]))?,
        })
    }
}

/// How much there may be.
pub struct Limits {
    /// Sessions.
    pub sessions: IntGauge,
    /// Connections, by `target`.
    pub upstream: IntGaugeVec,
    /// Bytes of records that wait for the disk, over all queues.
    pub audit_queue: IntGauge,
}

impl Limits {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name, help| registered(registry, IntGauge::new(name, help));
        let upstream =
            Opts::new("rowgate_upstream_limit", "Connections to a target that may be open.");
        Ok(Self {
            sessions: gauge("rowgate_sessions_limit", "Sessions that may be open.")?,
            upstream: registered(registry, IntGaugeVec::new(upstream, &["target"]))?,
            audit_queue: gauge(
                "rowgate_audit_queue_limit_bytes",
                "Bytes of records that may wait for the disk, over all queues.",
            )?,
        })
    }
}
