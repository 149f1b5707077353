//! Load generators and benchmarks
