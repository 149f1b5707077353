//! What the operating system says of this process, as metrics: memory and CPU.

/// Sets the process gauges; called when somebody reads `/metrics`.
pub(crate) fn observe() {
    if let Some((resident_bytes, peak_bytes)) = memory_bytes() {
        metrics::gauge!("highwater_process_resident_memory_bytes").set(resident_bytes);
        metrics::gauge!("highwater_process_peak_memory_bytes").set(peak_bytes);
    }
    if let Ok(usage) = std::fs::read_to_string("/proc/self/stat") {
        // Fields 14 and 15 (user and system time in ticks of 10 ms), counted after the name, which may hold spaces.
        let after_name: Vec<&str> = usage.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks = |index: usize| after_name.get(index).and_then(|t| t.parse::<f64>().ok());
        if let (Some(user), Some(system)) = (ticks(11), ticks(12)) {
            metrics::gauge!("highwater_process_cpu_seconds").set((user + system) / 100.0);
        }
    }
}

/// Resident and peak resident memory.
fn memory_bytes() -> Option<(f64, f64)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches(" kB").trim().parse::<f64>().ok()
    };
    Some((kib("VmRSS:")? * 1024.0, kib("VmHWM:")? * 1024.0))
}
