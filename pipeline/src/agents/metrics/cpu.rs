//! CPU: usage, time by mode, load.

use sysinfo::System;

use super::sample::Samples;

/// The kernel counts in these, whatever its own tick is.
const TICKS_PER_SECOND: f64 = 100.0;
/// Columns of `/proc/stat`. The two for guests are part of user and nice.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];

/// `system.cpu.usage_percent` is the share since the last collection, so there is none in the first.
pub(crate) fn collect(system: &mut System, first: bool, per_core: bool, samples: &mut Samples) {
    system.refresh_cpu_usage();
    samples.gauge("system.cpu.cores", system.cpus().len() as f64, &[]);
    if !first {
        samples.gauge("system.cpu.usage_percent", f64::from(system.global_cpu_usage()), &[("cpu", "all")]);
        for (core, cpu) in system.cpus().iter().enumerate().filter(|_| per_core) {
            samples.gauge("system.cpu.usage_percent", f64::from(cpu.cpu_usage()), &[("cpu", &core.to_string())]);
        }
    }
    // Elsewhere than on Linux there is no such file, and no time by mode.
    if let Ok(stat) = std::fs::read_to_string("/proc/stat") {
        time_by_mode(&stat, per_core, samples);
    }
    let load = System::load_average();
    samples.gauge("system.load_1m", load.one, &[]);
    samples.gauge("system.load_5m", load.five, &[]);
    samples.gauge("system.load_15m", load.fifteen, &[]);
}

/// `system.cpu.seconds_total` by mode, from the text of `/proc/stat`.
fn time_by_mode(stat: &str, per_core: bool, samples: &mut Samples) {
    for line in stat.lines() {
        let Some((name, ticks)) = line.strip_prefix("cpu").and_then(|rest| rest.split_once(' ')) else { continue };
        if !name.is_empty() && !per_core {
            continue;
        }
        let cpu = if name.is_empty() { "all" } else { name };
        for (mode, ticks) in MODES.iter().zip(ticks.split_ascii_whitespace()) {
            let Ok(ticks) = ticks.parse::<f64>() else { continue };
            let labels = [("cpu", cpu), ("mode", *mode)];
            samples.add("system.cpu.seconds_total", super::sample::Kind::Counter, ticks / TICKS_PER_SECOND, &labels);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn proc_stat_is_read() {
        let stat = "cpu  250 0 50 1000 5 0 1 0 9 9\ncpu0 250 0 50 1000 5 0 1 0 9 9\nintr 5\n";
        let labels = BTreeMap::from([("host".to_owned(), "h".to_owned())]);
        let mut samples = Samples::new(7, &labels);
        time_by_mode(stat, false, &mut samples);
        let (body, count) = samples.into_parts();
        assert_eq!(count, 8);
        let first = String::from_utf8(body).unwrap().lines().next().unwrap().to_owned();
        assert_eq!(
            first,
            r#"{"name":"system.cpu.seconds_total","type":"counter","value":2.5,"timestamp":7,"labels":{"host":"h","cpu":"all","mode":"user"}}"#
        );
        let mut samples = Samples::new(7, &labels);
        time_by_mode(stat, true, &mut samples);
        assert_eq!(samples.into_parts().1, 16);
    }
}
