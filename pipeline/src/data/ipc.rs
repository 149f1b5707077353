//! Rows on the wire: an Arrow IPC stream, buffers compressed with LZ4 (frame).
//!
//! ```text
//! stream  = message(schema) message(record batch)* end?
//! message = ff ff ff ff | metadata length, i32 | metadata, a flatbuffer padded to 8 | body
//! body    = one region per buffer: uncompressed length, i64 (-1: as it is) | LZ4 frame | padding to 8
//! end     = ff ff ff ff 00 00 00 00
//! ```
//!
//! Writing is Arrow's. Reading is ours, because Arrow's reader takes lengths from the wire at their word: it allocates by them,
//! slices by them (and panics), and lets a compressed buffer grow without end. Here every length is checked first, what is
//! decompressed counts against [`Caps`], and Arrow then validates each array (offsets, UTF-8, null counts). Columns may be of the
//! plain types, views, lists, maps and structs; dictionaries, unions, run-end and list-view encodings are refused, by both sides.

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::{ArrayData, ArrayRef, make_array};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow::ipc::{CompressionType, Message, MessageHeader, MetadataVersion, root_as_message};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use bytes::Bytes;

#[cfg(test)]
mod tests;

/// What buffers are padded to. Readers that need more copy anyway, since buffers are compressed.
const ALIGNMENT_BYTES: usize = 8;

/// How much one stream may decode to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Bytes, once decompressed.
    pub size_bytes: usize,
    /// Rows: they need not have bytes (columns may be missing), but cost memory once decoded.
    pub rows: usize,
}

impl Caps {
    /// For records, which anybody may have written: 256 MiB and 1,048,576 rows.
    pub const RECORD: Self = Self { size_bytes: 256 << 20, rows: 1 << 20 };
    /// For what this process wrote for itself, such as snapshots.
    pub const NONE: Self = Self { size_bytes: usize::MAX, rows: usize::MAX };
}

/// Why rows could not be read from or written to the wire.
#[derive(Debug, thiserror::Error)]
pub enum IpcError {
    /// The bytes are no Arrow IPC stream, or one that is not taken.
    #[error("not a readable Arrow IPC stream: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// A column of a type that does not go over the wire.
    #[error("column `{column}` is of type {data_type}, which is not written to records: cast it to a plain type")]
    Unsupported {
        /// The column.
        column: String,
        /// Its type.
        data_type: String,
    },
    /// Arrow could not encode the rows.
    #[error("rows cannot be encoded as Arrow IPC: {0}")]
    Encode(#[source] ArrowError),
}

impl IpcError {
    /// Never: the same bytes give the same error.
    pub fn is_retryable(&self) -> bool {
        false
    }

    fn malformed(reason: impl Into<String>) -> Self {
        Self::Malformed { reason: reason.into() }
    }
}

/// Encodes one batch as a stream.
///
/// # Errors
/// [`IpcError::Unsupported`] for columns that [`decode`] would not take, [`IpcError::Encode`] where Arrow refuses the batch.
pub fn encode(batch: &RecordBatch) -> Result<Bytes, IpcError> {
    for field in batch.schema_ref().fields() {
        if !is_supported(field.data_type()) {
            let data_type = field.data_type().to_string();
            return Err(IpcError::Unsupported { column: field.name().clone(), data_type });
        }
    }
    let encode = || {
        // A record of few rows would be mostly padding at Arrow's default of 64.
        let options = IpcWriteOptions::try_new(ALIGNMENT_BYTES, false, MetadataVersion::V5)?
            .try_with_compression(Some(CompressionType::LZ4_FRAME))?;
        let mut writer = StreamWriter::try_new_with_options(Vec::new(), batch.schema_ref(), options)?;
        writer.write(batch)?;
        writer.finish()?;
        writer.into_inner()
    };
    encode().map(Bytes::from).map_err(IpcError::Encode)
}

/// Whether columns of this type go over the wire.
fn is_supported(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(child)
        | DataType::LargeList(child)
        | DataType::FixedSizeList(child, _)
        | DataType::Map(child, _) => is_supported(child.data_type()),
        DataType::Struct(children) => children.iter().all(|child| is_supported(child.data_type())),
        DataType::Dictionary(..)
        | DataType::Union(..)
        | DataType::RunEndEncoded(..)
        | DataType::ListView(_)
        | DataType::LargeListView(_) => false,
        _ => true,
    }
}

/// Decodes the stream of a record: its batches, in order.
///
/// # Errors
/// [`IpcError::Malformed`] for anything but a whole, valid stream within the caps.
pub fn decode(bytes: &[u8]) -> Result<Vec<RecordBatch>, IpcError> {
    decode_within(bytes, Caps::RECORD)
}

/// [`decode`] with other caps.
///
/// # Errors
/// [`IpcError::Malformed`] for anything but a whole, valid stream within the caps.
pub fn decode_within(bytes: &[u8], caps: Caps) -> Result<Vec<RecordBatch>, IpcError> {
    // Arrow's schema conversion panics on metadata that is a valid flatbuffer and no valid schema.
    catch_unwind(AssertUnwindSafe(|| decode_stream(bytes, caps)))
        .unwrap_or_else(|_| Err(IpcError::malformed("metadata that Arrow cannot convert")))
}

fn decode_stream(bytes: &[u8], caps: Caps) -> Result<Vec<RecordBatch>, IpcError> {
    let mut rest = bytes;
    let mut left = caps;
    let Some((message, _)) = next_message(&mut rest)? else {
        return Err(IpcError::malformed("it is empty"));
    };
    let Some(schema) = message.header_as_schema() else {
        return Err(IpcError::malformed("it does not start with a schema"));
    };
    if !schema.endianness().equals_to_target_endianness() {
        return Err(IpcError::malformed("its byte order is not little endian"));
    }
    let schema = SchemaRef::new(fb_to_schema(schema));
    let mut batches = Vec::new();
    while let Some((message, body)) = next_message(&mut rest)? {
        if message.header_type() == MessageHeader::DictionaryBatch {
            return Err(IpcError::malformed("dictionary-encoded columns are not taken"));
        }
        let Some(header) = message.header_as_record_batch() else {
            return Err(IpcError::malformed(format!("unexpected message of type {:?}", message.header_type())));
        };
        batches.push(Columns::new(header, body, &mut left)?.read(&schema)?);
    }
    Ok(batches)
}

/// Takes one message off the front of `rest`: its metadata and its body. `None` at the end of the stream.
fn next_message<'a>(rest: &mut &'a [u8]) -> Result<Option<(Message<'a>, &'a [u8])>, IpcError> {
    const CONTINUATION: &[u8] = &[0xff; 4];
    let Some(prefix) = rest.get(..4) else {
        return if rest.is_empty() { Ok(None) } else { Err(IpcError::malformed("it ends inside a message")) };
    };
    let mut at = 4;
    let mut length = prefix;
    if prefix == CONTINUATION {
        length = rest.get(4..8).ok_or_else(|| IpcError::malformed("it ends inside a message"))?;
        at = 8;
    }
    let length = length.first_chunk::<4>().map_or(-1, |bytes| i32::from_le_bytes(*bytes));
    if length == 0 {
        *rest = &[];
        return Ok(None);
    }
    let metadata = usize::try_from(length).ok().and_then(|length| rest.get(at..)?.get(..length));
    let metadata = metadata.ok_or_else(|| IpcError::malformed("a message is longer than the stream"))?;
    at += metadata.len();
    let message = root_as_message(metadata).map_err(|error| IpcError::malformed(format!("bad metadata: {error}")))?;
    let body = usize::try_from(message.bodyLength()).ok().and_then(|length| rest.get(at..)?.get(..length));
    let body = body.ok_or_else(|| IpcError::malformed("a message body is longer than the stream"))?;
    *rest = &rest[at + body.len()..];
    Ok(Some((message, body)))
}

/// Walks the columns of one record batch: field nodes and buffers come in schema order, depth first.
struct Columns<'a, 'b> {
    rows: usize,
    nodes: Box<dyn Iterator<Item = (i64, i64)> + 'a>,
    /// Of each view column, how many data buffers it has.
    view_buffers: Box<dyn Iterator<Item = i64> + 'a>,
    buffers: Box<dyn Iterator<Item = (i64, i64)> + 'a>,
    body: &'a [u8],
    lz4: bool,
    /// What the stream may still decode to.
    left: &'b mut Caps,
}

impl<'a, 'b> Columns<'a, 'b> {
    fn new(header: arrow::ipc::RecordBatch<'a>, body: &'a [u8], left: &'b mut Caps) -> Result<Self, IpcError> {
        let (Some(nodes), Some(buffers)) = (header.nodes(), header.buffers()) else {
            return Err(IpcError::malformed("a record batch without nodes or buffers"));
        };
        let lz4 = match header.compression().map(|compression| compression.codec()) {
            None => false,
            Some(CompressionType::LZ4_FRAME) => true,
            Some(other) => {
                return Err(IpcError::malformed(format!("compression {other:?} is not taken, only LZ4 frames")));
            }
        };
        let rows = usize::try_from(header.length()).ok();
        let rows = rows.ok_or_else(|| IpcError::malformed(format!("a batch of {} rows", header.length())))?;
        left.rows = left
            .rows
            .checked_sub(rows)
            .ok_or_else(|| IpcError::malformed("it holds more rows than the cap".to_owned()))?;
        Ok(Self {
            rows,
            nodes: Box::new(nodes.iter().map(|node| (node.length(), node.null_count()))),
            view_buffers: Box::new(header.variadicBufferCounts().into_iter().flatten()),
            buffers: Box::new(buffers.iter().map(|buffer| (buffer.offset(), buffer.length()))),
            body,
            lz4,
            left,
        })
    }

    fn read(mut self, schema: &SchemaRef) -> Result<RecordBatch, IpcError> {
        let columns = schema
            .fields()
            .iter()
            .map(|field| match self.array(field)? {
                array if array.len() == self.rows => Ok(make_array(array)),
                array => Err(in_field(field, format!("{} values for {} rows", array.len(), self.rows))),
            })
            .collect::<Result<Vec<ArrayRef>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        RecordBatch::try_new_with_options(SchemaRef::clone(schema), columns, &options)
            .map_err(|error| IpcError::malformed(error.to_string()))
    }

    fn array(&mut self, field: &Field) -> Result<ArrayData, IpcError> {
        let (length, null_count) = self.nodes.next().ok_or_else(|| in_field(field, "it has no node"))?;
        let length = usize::try_from(length).map_err(|_| in_field(field, format!("length {length}")))?;
        let data_type = field.data_type();
        let mut builder = ArrayData::builder(data_type.clone()).len(length);
        if *data_type == DataType::Null {
            // Nulls have no buffers, so nothing else says how many there are.
            let few = length <= self.rows;
            return few.then(|| builder.build().ok()).flatten().ok_or_else(|| in_field(field, "more nulls than rows"));
        }
        let validity = self.buffer(field)?;
        if null_count != 0 {
            if validity.len() < length.div_ceil(8) {
                return Err(in_field(field, "its validity bitmap is too short"));
            }
            builder = builder.null_bit_buffer(Some(validity));
        }
        match data_type {
            DataType::Utf8 | DataType::Binary | DataType::LargeUtf8 | DataType::LargeBinary => {
                builder = builder.add_buffer(self.buffer(field)?).add_buffer(self.buffer(field)?);
            }
            DataType::Utf8View | DataType::BinaryView => {
                let count =
                    self.view_buffers.next().ok_or_else(|| in_field(field, "it does not say how many buffers"))?;
                for _ in 0..=count {
                    builder = builder.add_buffer(self.buffer(field)?);
                }
            }
            DataType::FixedSizeList(child, _) => builder = builder.add_child_data(self.array(child)?),
            DataType::List(child) | DataType::LargeList(child) | DataType::Map(child, _) => {
                builder = builder.add_buffer(self.buffer(field)?).add_child_data(self.array(child)?);
            }
            DataType::Struct(children) => {
                for child in children {
                    builder = builder.add_child_data(self.array(child)?);
                }
            }
            _ if data_type.is_primitive() || matches!(data_type, DataType::Boolean | DataType::FixedSizeBinary(_)) => {
                builder = builder.add_buffer(self.buffer(field)?);
            }
            _ => return Err(in_field(field, format!("columns of type {data_type} are not taken"))),
        }
        // Buffers on the wire may lie anywhere; `build` then validates everything.
        builder.align_buffers(true).build().map_err(|error| in_field(field, error.to_string()))
    }

    fn buffer(&mut self, field: &Field) -> Result<Buffer, IpcError> {
        let (offset, length) = self.buffers.next().ok_or_else(|| in_field(field, "it lacks a buffer"))?;
        let region = usize::try_from(offset)
            .and_then(|offset| usize::try_from(length).map(|length| (offset, length)))
            .ok()
            .and_then(|(offset, length)| self.body.get(offset..)?.get(..length))
            .ok_or_else(|| in_field(field, "a buffer lies outside the message"))?;
        if !self.lz4 || region.is_empty() {
            return self.copy(field, region);
        }
        let (prefix, data) =
            region.split_first_chunk::<8>().ok_or_else(|| in_field(field, "a buffer has no length"))?;
        match i64::from_le_bytes(*prefix) {
            -1 => self.copy(field, data),
            size => {
                let size_bytes =
                    usize::try_from(size).map_err(|_| in_field(field, format!("a buffer of {size} bytes")))?;
                self.spend(field, size_bytes)?;
                // One byte more than announced is enough to tell that it is too long.
                let mut buffer = Vec::with_capacity(size_bytes + 1);
                let read =
                    lz4_flex::frame::FrameDecoder::new(data).take(size_bytes as u64 + 1).read_to_end(&mut buffer);
                match read {
                    Ok(read) if read == size_bytes => Ok(Buffer::from_vec(buffer)),
                    Ok(_) => Err(in_field(field, format!("a buffer is not the {size_bytes} bytes that it says"))),
                    Err(error) => Err(in_field(field, format!("a buffer does not decompress: {error}"))),
                }
            }
        }
    }

    fn copy(&mut self, field: &Field, data: &[u8]) -> Result<Buffer, IpcError> {
        self.spend(field, data.len())?;
        Ok(Buffer::from_slice_ref(data))
    }

    fn spend(&mut self, field: &Field, size_bytes: usize) -> Result<(), IpcError> {
        let left = self.left.size_bytes.checked_sub(size_bytes);
        self.left.size_bytes = left.ok_or_else(|| in_field(field, "the stream decompresses to more than the cap"))?;
        Ok(())
    }
}

fn in_field(field: &Field, reason: impl std::fmt::Display) -> IpcError {
    IpcError::malformed(format!("column `{}`: {reason}", field.name()))
}
