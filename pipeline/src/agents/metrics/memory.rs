//! Memory and swap.

use sysinfo::System;

use super::sample::Samples;

pub(crate) fn collect(system: &mut System, samples: &mut Samples) {
    system.refresh_memory();
    let (total, used) = (system.total_memory(), system.used_memory());
    samples.gauge("system.memory.total_bytes", total as f64, &[]);
    samples.gauge("system.memory.used_bytes", used as f64, &[]);
    samples.gauge("system.memory.available_bytes", system.available_memory() as f64, &[]);
    samples.gauge("system.memory.free_bytes", system.free_memory() as f64, &[]);
    // Without memory or swap the share is 0/0, and is left out.
    samples.gauge("system.memory.used_percent", percent(used, total), &[]);
    let (total, used) = (system.total_swap(), system.used_swap());
    samples.gauge("system.swap.total_bytes", total as f64, &[]);
    samples.gauge("system.swap.used_bytes", used as f64, &[]);
    samples.gauge("system.swap.free_bytes", system.free_swap() as f64, &[]);
    samples.gauge("system.swap.used_percent", percent(used, total), &[]);
}

pub(super) fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole as f64
}
