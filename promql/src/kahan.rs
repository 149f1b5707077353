//! Sums that keep what rounding loses: Neumaier's variant of Kahan's summation, wherever Prometheus uses it.

/// A sum and what rounding took from it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Kahan {
    /// The sum without compensation.
    pub(crate) sum: f64,
    /// The compensation.
    pub(crate) lost: f64,
}

impl Kahan {
    pub(crate) fn new(value: f64) -> Self {
        Kahan { sum: value, lost: 0.0 }
    }

    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        let total = self.sum + value;
        if total.is_infinite() {
            self.lost = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.lost += (self.sum - total) + value;
        } else {
            self.lost += (value - total) + self.sum;
        }
        self.sum = total;
    }

    pub(crate) fn add_compensated(&mut self, other: Kahan) {
        self.add(other.sum);
        self.add(other.lost);
    }

    pub(crate) fn scale(&mut self, factor: f64) {
        self.sum *= factor;
        self.lost *= factor;
    }

    pub(crate) fn divide(&mut self, divisor: f64) {
        self.sum /= divisor;
        self.lost /= divisor;
    }

    #[inline]
    pub(crate) fn value(self) -> f64 {
        self.sum + self.lost
    }
}

/// A mean: the sum divided, or, once the sum would overflow, moved by each value's share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mean {
    pub(crate) count: f64,
    total: Kahan,
    incremental: bool,
}

impl Mean {
    pub(crate) fn new(value: f64) -> Self {
        Mean { count: 1.0, total: Kahan::new(value), incremental: false }
    }

    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.incremental {
            let mut next = self.total;
            next.add(value);
            if !next.sum.is_infinite() {
                self.total = next;
                return;
            }
            self.incremental = true;
            let before = self.count - 1.0;
            self.total = Kahan { sum: self.total.sum / before, lost: self.total.lost / before };
        }
        self.total.scale((self.count - 1.0) / self.count);
        self.total.add(value / self.count);
    }

    pub(crate) fn value(&self) -> f64 {
        if self.incremental { self.total.value() } else { self.total.sum / self.count + self.total.lost / self.count }
    }
}
