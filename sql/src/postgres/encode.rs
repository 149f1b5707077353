//! Rows as `DataRow` messages, written straight into the connection's buffer.
//!
//! A batch's columns are brought to a few canonical Arrow types once; then each value is written from its array, in the format that the client chose
//! for its column: text as Postgres prints it (`DateStyle` ISO, `IntervalStyle` postgres, `bytea_output` hex), or binary.

mod numeric;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array, Float32Array,
    Float64Array, Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray, ListArray, RecordBatch, StringArray,
    StringBuilder, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Field, FieldRef, Float32Type, Float64Type, Int16Type,
    Int32Type, Int64Type, IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use bytes::{BufMut, BytesMut};
use pgwire::api::Type;

pub(super) use numeric::from_binary as numeric_from_binary;

use super::copy::{BINARY_HEADER, Format, Style};
use super::settings::Zone;
use super::types;
use crate::output;

/// From 1970 to 2000, where Postgres counts from.
const EPOCH_US: i64 = 946_684_800_000_000;
const EPOCH_DAYS: i32 = 10_957;

/// How one column is sent.
#[derive(Debug, Clone)]
pub(crate) struct ColumnFormat {
    /// The type that the client was told.
    pub(crate) pg_type: Type,
    /// Binary, or text.
    pub(crate) binary: bool,
}

/// The rows of one batch, ready to be written.
pub(crate) struct Rows {
    columns: Vec<Column>,
    len: usize,
    next: usize,
    zone: Zone,
}

struct Column {
    values: Values,
    nulls: Option<arrow::buffer::NullBuffer>,
    binary: bool,
}

/// A column of one of the types that values are written from.
enum Values {
    Bool(BooleanArray),
    Int16(Int16Array),
    Int32(Int32Array),
    Oid(Int32Array),
    Int64(Int64Array),
    Float32(Float32Array),
    Float64(Float64Array),
    Decimal128(Decimal128Array, i8),
    Decimal256(Decimal256Array, i8),
    Text(StringArray),
    Uuid(StringArray),
    Json(StringArray),
    Bytes(BinaryArray),
    Date(Date32Array),
    Time(Time64MicrosecondArray),
    Timestamp(TimestampMicrosecondArray, bool),
    Interval(IntervalMonthDayNanoArray),
    List(ListArray, Box<Column>, Type),
}

impl Rows {
    /// The rows of a batch, times in text shown in this zone.
    ///
    /// # Errors
    /// Where a value does not fit its column's type, as an integer above 2^63.
    pub(crate) fn new(batch: &RecordBatch, formats: &[ColumnFormat], zone: Zone) -> Result<Self, ArrowError> {
        let schema = batch.schema();
        let columns = schema
            .fields()
            .iter()
            .zip(batch.columns())
            .zip(formats)
            .map(|((field, array), format)| Column::new(field, array, &format.pg_type, format.binary))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { columns, len: batch.num_rows(), next: 0, zone })
    }

    /// How many rows are still to be written.
    pub(crate) fn left(&self) -> usize {
        self.len - self.next
    }

    /// Writes the next row as a message. `out` is unchanged where there is none.
    ///
    /// # Errors
    /// Where the row is larger than a message may be.
    pub(crate) fn write(&mut self, out: &mut BytesMut) -> Result<(), ArrowError> {
        if self.left() == 0 {
            return Ok(());
        }
        let begin = out.len();
        out.put_u8(b'D');
        out.put_i32(0);
        out.put_u16(u16::try_from(self.columns.len()).map_err(|_| too_large())?);
        for column in &self.columns {
            column.put(self.next, &self.zone, out)?;
        }
        let size = i32::try_from(out.len() - begin - 1).map_err(|_| too_large())?;
        out[begin + 1..begin + 5].copy_from_slice(&size.to_be_bytes());
        self.next += 1;
        Ok(())
    }
}

impl Rows {
    /// Writes the next row as a message of a COPY; in binary the header goes with the first.
    ///
    /// # Errors
    /// As [`Rows::write`].
    pub(crate) fn write_copy(&mut self, style: &Style, is_first: bool, out: &mut BytesMut) -> Result<(), ArrowError> {
        if self.left() == 0 {
            return Ok(());
        }
        let begin = out.len();
        out.put_u8(b'd');
        out.put_i32(0);
        if style.format == Format::Binary {
            if is_first {
                out.put_slice(BINARY_HEADER);
            }
            out.put_u16(u16::try_from(self.columns.len()).map_err(|_| too_large())?);
            for column in &self.columns {
                column.put(self.next, &self.zone, out)?;
            }
        } else {
            for (i, column) in self.columns.iter().enumerate() {
                if i > 0 {
                    out.put_u8(style.delimiter);
                }
                if column.nulls.as_ref().is_some_and(|nulls| nulls.is_null(self.next)) {
                    out.put_slice(style.null.as_bytes());
                    continue;
                }
                let value = out.len();
                column.values.put_text(self.next, &self.zone, out)?;
                style.finish(value, out);
            }
            out.put_u8(b'\n');
        }
        let size = i32::try_from(out.len() - begin - 1).map_err(|_| too_large())?;
        out[begin + 1..begin + 5].copy_from_slice(&size.to_be_bytes());
        self.next += 1;
        Ok(())
    }
}

/// Values as Postgres prints them, times in this zone.
///
/// # Errors
/// Where a value does not fit the type that its column is told as.
pub(super) fn printed(field: &FieldRef, array: &ArrayRef, zone: &Zone) -> Result<ArrayRef, ArrowError> {
    let column = Column::new(field, array, &types::type_of(field), false)?;
    let mut all = StringBuilder::with_capacity(array.len(), array.len().saturating_mul(24));
    let mut one = BytesMut::new();
    for row in 0..array.len() {
        if column.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            all.append_null();
            continue;
        }
        one.clear();
        column.values.put_text(row, zone, &mut one)?;
        all.append_value(std::str::from_utf8(&one).map_err(|e| ArrowError::CastError(e.to_string()))?);
    }
    Ok(Arc::new(all.finish()))
}

fn no_identifier(id: i64) -> ArrowError {
    ArrowError::CastError(format!("OID out of range: {id}"))
}

fn too_large() -> ArrowError {
    ArrowError::ComputeError("a row is larger than a message of the protocol can be".to_string())
}

impl Column {
    fn new(field: &FieldRef, array: &ArrayRef, pg_type: &Type, binary: bool) -> Result<Self, ArrowError> {
        let values = values(field, array, pg_type)?;
        // A dictionary's or an union's NULLs are known only after the cast.
        let nulls = values.nulls();
        Ok(Self { values, nulls, binary })
    }

    /// Writes length and value.
    fn put(&self, row: usize, zone: &Zone, out: &mut BytesMut) -> Result<(), ArrowError> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            out.put_i32(-1);
            return Ok(());
        }
        let begin = out.len();
        out.put_i32(0);
        if self.binary {
            self.values.put_binary(row, out)?;
        } else {
            self.values.put_text(row, zone, out)?;
        }
        let size = i32::try_from(out.len() - begin - 4).map_err(|_| too_large())?;
        out[begin..begin + 4].copy_from_slice(&size.to_be_bytes());
        Ok(())
    }
}

/// The column as one of the canonical types.
fn values(field: &FieldRef, array: &ArrayRef, pg_type: &Type) -> Result<Values, ArrowError> {
    // Values that do not fit are errors, and never NULL.
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let to = |data_type: DataType| match array.data_type() == &data_type {
        true => Ok(Arc::clone(array)),
        false => cast_with_options(array, &data_type, &strict),
    };
    Ok(match *pg_type {
        Type::BOOL => Values::Bool(to(DataType::Boolean)?.as_boolean().clone()),
        Type::INT2 => Values::Int16(to(DataType::Int16)?.as_primitive::<Int16Type>().clone()),
        Type::INT4 => Values::Int32(to(DataType::Int32)?.as_primitive::<Int32Type>().clone()),
        Type::OID if array.data_type() != &DataType::Int32 => {
            // Unsigned where they are told, and signed where they are kept.
            let wide = to(DataType::Int64)?;
            let ids = wide.as_primitive::<Int64Type>();
            let id = |id: i64| u32::try_from(id).map(u32::cast_signed).map_err(|_| no_identifier(id));
            Values::Oid(ids.try_unary::<_, Int32Type, ArrowError>(id)?)
        }
        Type::OID => Values::Oid(to(DataType::Int32)?.as_primitive::<Int32Type>().clone()),
        Type::INT8 => Values::Int64(to(DataType::Int64)?.as_primitive::<Int64Type>().clone()),
        Type::FLOAT4 => Values::Float32(to(DataType::Float32)?.as_primitive::<Float32Type>().clone()),
        Type::FLOAT8 => Values::Float64(to(DataType::Float64)?.as_primitive::<Float64Type>().clone()),
        Type::NUMERIC => match array.data_type() {
            DataType::Decimal256(_, scale) => {
                Values::Decimal256(array.as_primitive::<Decimal256Type>().clone(), *scale)
            }
            DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) | DataType::Decimal128(_, scale) => {
                let wide = to(DataType::Decimal128(38, *scale))?;
                Values::Decimal128(wide.as_primitive::<Decimal128Type>().clone(), *scale)
            }
            _ => Values::Decimal128(to(DataType::Decimal128(38, 0))?.as_primitive::<Decimal128Type>().clone(), 0),
        },
        Type::BYTEA => Values::Bytes(to(DataType::Binary)?.as_binary::<i32>().clone()),
        Type::DATE => Values::Date(to(DataType::Date32)?.as_primitive::<Date32Type>().clone()),
        Type::TIME => {
            let micros = to(DataType::Time64(TimeUnit::Microsecond))?;
            Values::Time(micros.as_primitive::<Time64MicrosecondType>().clone())
        }
        Type::TIMESTAMP | Type::TIMESTAMPTZ => {
            let zone = match array.data_type() {
                DataType::Timestamp(_, zone) => zone.clone(),
                _ => (*pg_type == Type::TIMESTAMPTZ).then(|| "UTC".into()),
            };
            let micros = to(DataType::Timestamp(TimeUnit::Microsecond, zone))?;
            Values::Timestamp(micros.as_primitive::<TimestampMicrosecondType>().clone(), *pg_type == Type::TIMESTAMPTZ)
        }
        Type::INTERVAL => Values::Interval(match array.data_type() {
            DataType::Duration(_) => {
                let nanos = to(DataType::Duration(TimeUnit::Nanosecond))?;
                let nanos = nanos.as_primitive::<arrow::datatypes::DurationNanosecondType>();
                nanos.unary(|ns| IntervalMonthDayNanoType::make_value(0, 0, ns))
            }
            _ => to(DataType::Interval(IntervalUnit::MonthDayNano))?.as_primitive::<IntervalMonthDayNanoType>().clone(),
        }),
        Type::UUID => Values::Uuid(to(DataType::Utf8)?.as_string::<i32>().clone()),
        Type::JSON | Type::JSONB if types::of(array.data_type()) == Type::TEXT => {
            let text = to(DataType::Utf8)?.as_string::<i32>().clone();
            if *pg_type == Type::JSON { Values::Text(text) } else { Values::Json(text) }
        }
        Type::JSONB => Values::Json(output::json_text(field, array)?.as_string::<i32>().clone()),
        _ => match array.data_type() {
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::ListView(item)
            | DataType::LargeListView(item)
            | DataType::FixedSizeList(item, _) => {
                let item = Arc::new(Field::new(item.name(), item.data_type().clone(), true));
                let list = to(DataType::List(Arc::clone(&item)))?.as_list::<i32>().clone();
                let element = types::element_of(pg_type).unwrap_or_else(|| types::of(item.data_type()));
                let inner = Column::new(&item, list.values(), &element, false)?;
                Values::List(list, Box::new(inner), element)
            }
            _ => Values::Text(to(DataType::Utf8)?.as_string::<i32>().clone()),
        },
    })
}

impl Values {
    fn nulls(&self) -> Option<arrow::buffer::NullBuffer> {
        match self {
            Self::Bool(a) => a.logical_nulls(),
            Self::Int16(a) => a.logical_nulls(),
            Self::Int32(a) | Self::Oid(a) => a.logical_nulls(),
            Self::Int64(a) => a.logical_nulls(),
            Self::Float32(a) => a.logical_nulls(),
            Self::Float64(a) => a.logical_nulls(),
            Self::Decimal128(a, _) => a.logical_nulls(),
            Self::Decimal256(a, _) => a.logical_nulls(),
            Self::Text(a) | Self::Json(a) | Self::Uuid(a) => a.logical_nulls(),
            Self::Bytes(a) => a.logical_nulls(),
            Self::Date(a) => a.logical_nulls(),
            Self::Time(a) => a.logical_nulls(),
            Self::Timestamp(a, _) => a.logical_nulls(),
            Self::Interval(a) => a.logical_nulls(),
            Self::List(a, ..) => a.logical_nulls(),
        }
    }

    fn put_binary(&self, row: usize, out: &mut BytesMut) -> Result<(), ArrowError> {
        match self {
            Self::Bool(a) => out.put_u8(u8::from(a.value(row))),
            Self::Int16(a) => out.put_i16(a.value(row)),
            Self::Int32(a) | Self::Oid(a) => out.put_i32(a.value(row)),
            Self::Int64(a) => out.put_i64(a.value(row)),
            Self::Float32(a) => out.put_f32(a.value(row)),
            Self::Float64(a) => out.put_f64(a.value(row)),
            Self::Decimal128(a, scale) => numeric::put_binary(&a.value(row).to_string(), *scale, out),
            Self::Decimal256(a, scale) => numeric::put_binary(&a.value(row).to_string(), *scale, out),
            Self::Text(a) => out.put_slice(a.value(row).as_bytes()),
            Self::Uuid(a) => {
                let digits: Vec<u8> = a.value(row).bytes().filter(|b| !matches!(b, b'-' | b'{' | b'}')).collect();
                let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
                let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
                match bytes.filter(|bytes| bytes.len() == 16 && digits.len() == 32) {
                    Some(bytes) => out.put_slice(&bytes),
                    None => {
                        let message = format!("invalid input syntax for type uuid: \"{}\"", a.value(row));
                        return Err(ArrowError::CastError(message));
                    }
                }
            }
            Self::Json(a) => {
                // The version of the format.
                out.put_u8(1);
                out.put_slice(a.value(row).as_bytes());
            }
            Self::Bytes(a) => out.put_slice(a.value(row)),
            Self::Date(a) => out.put_i32(a.value(row).saturating_sub(EPOCH_DAYS)),
            Self::Time(a) => out.put_i64(a.value(row)),
            Self::Timestamp(a, _) => out.put_i64(a.value(row).saturating_sub(EPOCH_US)),
            Self::Interval(a) => {
                let interval = a.value(row);
                out.put_i64(interval.nanoseconds / 1000);
                out.put_i32(interval.days);
                out.put_i32(interval.months);
            }
            Self::List(list, inner, element) => {
                let offsets = list.value_offsets();
                let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
                let has_null = inner.nulls.as_ref().is_some_and(|n| (from..to).any(|i| n.is_null(i)));
                out.put_i32(i32::from(to > from));
                out.put_i32(i32::from(has_null));
                out.put_u32(element.oid());
                if to > from {
                    out.put_i32(offsets[row + 1] - offsets[row]);
                    out.put_i32(1);
                }
                for i in from..to {
                    if inner.nulls.as_ref().is_some_and(|n| n.is_null(i)) {
                        out.put_i32(-1);
                        continue;
                    }
                    let begin = out.len();
                    out.put_i32(0);
                    inner.values.put_binary(i, out)?;
                    let size = i32::try_from(out.len() - begin - 4).map_err(|_| too_large())?;
                    out[begin..begin + 4].copy_from_slice(&size.to_be_bytes());
                }
            }
        }
        Ok(())
    }

    fn put_text(&self, row: usize, zone: &Zone, out: &mut BytesMut) -> Result<(), ArrowError> {
        match self {
            Self::Bool(a) => out.put_u8(if a.value(row) { b't' } else { b'f' }),
            Self::Int16(a) => text::put_int(i64::from(a.value(row)), out),
            Self::Int32(a) => text::put_int(i64::from(a.value(row)), out),
            Self::Oid(a) => text::put_int(i64::from(a.value(row).cast_unsigned()), out),
            Self::Int64(a) => text::put_int(a.value(row), out),
            Self::Float32(a) => text::put_float32(a.value(row), out),
            Self::Float64(a) => text::put_float64(a.value(row), out),
            Self::Decimal128(a, scale) => numeric::put_text(&a.value(row).to_string(), *scale, out),
            Self::Decimal256(a, scale) => numeric::put_text(&a.value(row).to_string(), *scale, out),
            Self::Text(a) | Self::Json(a) | Self::Uuid(a) => out.put_slice(a.value(row).as_bytes()),
            Self::Bytes(a) => text::put_bytes(a.value(row), out),
            Self::Date(a) => text::put_date(i64::from(a.value(row)), out),
            Self::Time(a) => text::put_time(a.value(row), out),
            Self::Timestamp(a, false) => text::put_timestamp(a.value(row), out),
            Self::Timestamp(a, true) => text::put_timestamp_in(a.value(row), zone, out),
            Self::Interval(a) => text::put_interval(a.value(row), out),
            Self::List(list, inner, _) => {
                let offsets = list.value_offsets();
                out.put_u8(b'{');
                for i in offsets[row] as usize..offsets[row + 1] as usize {
                    if i > offsets[row] as usize {
                        out.put_u8(b',');
                    }
                    if inner.nulls.as_ref().is_some_and(|n| n.is_null(i)) {
                        out.put_slice(b"NULL");
                        continue;
                    }
                    let begin = out.len();
                    inner.values.put_text(i, zone, out)?;
                    text::quote_element(begin, out);
                }
                out.put_u8(b'}');
            }
        }
        Ok(())
    }
}
