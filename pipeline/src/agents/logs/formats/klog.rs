//! Kubernetes' klog and Google's glog: `I0605 20:10:40.123456    1234 file.go:12] text`; newer glog writes the year,
//! `I20240605`.

use super::scan::{Scan, instant, latest};
use super::{Context, Found};

pub(super) fn parse<'a>(line: &'a str, context: &Context) -> Option<Found<'a>> {
    let level = match line.bytes().next()? {
        b'I' => "INFO",
        b'W' => "WARNING",
        b'E' => "ERROR",
        b'F' => "FATAL",
        b'D' => "DEBUG",
        _ => return None,
    };
    let mut scan = Scan::new(line.get(1..)?);
    let year_or_date = scan.digits(4)?;
    let timestamp_us = if scan.accept(b' ') {
        latest(year_or_date / 100, year_or_date % 100, scan.time()?, context)?
    } else {
        let (month, day) = (scan.digits(2)?, scan.digits(2)?);
        scan.byte(b' ')?;
        instant(i32::try_from(year_or_date).ok()?, month, day, scan.time()?, None, context)?
    };
    scan.byte(b' ')?;
    Some(Found { timestamp_us: Some(timestamp_us), level: Some(level) })
}
