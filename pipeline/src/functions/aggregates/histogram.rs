//! The quantile of a classic histogram, as Prometheus estimates it: linear within the bucket that the rank falls into.

/// `buckets` are (upper bound, observations at or below it), in order of bounds, each bound once.
pub(super) fn quantile(rank: f64, mut buckets: Vec<(f64, f64)>) -> f64 {
    if rank.is_nan() {
        return f64::NAN;
    }
    if rank < 0.0 {
        return f64::NEG_INFINITY;
    }
    if rank > 1.0 {
        return f64::INFINITY;
    }
    // Without a bucket that holds all, nothing is known of how many there are.
    if buckets.len() < 2 || buckets.last().is_none_or(|&(bound, _)| bound != f64::INFINITY) {
        return f64::NAN;
    }
    // Counts may dip where buckets were scraped at different moments.
    let mut most = f64::NEG_INFINITY;
    for (_, count) in &mut buckets {
        most = count.max(most);
        *count = most;
    }
    let last = buckets.len() - 1;
    let observations = buckets[last].1;
    if observations == 0.0 || observations.is_nan() {
        return f64::NAN;
    }
    let wanted = rank * observations;
    let at = buckets[..last].iter().position(|&(_, count)| count >= wanted).unwrap_or(last);
    if at == last {
        return buckets[last - 1].0;
    }
    let (end, count) = buckets[at];
    if at == 0 {
        return if end <= 0.0 { end } else { end * (wanted / count) };
    }
    let (start, below) = buckets[at - 1];
    start + (end - start) * ((wanted - below) / (count - below))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INF: f64 = f64::INFINITY;

    #[test]
    fn it_is_linear_within_a_bucket() {
        let buckets = || vec![(0.1, 10.0), (0.5, 20.0), (1.0, 40.0), (INF, 40.0)];
        assert_eq!(quantile(0.25, buckets()), 0.1);
        assert_eq!(quantile(0.5, buckets()), 0.5);
        assert_eq!(quantile(0.75, buckets()), 0.75);
        assert_eq!(quantile(1.0, buckets()), 1.0);
        assert_eq!(quantile(0.125, buckets()), 0.05, "the first bucket begins at zero");
        assert_eq!(quantile(0.9, vec![(1.0, 1.0), (INF, 10.0)]), 1.0, "beyond the last bound is that bound");
        assert_eq!(quantile(0.5, vec![(-1.0, 5.0), (INF, 5.0)]), -1.0);
        assert_eq!((quantile(-0.1, buckets()), quantile(1.1, buckets())), (-INF, INF));
    }

    #[test]
    fn where_nothing_can_be_said_it_is_nan() {
        assert!(quantile(0.5, vec![]).is_nan());
        assert!(quantile(0.5, vec![(INF, 3.0)]).is_nan());
        assert!(quantile(0.5, vec![(1.0, 3.0), (2.0, 3.0)]).is_nan(), "no bucket holds all");
        assert!(quantile(0.5, vec![(1.0, 0.0), (INF, 0.0)]).is_nan());
    }
}
