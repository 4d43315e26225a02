//! What an operator can see of the keys for tokens.
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntGauge};
use replicator_core::model::time::WallTime;

use super::gate::JwtGate;

/// Gauges of a gate's keys, read when somebody asks.
#[derive(Debug)]
pub struct KeyMetrics {
    gate: JwtGate,
    refreshed: Gauge,
    keys: IntGauge,
    revoked: IntGauge,
}

impl KeyMetrics {
    /// Gauges of the keys of this gate.
    #[must_use]
    pub fn new(gate: JwtGate) -> Self {
        Self {
            gate,
            refreshed: made(Gauge::new(
                "jwt_last_refresh_time",
                "Unix time when the keys for tokens were read last; 0 if they never were.",
            )),
            keys: made(IntGauge::new("jwt_public_keys", "Public keys in force.")),
            revoked: made(IntGauge::new("jwt_revoked_ids", "Tokens that are revoked.")),
        }
    }
}

fn made<M>(metric: prometheus::Result<M>) -> M {
    metric.expect("names and texts are constants and valid")
}

impl Collector for KeyMetrics {
    fn desc(&self) -> Vec<&Desc> {
        [self.refreshed.desc(), self.keys.desc(), self.revoked.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let ring = self.gate.keyring();
        let WallTime { micros } = ring.read_at().unwrap_or_default();
        self.refreshed.set(micros as f64 / 1e6);
        let count = |number| i64::try_from(number).unwrap_or(i64::MAX);
        self.keys.set(count(ring.keys()));
        self.revoked.set(count(ring.revoked()));
        [self.refreshed.collect(), self.keys.collect(), self.revoked.collect()].concat()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use prometheus::{Registry, TextEncoder};
    use replicator_core::model::time::WallTime;
    use tokio::sync::watch;

    use super::super::{JwtGate, Keyring, Material, PublicKeyText, fixtures};
    use super::KeyMetrics;

    #[test]
    fn a13_the_time_of_the_last_refresh_is_told() {
        let (ring, read) = watch::channel(Arc::default());
        let gate = JwtGate::new(read, || WallTime { micros: 0 });
        let registry = Registry::new();
        registry.register(Box::new(KeyMetrics::new(gate))).unwrap();
        let check = |lines: &[&str]| {
            let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
            for line in lines {
                assert!(text.lines().any(|had| had == *line), "{line} is not in:\n{text}");
            }
        };
        check(&["jwt_last_refresh_time 0", "jwt_public_keys 0", "jwt_revoked_ids 0"]);
        let text = fixtures::P256_PUBLIC.into();
        let material = Material {
            keys: vec![PublicKeyText { place: "here".to_owned(), text }],
            revoked: BTreeSet::from(["a".to_owned(), "b".to_owned()]),
            complaints: Vec::new(),
        };
        let (new, _) = Keyring::new(material, WallTime { micros: 1_700_000_000_500_000 });
        ring.send_replace(Arc::new(new));
        check(&["jwt_last_refresh_time 1700000000.5", "jwt_public_keys 1", "jwt_revoked_ids 2"]);
    }
}
