//! SQL over history and the live tail
