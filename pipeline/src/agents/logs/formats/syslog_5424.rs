//! Syslog as RFC 5424 has it: `<34>1 2003-10-11T22:14:15.003Z host app procid msgid [data] message`. The level is the
//! priority's severity; a `-` in the place of the time means none.

use super::scan::Scan;
use super::syslog_3164::priority;
use super::{Context, Found};

pub(super) fn parse<'a>(line: &'a str, context: &Context) -> Option<Found<'a>> {
    let mut scan = Scan::new(line);
    let severity = priority(&mut scan)?;
    scan.byte(b'1')?;
    scan.byte(b' ')?;
    let timestamp_us = if scan.accept(b'-') { None } else { Some(scan.iso(context)?) };
    scan.byte(b' ')?;
    Some(Found { timestamp_us, level: Some(severity) })
}
