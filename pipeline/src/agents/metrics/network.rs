//! Network interfaces: bytes, packets and errors, with rates.

use sysinfo::Networks;

use super::rates::Rates;
use super::sample::Samples;

pub(crate) fn collect(networks: &mut Networks, rates: &mut Rates, samples: &mut Samples) {
    networks.refresh(true);
    let mut interfaces: Vec<_> = networks.list().iter().collect();
    interfaces.sort_by(|a, b| a.0.cmp(b.0));
    for (interface, data) in interfaces {
        let labels = [("interface", interface.as_str())];
        rates.counter("system.network.received_bytes", data.total_received(), &labels, samples);
        rates.counter("system.network.transmitted_bytes", data.total_transmitted(), &labels, samples);
        rates.counter("system.network.received_packets", data.total_packets_received(), &labels, samples);
        rates.counter("system.network.transmitted_packets", data.total_packets_transmitted(), &labels, samples);
        samples.counter("system.network.received_errors_total", data.total_errors_on_received(), &labels);
        samples.counter("system.network.transmitted_errors_total", data.total_errors_on_transmitted(), &labels);
    }
}
