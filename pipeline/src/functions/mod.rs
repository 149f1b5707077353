//! SQL functions that rollups and queries share.

mod window;

pub use window::{TUMBLE, Tumble, tumble, tumble_start_us, tumble_width_us};
