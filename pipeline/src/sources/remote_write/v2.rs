//! `io.prometheus.write.v2.Request`: texts are in one table, and series refer to it.

use std::collections::HashSet;

use ahash::RandomState;
use bytes::Bytes;

use super::series::{self, Common, Counts, Labels, Shape, Written};
use crate::data::Refusal;
use crate::data::metrics::Metrics;
use crate::data::protobuf::{Fields, WireError};
use crate::sources::IngestError;
use crate::sources::batcher::Dealer;
use crate::sources::metadata::{Described, Kind, MAX_DESCRIBED};

const MESSAGE: &str = "io.prometheus.write.v2.Request";
const SHAPE: Shape = Shape { histograms: 3, exemplars: 4 };
/// Most texts of one request.
const MAX_SYMBOLS: usize = 1 << 20;

/// Reads a request into rows.
pub(super) fn read(body: &Bytes, dealer: &mut Dealer<'_, Metrics>) -> Result<Written, IngestError> {
    let mut reader = Reader {
        body,
        symbols: Vec::new(),
        labels: Labels::default(),
        described: HashSet::default(),
        written: Written::default(),
    };
    for field in Fields::of(body) {
        let field = field.map_err(malformed)?;
        if field.number == 4 {
            if reader.symbols.len() == MAX_SYMBOLS {
                return Err(malformed(format!("more than {MAX_SYMBOLS} symbols: send less at a time")));
            }
            reader.symbols.push(field.bytes().map_err(malformed)?);
        }
    }
    let mut index = 0;
    for field in Fields::of(body) {
        let field = field.map_err(malformed)?;
        if field.number == 5 {
            reader.take(field.bytes().map_err(malformed)?, index, dealer).map_err(malformed)?;
            index = index.saturating_add(1);
        }
        if reader.written.metadata.len() > MAX_DESCRIBED {
            return Err(Described::too_many());
        }
        if dealer.is_failed() {
            break;
        }
    }
    Ok(reader.written)
}

struct Reader<'a> {
    body: &'a Bytes,
    symbols: Vec<&'a [u8]>,
    labels: Labels<'a>,
    /// What is among the metadata already: family, kind, help and unit, hashed.
    described: HashSet<u64, RandomState>,
    written: Written,
}

/// A series' metadata as it refers to it.
#[derive(Debug, Clone, Copy, Default, Hash)]
struct Metadata {
    kind: u64,
    help: u64,
    unit: u64,
}

impl<'a> Reader<'a> {
    fn take(&mut self, message: &'a [u8], index: i32, dealer: &mut Dealer<'_, Metrics>) -> Result<(), WireError> {
        self.labels.clear();
        let max_labels = dealer.limits().max_attributes;
        let (mut counts, mut metadata, mut start_ms) = (Counts::default(), Metadata::default(), 0);
        let mut refs = Refs { name: None, broken: None };
        let mut behind: Option<Fields<'_>> = None;
        let mut fields = Fields::of(message);
        loop {
            let before = fields;
            let Some(field) = fields.next() else { break };
            let field = field?;
            match field.number {
                1 => {
                    let (symbols, labels) = (&self.symbols, &mut self.labels);
                    field.each_varint(|reference| refs.take(reference, symbols, labels, max_labels))?;
                }
                5 => metadata = read_metadata(field.bytes()?)?,
                6 => start_ms = field.int64()?,
                number => {
                    if counts.take(number, SHAPE) {
                        behind.get_or_insert(before);
                    }
                }
            }
        }
        dealer.leave_out("exemplar", counts.exemplars);
        let kind = Kind::of_prometheus(metadata.kind);
        let series = match refs.refusal() {
            Some(refusal) => Err(refusal),
            None => self.labels.series(dealer),
        };
        let refusal = match (series, behind.filter(|_| counts.rows() > 0)) {
            (Ok(series), Some(behind)) => {
                let family = kind.family(series.name);
                let common = Common { index, kind: kind.of_rows(), start_timestamp_us: series::start_us(start_ms) };
                if (metadata.kind, metadata.help, metadata.unit) != (0, 0, 0)
                    && self.described.insert(self.described.hasher().hash_one((family, metadata)))
                {
                    let text = |reference: u64| -> Bytes {
                        let symbol = usize::try_from(reference).ok().and_then(|at| self.symbols.get(at));
                        let text = symbol.filter(|symbol| std::str::from_utf8(symbol).is_ok());
                        text.map_or_else(Bytes::new, |text| self.body.slice_ref(text))
                    };
                    self.written.metadata.push(Described {
                        name: Bytes::copy_from_slice(family.as_bytes()),
                        kind,
                        help: text(metadata.help),
                        unit: text(metadata.unit),
                    });
                }
                return series::add(&series, common, behind, SHAPE, dealer, &mut self.written);
            }
            // Prometheus sends exemplars in series of their own; they are left out, and that is all.
            (Ok(_), None) if counts.exemplars > 0 => return Ok(()),
            (Ok(_), None) => Refusal::Missing { field: "samples or histograms" },
            (Err(refusal), _) => refusal,
        };
        dealer.refuse(index, &refusal, counts.rows());
        self.written.refused += counts.rows();
        Ok(())
    }
}

/// References to names and values, in turn.
struct Refs<'a> {
    name: Option<&'a [u8]>,
    broken: Option<u64>,
}

impl<'a> Refs<'a> {
    fn take(&mut self, reference: u64, symbols: &[&'a [u8]], labels: &mut Labels<'a>, max_labels: usize) {
        let Some(&symbol) = usize::try_from(reference).ok().and_then(|at| symbols.get(at)) else {
            self.broken.get_or_insert(reference);
            return;
        };
        match self.name.take() {
            None => self.name = Some(symbol),
            // One more than there may be is enough to refuse them.
            Some(name) if labels.len() <= max_labels => labels.push(name, symbol),
            Some(_) => {}
        }
    }

    fn refusal(&self) -> Option<Refusal> {
        if let Some(reference) = self.broken {
            let value = reference.to_string();
            return Some(Refusal::BadValue { field: "labels_refs", value, wanted: "an index of a symbol" });
        }
        self.name.map(|_| Refusal::BadValue {
            field: "labels_refs",
            value: "an odd number of references".to_owned(),
            wanted: "pairs of name and value",
        })
    }
}

fn read_metadata(message: &[u8]) -> Result<Metadata, WireError> {
    let mut metadata = Metadata::default();
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => metadata.kind = field.varint()?,
            3 => metadata.help = field.varint()?,
            4 => metadata.unit = field.varint()?,
            _ => {}
        }
    }
    Ok(metadata)
}

fn malformed(error: impl std::fmt::Display) -> IngestError {
    IngestError::Message { message: MESSAGE, reason: error.to_string() }
}
