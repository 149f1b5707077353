//! `prometheus.WriteRequest`: every series spells its labels out.

use bytes::Bytes;

use super::series::{self, Common, Counts, Labels, Shape, Written};
use crate::data::metrics::Metrics;
use crate::data::protobuf::{Field, Fields, WireError};
use crate::sources::IngestError;
use crate::sources::batcher::Dealer;
use crate::sources::metadata::{Described, Kind, MAX_DESCRIBED};

const MESSAGE: &str = "prometheus.WriteRequest";
const SHAPE: Shape = Shape { histograms: 4, exemplars: 3 };

/// Reads a request into rows.
pub(super) fn read(body: &Bytes, dealer: &mut Dealer<'_, Metrics>) -> Result<Written, IngestError> {
    let mut written = Written::default();
    let mut labels = Labels::default();
    let mut index = 0;
    for field in Fields::of(body) {
        let field = field.map_err(malformed)?;
        match field.number {
            1 => {
                let series = field.bytes().map_err(malformed)?;
                take(series, index, &mut labels, dealer, &mut written).map_err(malformed)?;
                index = index.saturating_add(1);
            }
            3 if written.metadata.len() == MAX_DESCRIBED => return Err(Described::too_many()),
            3 => written.metadata.extend(metadata(body, field).map_err(malformed)?),
            _ => {}
        }
        if dealer.is_failed() {
            break;
        }
    }
    Ok(written)
}

fn take<'a>(
    message: &'a [u8],
    index: i32,
    labels: &mut Labels<'a>,
    dealer: &mut Dealer<'_, Metrics>,
    written: &mut Written,
) -> Result<(), WireError> {
    labels.clear();
    let max_labels = dealer.limits().max_attributes;
    let mut counts = Counts::default();
    // Labels come first; what follows them is walked a second time, once they are whole.
    let mut behind: Option<Fields<'_>> = None;
    let mut fields = Fields::of(message);
    loop {
        let before = fields;
        let Some(field) = fields.next() else { break };
        let field = field?;
        if field.number == 1 {
            // One more than there may be is enough to refuse them.
            if labels.len() <= max_labels {
                let (name, value) = label(field.bytes()?)?;
                labels.push(name, value);
            }
            behind = behind.map(|_| Fields::of(message));
        } else if counts.take(field.number, SHAPE) {
            behind.get_or_insert(before);
        }
    }
    dealer.leave_out("exemplar", counts.exemplars);
    let Some(behind) = behind.filter(|_| counts.rows() > 0) else { return Ok(()) };
    match labels.series(dealer) {
        Ok(found) => {
            let common = Common { index, ..Common::default() };
            series::add(&found, common, behind, SHAPE, dealer, written)
        }
        Err(refusal) => {
            dealer.refuse(index, &refusal, counts.rows());
            written.refused += counts.rows();
            Ok(())
        }
    }
}

fn label(message: &[u8]) -> Result<(&[u8], &[u8]), WireError> {
    let (mut name, mut value) = (&[][..], &[][..]);
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => name = field.bytes()?,
            2 => value = field.bytes()?,
            _ => {}
        }
    }
    Ok((name, value))
}

/// What a metric is; `None` where it is not said of which.
fn metadata(body: &Bytes, field: Field<'_>) -> Result<Option<Described>, WireError> {
    let mut described = Described::default();
    for field in Fields::of(field.bytes()?) {
        let field = field?;
        match field.number {
            1 => described.kind = Kind::of_prometheus(field.varint()?),
            2 => described.name = body.slice_ref(field.text()?.as_bytes()),
            4 => described.help = body.slice_ref(field.text()?.as_bytes()),
            5 => described.unit = body.slice_ref(field.text()?.as_bytes()),
            _ => {}
        }
    }
    Ok(Some(described).filter(|described| !described.name.is_empty()))
}

fn malformed(error: WireError) -> IngestError {
    IngestError::Message { message: MESSAGE, reason: error.to_string() }
}
