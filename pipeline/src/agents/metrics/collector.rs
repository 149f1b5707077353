//! One look at this host.

use std::collections::BTreeMap;

use sysinfo::{Disks, Networks, System};

use super::options::CollectOptions;
use super::rates::Rates;
use super::sample::Samples;
use super::{cpu, disk, memory, network};

/// Measures this host. It remembers the last measurement, for rates and shares are of the time between two.
#[derive(Debug)]
pub struct Collector {
    labels: BTreeMap<String, String>,
    per_core: bool,
    first: bool,
    system: System,
    disks: Disks,
    networks: Networks,
    rates: Rates,
}

/// What one look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// The body of a `POST /metrics`: NDJSON, one sample per line.
    pub body: Vec<u8>,
    /// How many samples.
    pub samples: u64,
}

impl Collector {
    /// A collector that has not looked yet.
    pub fn new(options: &CollectOptions) -> Self {
        let mut labels = options.labels.clone();
        labels.insert("service".to_owned(), options.service.clone());
        labels.insert("host".to_owned(), options.host.clone());
        Self {
            labels,
            per_core: options.per_core,
            first: true,
            system: System::new(),
            disks: Disks::new(),
            networks: Networks::new(),
            rates: Rates::default(),
        }
    }

    /// Looks now, at `now_us` (Unix microseconds). Reads files of `/proc` and asks each file system for its space, so
    /// it may block for a moment.
    pub fn collect(&mut self, now_us: i64) -> Collection {
        let mut samples = Samples::new(now_us, &self.labels);
        self.rates.begin(now_us);
        cpu::collect(&mut self.system, self.first, self.per_core, &mut samples);
        memory::collect(&mut self.system, &mut samples);
        disk::collect(&mut self.disks, &mut self.rates, &mut samples);
        network::collect(&mut self.networks, &mut self.rates, &mut samples);
        samples.gauge("system.uptime_seconds", System::uptime() as f64, &[]);
        self.first = false;
        let (body, samples) = samples.into_parts();
        Collection { body, samples }
    }
}
