//! Vectors that grow by an eighth: there is one of each kind, or one per series, and half of it empty is what doubling costs.

/// Adds an element.
pub(super) fn push<T>(vector: &mut Vec<T>, element: T) {
    if vector.len() == vector.capacity() {
        vector.reserve_exact(vector.len() / 8 + 1);
    }
    vector.push(element);
}
