//! Disks: space per mount, bytes read and written per device.

use std::collections::{BTreeSet, HashMap};

use sysinfo::Disks;

use super::memory::percent;
use super::rates::Rates;
use super::sample::Samples;

pub(crate) fn collect(disks: &mut Disks, rates: &mut Rates, samples: &mut Samples) {
    disks.refresh(true);
    let mut devices = HashMap::new();
    let mut mounts = BTreeSet::new();
    for disk in disks.list() {
        let mount = disk.mount_point().display().to_string();
        // Containers mount single files; they are no disks. A mount over another hides it.
        if !disk.mount_point().is_dir() || !mounts.insert(mount.clone()) {
            continue;
        }
        let device = disk.name().to_string_lossy().into_owned();
        let file_system = disk.file_system().to_string_lossy();
        let labels = [("mount", mount.as_str()), ("device", &device), ("filesystem", &file_system)];
        let (total, available) = (disk.total_space(), disk.available_space());
        let used = total.saturating_sub(available);
        samples.gauge("system.disk.total_bytes", total as f64, &labels);
        samples.gauge("system.disk.available_bytes", available as f64, &labels);
        samples.gauge("system.disk.used_bytes", used as f64, &labels);
        samples.gauge("system.disk.used_percent", percent(used, total), &labels);
        devices.insert(device, disk.usage());
    }
    // A device may have several mounts; its traffic is one.
    let mut devices: Vec<_> = devices.into_iter().collect();
    devices.sort_by(|a, b| a.0.cmp(&b.0));
    for (device, usage) in devices {
        let labels = [("device", device.as_str())];
        rates.counter("system.disk.read_bytes", usage.total_read_bytes, &labels, samples);
        rates.counter("system.disk.written_bytes", usage.total_written_bytes, &labels, samples);
    }
}
