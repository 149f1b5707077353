//! `io.prometheus.client.MetricFamily` messages, each behind its size as a varint.
//!
//! Classic histograms and summaries become the series that text has of them. Native histograms are written as remote write has them: the
//! numbers are the same, their fields are not.

use std::fmt::Write;

use super::series;
use super::{Event, Kind, Options, Place, ReadError};
use crate::data::protobuf::{Field, Fields, Value, WireError, put_bytes, put_double, put_varint};

type Each<'e> = &'e mut dyn FnMut(Event<'_>) -> Result<(), String>;

/// Why a family was not read to its end.
enum Fault {
    Wire,
    What(&'static str),
    Stopped(String),
}

impl From<WireError> for Fault {
    fn from(_: WireError) -> Self {
        Self::Wire
    }
}

pub(super) fn read(page: &[u8], options: Options, each: Each<'_>) -> Result<(), ReadError> {
    let mut rest = page;
    let mut scratch = Scratch::default();
    while !rest.is_empty() {
        let place = Place::Byte(page.len() - rest.len());
        let malformed = |what| ReadError::Malformed { what, place };
        let family = delimited(&mut rest).ok_or_else(|| malformed("a message that is cut short"))?;
        read_family(family, options, &mut scratch, each).map_err(|fault| match fault {
            Fault::Wire => malformed("a message that is no MetricFamily"),
            Fault::What(what) => malformed(what),
            Fault::Stopped(reason) => ReadError::Stopped(reason),
        })?;
    }
    Ok(())
}

/// The next message, behind its size.
fn delimited<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (mut size, mut used) = (0u64, 0);
    loop {
        let byte = *rest.get(used)?;
        size |= u64::from(byte & 0x7f).checked_shl(7 * u32::try_from(used).ok()?)?;
        used += 1;
        if byte < 0x80 {
            break;
        }
        if used == 10 {
            return None;
        }
    }
    let (message, after) = rest[used..].split_at_checked(usize::try_from(size).ok()?)?;
    *rest = after;
    Some(message)
}

/// Texts that are used again and again.
#[derive(Default)]
struct Scratch {
    name: String,
    series: String,
    number: String,
    histogram: Vec<u8>,
}

struct Family<'a> {
    name: &'a str,
    kind: Kind,
}

fn read_family(message: &[u8], options: Options, scratch: &mut Scratch, each: Each<'_>) -> Result<(), Fault> {
    let (mut name, mut help, mut unit, mut kind) = ("", None, None, Kind::Counter);
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => name = field.text()?,
            2 => help = Some(field.text()?),
            3 => {
                kind = match field.varint()? {
                    0 => Kind::Counter,
                    1 => Kind::Gauge,
                    2 => Kind::Summary,
                    3 => Kind::Unknown,
                    4 => Kind::Histogram,
                    5 => Kind::GaugeHistogram,
                    _ => return Err(Fault::What("a type that there is not")),
                }
            }
            5 => unit = Some(field.text()?),
            _ => {}
        }
    }
    if name.is_empty() {
        return Err(Fault::What("a family without a name"));
    }
    each(Event::Type(name, kind)).map_err(Fault::Stopped)?;
    if let Some(help) = help {
        each(Event::Help(name, help)).map_err(Fault::Stopped)?;
    }
    if let Some(unit) = unit.filter(|unit| !unit.is_empty()) {
        each(Event::Unit(name, unit)).map_err(Fault::Stopped)?;
    }
    let family = Family { name, kind };
    for field in Fields::of(message) {
        let field = field?;
        if field.number == 4 {
            Metric::read(field.bytes()?)?.emit(&family, options, scratch, each)?;
        }
    }
    Ok(())
}

#[derive(Default)]
struct Metric<'a> {
    labels: Vec<(&'a str, &'a str)>,
    value: Option<f64>,
    summary: Option<&'a [u8]>,
    histogram: Option<&'a [u8]>,
    timestamp_ms: Option<i64>,
}

impl<'a> Metric<'a> {
    fn read(message: &'a [u8]) -> Result<Self, Fault> {
        let mut metric = Self::default();
        for field in Fields::of(message) {
            let field = field?;
            match field.number {
                1 => {
                    let (mut name, mut value) = ("", "");
                    for field in Fields::of(field.bytes()?) {
                        let field = field?;
                        match field.number {
                            1 => name = field.text()?,
                            2 => value = field.text()?,
                            _ => {}
                        }
                    }
                    if name.is_empty() {
                        return Err(Fault::What("a label without a name"));
                    }
                    metric.labels.push((name, value));
                }
                // A gauge, a counter and what has no type are a value in field 1.
                2 | 3 | 5 => metric.value = Some(double(field.bytes()?, 1)?),
                4 => metric.summary = Some(field.bytes()?),
                6 => metric.timestamp_ms = Some(field.int64()?).filter(|ms| *ms != 0),
                7 => metric.histogram = Some(field.bytes()?),
                _ => {}
            }
        }
        Ok(metric)
    }

    fn emit(&self, family: &Family<'_>, options: Options, scratch: &mut Scratch, each: Each<'_>) -> Result<(), Fault> {
        match family.kind {
            Kind::Summary => self.summary(family, scratch, each),
            Kind::Histogram | Kind::GaugeHistogram => self.histogram(family, options, scratch, each),
            _ => {
                let value = self.value.ok_or(Fault::What("a metric without a value of its family's type"))?;
                self.sample(family, "", None, value, scratch, each)
            }
        }
    }

    /// Gives a sample of the family's name with this suffix, and one more label.
    fn sample(
        &self,
        family: &Family<'_>,
        suffix: &str,
        more: Option<(&str, f64)>,
        value: f64,
        scratch: &mut Scratch,
        each: Each<'_>,
    ) -> Result<(), Fault> {
        let Scratch { name, series, number, .. } = scratch;
        name.clear();
        name.push_str(family.name);
        name.push_str(suffix);
        let more = match more {
            Some((label, bound)) => {
                write_float(bound, number);
                Some((label, number.as_str()))
            }
            None => None,
        };
        series::write(name, self.labels.iter().copied().chain(more), series);
        each(Event::Sample { series, value, timestamp_ms: self.timestamp_ms }).map_err(Fault::Stopped)
    }

    fn summary(&self, family: &Family<'_>, scratch: &mut Scratch, each: Each<'_>) -> Result<(), Fault> {
        let message = self.summary.ok_or(Fault::What("a metric without a value of its family's type"))?;
        let (mut count, mut sum) = (0, 0.0);
        for field in Fields::of(message) {
            let field = field?;
            match field.number {
                1 => count = field.varint()?,
                2 => sum = field.double()?,
                _ => {}
            }
        }
        self.sample(family, "_count", None, count as f64, scratch, each)?;
        self.sample(family, "_sum", None, sum, scratch, each)?;
        for field in Fields::of(message) {
            let field = field?;
            if field.number == 3 {
                let (quantile, value) = (double(field.bytes()?, 1)?, double(field.bytes()?, 2)?);
                self.sample(family, "", Some(("quantile", quantile)), value, scratch, each)?;
            }
        }
        Ok(())
    }

    fn histogram(
        &self,
        family: &Family<'_>,
        options: Options,
        scratch: &mut Scratch,
        each: Each<'_>,
    ) -> Result<(), Fault> {
        let message = self.histogram.ok_or(Fault::What("a metric without a value of its family's type"))?;
        let classic = Classic::read(message)?;
        if options.native_histograms && classic.is_native {
            series::write(family.name, self.labels.iter().copied(), &mut scratch.series);
            native(message, family.kind == Kind::GaugeHistogram, &mut scratch.histogram)?;
            let Scratch { series, histogram, .. } = scratch;
            each(Event::Histogram { series, message: histogram, timestamp_ms: self.timestamp_ms })
                .map_err(Fault::Stopped)?;
            if !options.classic_histograms || classic.buckets == 0 {
                return Ok(());
            }
        }
        self.sample(family, "_count", None, classic.count, scratch, each)?;
        self.sample(family, "_sum", None, classic.sum, scratch, each)?;
        let mut has_infinity = false;
        for field in Fields::of(message) {
            let field = field?;
            if field.number == 3 {
                let (mut count, mut float, mut bound) = (0, 0.0, 0.0);
                for field in Fields::of(field.bytes()?) {
                    let field = field?;
                    match field.number {
                        1 => count = field.varint()?,
                        2 => bound = field.double()?,
                        4 => float = field.double()?,
                        _ => {}
                    }
                }
                has_infinity |= bound == f64::INFINITY;
                let count = if float > 0.0 { float } else { count as f64 };
                self.sample(family, "_bucket", Some(("le", bound)), count, scratch, each)?;
            }
        }
        if has_infinity {
            return Ok(());
        }
        self.sample(family, "_bucket", Some(("le", f64::INFINITY)), classic.count, scratch, each)
    }
}

/// What is known of a histogram at a glance.
#[derive(Default)]
struct Classic {
    count: f64,
    sum: f64,
    buckets: usize,
    is_native: bool,
}

impl Classic {
    fn read(message: &[u8]) -> Result<Self, Fault> {
        let (mut read, mut count, mut float) = (Self::default(), 0, 0.0);
        for field in Fields::of(message) {
            let field = field?;
            match field.number {
                1 => count = field.varint()?,
                2 => read.sum = field.double()?,
                3 => read.buckets += 1,
                4 => float = field.double()?,
                // What only native histograms have: a threshold, counts at zero, spans.
                6 => read.is_native |= field.double()? > 0.0,
                7 => read.is_native |= field.varint()? > 0,
                8 => read.is_native |= field.double()? > 0.0,
                9 | 12 => read.is_native = true,
                _ => {}
            }
        }
        read.count = if float > 0.0 { float } else { count as f64 };
        Ok(read)
    }
}

/// Writes a native histogram as `prometheus.Histogram` of remote write.
fn native(message: &[u8], is_gauge: bool, out: &mut Vec<u8>) -> Result<(), Fault> {
    out.clear();
    let (mut float, mut zero_float) = (0.0, 0.0);
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            4 => float = field.double()?,
            8 => zero_float = field.double()?,
            _ => {}
        }
    }
    let is_float = float > 0.0 || zero_float > 0.0;
    if is_float {
        put_double(2, float, out);
        put_double(7, zero_float, out);
    }
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 if !is_float => put_varint(1, field.varint()?, out),
            2 => put_double(3, field.double()?, out),
            5 => put_varint(4, field.varint()?, out),
            6 => put_double(5, field.double()?, out),
            7 if !is_float => put_varint(6, field.varint()?, out),
            9 => put_span(8, field, out)?,
            10 if !is_float => put_numbers(9, field, out)?,
            11 if is_float => put_numbers(10, field, out)?,
            12 => put_span(11, field, out)?,
            13 if !is_float => put_numbers(12, field, out)?,
            14 if is_float => put_numbers(13, field, out)?,
            _ => {}
        }
    }
    // A gauge's counts may fall: that is no reset.
    if is_gauge {
        put_varint(14, 3, out);
    }
    Ok(())
}

/// A span without buckets says only that the histogram is a native one.
fn put_span(number: u32, field: Field<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let span = field.bytes()?;
    let mut length = 0;
    for field in Fields::of(span) {
        let field = field?;
        if field.number == 2 {
            length = field.varint()?;
        }
    }
    if length > 0 {
        put_bytes(number, span, out);
    }
    Ok(())
}

/// A list of numbers, packed or not, under another number.
fn put_numbers(number: u32, field: Field<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    match field.value {
        Value::Varint(value) => put_varint(number, value, out),
        Value::Fixed64(bits) => put_double(number, f64::from_bits(bits), out),
        Value::Bytes(packed) => put_bytes(number, packed, out),
        Value::Fixed32(_) => return Err(Fault::Wire),
    }
    Ok(())
}

/// The `double` in this field of a message, 0 where it is left out.
fn double(message: &[u8], number: u32) -> Result<f64, Fault> {
    let mut value = 0.0;
    for field in Fields::of(message) {
        let field = field?;
        if field.number == number {
            value = field.double()?;
        }
    }
    Ok(value)
}

/// A bound or quantile as OpenMetrics writes it: with a point, or an exponent.
fn write_float(value: f64, out: &mut String) {
    out.clear();
    if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
        return;
    }
    let magnitude = value.abs();
    let plain = value == 0.0 || value.is_nan() || (1e-4..1e21).contains(&magnitude);
    // Writing to a string does not fail.
    if plain {
        write!(out, "{value}").unwrap_or_default();
        if !out.contains('.') && !value.is_nan() {
            out.push_str(".0");
        }
        return;
    }
    write!(out, "{value:e}").unwrap_or_default();
    // Go writes the sign of an exponent, and two digits at least.
    if let Some((digits, exponent)) = out.split_once('e') {
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
        *out = format!("{digits}e{sign}{exponent:0>2}");
    }
}

/// For tests: writes the size before a message.
#[cfg(test)]
pub(super) fn delimit(message: &[u8], out: &mut Vec<u8>) {
    crate::data::protobuf::write_varint(message.len() as u64, out);
    out.extend_from_slice(message);
}
