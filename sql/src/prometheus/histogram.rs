//! Native histograms as the Prometheus API writes them: `{"count":"42","sum":"1.5","buckets":[[0,"0.25","0.5","12"],...]}`.
//!
//! The first number of a bucket says which of its bounds are in it: 0 the upper, 1 the lower, 2 neither, 3 both. Empty buckets are left out.

use highwater_promql::Histogram;

use super::encode::{put, write_float};

/// Writes the object.
pub(super) fn write(out: &mut Vec<u8>, histogram: &Histogram) {
    out.extend_from_slice(b"{\"count\":\"");
    write_float(out, histogram.count);
    out.extend_from_slice(b"\",\"sum\":\"");
    write_float(out, histogram.sum);
    out.push(b'"');
    let mut any = false;
    for bucket in histogram.all_buckets().iter().filter(|bucket| bucket.count != 0.0) {
        out.extend_from_slice(if any { b"," } else { b",\"buckets\":[" });
        any = true;
        let bounds = match (bucket.lower_inclusive, bucket.upper_inclusive) {
            (false, true) => 0,
            (true, false) => 1,
            (false, false) => 2,
            (true, true) => 3,
        };
        put(out, format_args!("[{bounds}"));
        for number in [bucket.lower, bucket.upper, bucket.count] {
            out.extend_from_slice(b",\"");
            write_float(out, number);
            out.push(b'"');
        }
        out.push(b']');
    }
    out.extend_from_slice(if any { b"]}" } else { b"}" });
}

#[cfg(test)]
mod tests {
    use highwater_promql::{BucketSpan, CUSTOM_BUCKETS_SCHEMA};

    use super::*;

    #[test]
    fn buckets_are_in_order_and_say_which_bounds_are_theirs() {
        let histogram = Histogram {
            zero_threshold: 0.001,
            zero_count: 2.0,
            count: 12.0,
            sum: 18.4,
            positive_spans: vec![BucketSpan { offset: 0, length: 2 }, BucketSpan { offset: 1, length: 2 }],
            positive_buckets: vec![1.0, 0.0, 1.0, 4.0],
            negative_spans: vec![BucketSpan { offset: 0, length: 1 }],
            negative_buckets: vec![3.0],
            ..Histogram::default()
        };
        let mut out = Vec::new();
        write(&mut out, &histogram);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"{"count":"12","sum":"18.4","buckets":[[1,"-1","-0.5","3"],[3,"-0.001","0.001","2"],"#,
                r#"[0,"0.5","1","1"],[0,"4","8","1"],[0,"8","16","4"]]}"#
            )
        );
    }

    #[test]
    fn custom_buckets_have_the_bounds_listed() {
        let histogram = Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: 3.0,
            sum: 1.0,
            positive_spans: vec![BucketSpan { offset: 0, length: 3 }],
            positive_buckets: vec![1.0, 1.0, 1.0],
            custom_values: vec![0.5, 1.0],
            ..Histogram::default()
        };
        let mut out = Vec::new();
        write(&mut out, &histogram);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"count":"3","sum":"1","buckets":[[3,"-Inf","0.5","1"],[0,"0.5","1","1"],[0,"1","+Inf","1"]]}"#
        );
    }
}
