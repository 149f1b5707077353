//! Where topics go: Delta tables and alert subscribers
