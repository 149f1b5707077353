#![allow(clippy::unwrap_used, clippy::panic)]

use std::str::FromStr;

use arrow::array::timezone::Tz;
use arrow::array::{DurationMillisecondArray, FixedSizeListArray, MapBuilder, StringBuilder, UInt64Array};
use arrow::datatypes::{Int64Type, IntervalMonthDayNano, Schema};
use bytes::Buf;

use super::*;

/// The values of the only column of these rows.
fn encode(array: ArrayRef, binary: bool, zone: Zone) -> Vec<Option<Vec<u8>>> {
    let field = Field::new("c", array.data_type().clone(), true);
    let format = ColumnFormat { pg_type: types::type_of(&field), binary };
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).unwrap();
    let mut rows = Rows::new(&batch, &[format], zone).unwrap();
    let mut values = Vec::new();
    while rows.left() > 0 {
        let mut out = BytesMut::new();
        rows.write(&mut out).unwrap();
        assert_eq!(out.get_u8(), b'D');
        assert_eq!(out.get_i32() as usize, out.len() + 4);
        assert_eq!(out.get_i16(), 1);
        let size = out.get_i32();
        values.push((size >= 0).then(|| out.to_vec()));
        assert_eq!(out.len() as i32, size.max(0));
    }
    values
}

fn text(array: ArrayRef) -> Vec<String> {
    text_in(array, None)
}

fn text_in(array: ArrayRef, zone: Zone) -> Vec<String> {
    let values = encode(array, false, zone).into_iter();
    values.map(|v| v.map_or("NULL".into(), |v| String::from_utf8(v).unwrap())).collect()
}

fn binary(array: ArrayRef) -> Vec<Vec<u8>> {
    encode(array, true, None).into_iter().map(Option::unwrap_or_default).collect()
}

const AT_US: i64 = 1_767_323_045_678_900;

#[test]
fn numbers() {
    assert_eq!(text(Arc::new(Int64Array::from(vec![Some(i64::MIN), None]))), ["-9223372036854775808", "NULL"]);
    assert_eq!(binary(Arc::new(UInt64Array::from(vec![7]))), [7i64.to_be_bytes().to_vec()]);
    assert_eq!(
        text(Arc::new(Float64Array::from(vec![
            1.0,
            -0.0,
            0.1,
            1e14,
            1e15,
            123_456_789_012_345_680.0,
            0.0001,
            0.000_01,
            1.5e-7,
            f64::NAN,
            f64::NEG_INFINITY,
            12.5
        ]))),
        [
            "1",
            "-0",
            "0.1",
            "100000000000000",
            "1e+15",
            "1.2345678901234568e+17",
            "0.0001",
            "1e-05",
            "1.5e-07",
            "NaN",
            "-Infinity",
            "12.5"
        ]
    );
    assert_eq!(text(Arc::new(Float32Array::from(vec![0.1, 1e6, 123_456.0]))), ["0.1", "1e+06", "123456"]);
    assert_eq!(text(Arc::new(BooleanArray::from(vec![true, false]))), ["t", "f"]);
    let too_large = UInt64Array::from(vec![u64::MAX]);
    let field = Field::new("c", DataType::UInt64, true);
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::new(too_large)]).unwrap();
    assert!(Rows::new(&batch, &[ColumnFormat { pg_type: Type::INT8, binary: false }], None).is_err());
}

#[test]
fn decimals() {
    let decimals = |values: Vec<i128>, scale| -> ArrayRef {
        Arc::new(Decimal128Array::from(values).with_precision_and_scale(38, scale).unwrap())
    };
    assert_eq!(text(decimals(vec![12_345, -5, 0, 100], 2)), ["123.45", "-0.05", "0.00", "1.00"]);
    for (value, scale, shown) in
        [(1_234_567_890, 3, "1234567.890"), (-5, 4, "-0.0005"), (0, 2, "0.00"), (10_000, 0, "10000"), (1, 5, "0.00001")]
    {
        let bytes = binary(decimals(vec![value], scale)).remove(0);
        assert_eq!(numeric::from_binary(&bytes).unwrap(), shown);
    }
    // 12345.67: three groups, the first of weight 1.
    assert_eq!(binary(decimals(vec![1_234_567], 2)).remove(0), [0, 3, 0, 1, 0, 0, 0, 2, 0, 1, 0x09, 0x29, 0x1a, 0x2c]);
    assert_eq!(numeric::from_binary(&[0, 0, 0, 0, 0xC0, 0, 0, 0]).unwrap(), "NaN");
    assert_eq!(numeric::from_binary(&[0, 9, 0, 0, 0, 0, 0, 0]), None);
}

#[test]
fn times() {
    let at = TimestampMicrosecondArray::from(vec![Some(AT_US), Some(0), None, Some(-62_198_755_200_000_000)]);
    let zoned: ArrayRef = Arc::new(at.clone().with_timezone("UTC"));
    assert_eq!(
        text(Arc::clone(&zoned)),
        ["2026-01-02 03:04:05.6789+00", "1970-01-01 00:00:00+00", "NULL", "0002-01-01 00:00:00+00 BC"]
    );
    let berlin = Some(Tz::from_str("Europe/Berlin").unwrap());
    assert_eq!(text_in(Arc::clone(&zoned), berlin)[0], "2026-01-02 04:04:05.6789+01");
    assert_eq!(text_in(zoned.slice(0, 1), Some(Tz::from_str("+05:30").unwrap())), ["2026-01-02 08:34:05.6789+05:30"]);
    assert_eq!(text(Arc::new(at))[0], "2026-01-02 03:04:05.6789");
    assert_eq!(binary(zoned)[0], (AT_US - 946_684_800_000_000).to_be_bytes());
    assert_eq!(text(Arc::new(Date32Array::from(vec![20_455, -1]))), ["2026-01-02", "1969-12-31"]);
    assert_eq!(binary(Arc::new(Date32Array::from(vec![10_957])))[0], 0i32.to_be_bytes());
    assert_eq!(text(Arc::new(Time64MicrosecondArray::from(vec![3_723_000_100])))[0], "01:02:03.0001");
    let intervals = IntervalMonthDayNanoArray::from(vec![
        IntervalMonthDayNano::new(14, -3, 14_706_700_000_000),
        IntervalMonthDayNano::new(0, 0, 0),
        IntervalMonthDayNano::new(0, 1, -1_000_000_000),
        IntervalMonthDayNano::new(-1, 0, 0),
    ]);
    assert_eq!(
        text(Arc::new(intervals)),
        ["1 year 2 mons -3 days +04:05:06.7", "00:00:00", "1 day -00:00:01", "-1 mons"]
    );
    assert_eq!(text(Arc::new(DurationMillisecondArray::from(vec![90_061_500])))[0], "25:01:01.5");
}

#[test]
fn texts_bytes_and_documents() {
    assert_eq!(text(Arc::new(BinaryArray::from_vec(vec![b"\x00\xff"])))[0], "\\x00ff");
    assert_eq!(binary(Arc::new(StringArray::from(vec!["é"])))[0], "é".as_bytes());
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    map.keys().append_value("k\"");
    map.values().append_value("v");
    map.append(true).unwrap();
    map.append(false).unwrap();
    let map: ArrayRef = Arc::new(map.finish());
    assert_eq!(text(Arc::clone(&map)), [r#"{"k\"":"v"}"#, "NULL"]);
    assert_eq!(binary(map)[0], [b"\x01", r#"{"k\"":"v"}"#.as_bytes()].concat());
}

#[test]
fn arrays() {
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1), None]), None, Some(vec![])]);
    assert_eq!(text(Arc::new(list.clone())), ["{1,NULL}", "NULL", "{}"]);
    let bytes = binary(Arc::new(list));
    let words: Vec<i32> = bytes[0].chunks_exact(4).map(|w| i32::from_be_bytes(w.try_into().unwrap())).collect();
    // Dimensions, has NULLs, type, length, lower bound; size and value; size of NULL.
    assert_eq!(words, [1, 1, 20, 2, 1, 8, 0, 1, -1]);
    assert_eq!(bytes[2].len(), 12);
    let item = Arc::new(Field::new_list_field(DataType::Utf8, true));
    let values = StringArray::from(vec![Some("a"), Some("b c"), Some(""), Some("null"), Some("q\"\\"), None]);
    let list = FixedSizeListArray::new(item, 6, Arc::new(values), None);
    assert_eq!(text(Arc::new(list))[0], r#"{a,"b c","","null","q\"\\",NULL}"#);
}
