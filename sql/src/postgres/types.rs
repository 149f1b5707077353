//! Which Postgres type a column is told to have.

use arrow::datatypes::{DataType, Field};
use datafusion_postgres::arrow_pg::datatypes::PG_OID_ALIAS_KEY;
use pgwire::api::Type;

use super::error::{PgError, code};

/// The type of a column. Maps, structs, unions and lists of lists are `jsonb`; unsigned 64-bit integers are `int8`, as the functions that give
/// them (`row_number`, `approx_distinct`) do in Postgres.
pub(crate) fn type_of(field: &Field) -> Type {
    // Columns of the system catalog that hold identifiers of objects.
    if field.data_type() == &DataType::Int32 && field.metadata().contains_key(PG_OID_ALIAS_KEY) {
        return Type::OID;
    }
    of(field.data_type())
}

/// True where a column of text, or of numbers, may be told as this type: what a cast said that the engine has no type for.
pub(crate) fn may_be_told(field: &Field, told: &Type) -> bool {
    let own = of(field.data_type());
    match *told {
        Type::UUID | Type::JSON | Type::JSONB => own == Type::TEXT,
        Type::OID => [Type::INT4, Type::INT8].contains(&own),
        Type::OID_ARRAY => [Type::INT4_ARRAY, Type::INT8_ARRAY, Type::OID_ARRAY].contains(&own),
        _ => false,
    }
}

/// The type of values like these.
pub(crate) fn of(data_type: &DataType) -> Type {
    match data_type {
        DataType::Boolean => Type::BOOL,
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => Type::INT2,
        DataType::Int32 | DataType::UInt16 => Type::INT4,
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => Type::INT8,
        DataType::Float16 | DataType::Float32 => Type::FLOAT4,
        DataType::Float64 => Type::FLOAT8,
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            Type::NUMERIC
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => Type::BYTEA,
        DataType::Date32 | DataType::Date64 => Type::DATE,
        DataType::Time32(_) | DataType::Time64(_) => Type::TIME,
        DataType::Timestamp(_, None) => Type::TIMESTAMP,
        DataType::Timestamp(_, Some(_)) => Type::TIMESTAMPTZ,
        DataType::Interval(_) | DataType::Duration(_) => Type::INTERVAL,
        DataType::Dictionary(_, value) => of(value),
        DataType::RunEndEncoded(_, values) => of(values.data_type()),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => match item.data_type() {
            // Only identifiers of objects come in such lists.
            DataType::UInt32 => Type::OID_ARRAY,
            item => array_of(&of(item)),
        },
        DataType::Map(..) | DataType::Struct(_) | DataType::Union(..) => Type::JSONB,
        DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Type::TEXT,
    }
}

/// The types that arrays are of, each with its array.
const ARRAYS: [(Type, Type); 22] = [
    (Type::BOOL, Type::BOOL_ARRAY),
    (Type::INT2, Type::INT2_ARRAY),
    (Type::INT4, Type::INT4_ARRAY),
    (Type::INT8, Type::INT8_ARRAY),
    (Type::OID, Type::OID_ARRAY),
    (Type::FLOAT4, Type::FLOAT4_ARRAY),
    (Type::FLOAT8, Type::FLOAT8_ARRAY),
    (Type::NUMERIC, Type::NUMERIC_ARRAY),
    (Type::BYTEA, Type::BYTEA_ARRAY),
    (Type::DATE, Type::DATE_ARRAY),
    (Type::TIME, Type::TIME_ARRAY),
    (Type::TIMESTAMP, Type::TIMESTAMP_ARRAY),
    (Type::TIMESTAMPTZ, Type::TIMESTAMPTZ_ARRAY),
    (Type::INTERVAL, Type::INTERVAL_ARRAY),
    (Type::TEXT, Type::TEXT_ARRAY),
    (Type::VARCHAR, Type::VARCHAR_ARRAY),
    (Type::BPCHAR, Type::BPCHAR_ARRAY),
    (Type::NAME, Type::NAME_ARRAY),
    (Type::CHAR, Type::CHAR_ARRAY),
    (Type::UUID, Type::UUID_ARRAY),
    (Type::JSON, Type::JSON_ARRAY),
    (Type::JSONB, Type::JSONB_ARRAY),
];

/// What an array type is an array of; `None` for what is no array.
pub(crate) fn element_of(array: &Type) -> Option<Type> {
    ARRAYS.iter().find(|(_, of)| of == array).map(|(element, _)| element.clone())
}

/// A type by one of the names that SQL has for it.
///
/// # Errors
/// `42704` for one that nobody knows.
pub(crate) fn by_name(name: &str) -> Result<Type, PgError> {
    let name = name.to_lowercase();
    if let Some(element) = name.strip_suffix("[]").map(str::trim_end).or_else(|| name.strip_suffix("[ ]")) {
        return Ok(array_of(&by_name(element.trim_end())?));
    }
    // An array by the name that Postgres keeps for it.
    if let Some(element) = name.strip_prefix('_') {
        return Ok(array_of(&by_name(element)?));
    }
    Ok(match name.split('(').next().unwrap_or_default().trim() {
        "bool" | "boolean" => Type::BOOL,
        "int2" | "smallint" => Type::INT2,
        "int" | "int4" | "integer" => Type::INT4,
        "int8" | "bigint" => Type::INT8,
        "float4" | "real" => Type::FLOAT4,
        "float8" | "double precision" | "double" | "float" => Type::FLOAT8,
        "numeric" | "decimal" => Type::NUMERIC,
        "text" => Type::TEXT,
        "varchar" | "character varying" => Type::VARCHAR,
        "char" | "character" | "bpchar" => Type::BPCHAR,
        "name" => Type::NAME,
        "\"char\"" => Type::CHAR,
        "bytea" => Type::BYTEA,
        "date" => Type::DATE,
        "time" | "time without time zone" => Type::TIME,
        "timestamp" | "timestamp without time zone" => Type::TIMESTAMP,
        "timestamptz" | "timestamp with time zone" => Type::TIMESTAMPTZ,
        "interval" => Type::INTERVAL,
        "json" => Type::JSON,
        "jsonb" => Type::JSONB,
        "uuid" => Type::UUID,
        "oid" => Type::OID,
        "unknown" => Type::UNKNOWN,
        _ => return Err(PgError::new(code::NO_OBJECT, format!("type \"{name}\" does not exist"))),
    })
}

/// The array type over this one; `jsonb` where the elements are no scalars.
pub(crate) fn array_of(element: &Type) -> Type {
    let array = ARRAYS.iter().find(|(of, _)| of == element && *of != Type::JSONB);
    array.map_or(Type::JSONB, |(_, array)| array.clone())
}

/// `typlen`: bytes of a value, or -1 where they vary.
pub(crate) fn size_bytes(pg_type: &Type) -> i16 {
    match *pg_type {
        Type::BOOL | Type::CHAR => 1,
        Type::INT2 => 2,
        Type::INT4 | Type::FLOAT4 | Type::DATE | Type::OID => 4,
        Type::INT8 | Type::FLOAT8 | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ => 8,
        Type::INTERVAL => 16,
        Type::NAME => 64,
        _ => -1,
    }
}

/// The name that `information_schema` gives it.
pub(crate) fn standard_name(pg_type: &Type) -> &'static str {
    match *pg_type {
        Type::BOOL => "boolean",
        Type::INT2 => "smallint",
        Type::INT4 => "integer",
        Type::INT8 => "bigint",
        Type::FLOAT4 => "real",
        Type::FLOAT8 => "double precision",
        Type::NUMERIC => "numeric",
        Type::BYTEA => "bytea",
        Type::DATE => "date",
        Type::TIME => "time without time zone",
        Type::TIMESTAMP => "timestamp without time zone",
        Type::TIMESTAMPTZ => "timestamp with time zone",
        Type::INTERVAL => "interval",
        Type::JSON => "json",
        Type::JSONB => "jsonb",
        Type::UUID => "uuid",
        Type::OID => "oid",
        Type::TEXT => "text",
        _ => "ARRAY",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use arrow::datatypes::TimeUnit;

    use super::*;

    #[test]
    fn columns_of_tables_have_the_types_that_clients_know() {
        let list = |item| DataType::List(Arc::new(Field::new_list_field(item, true)));
        for (data_type, expected) in [
            (DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), Type::TIMESTAMPTZ),
            (DataType::Timestamp(TimeUnit::Nanosecond, None), Type::TIMESTAMP),
            (DataType::UInt64, Type::INT8),
            (list(DataType::Utf8), Type::TEXT_ARRAY),
            (list(list(DataType::Utf8)), Type::JSONB),
            (DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)), Type::TEXT),
            (DataType::Null, Type::TEXT),
        ] {
            assert_eq!(of(&data_type), expected, "{data_type}");
        }
        let oid = Field::new("oid", DataType::Int32, false)
            .with_metadata(HashMap::from([(PG_OID_ALIAS_KEY.to_string(), "oid".to_string())]));
        assert_eq!(type_of(&oid), Type::OID);
    }
}
