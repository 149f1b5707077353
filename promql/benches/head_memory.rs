//! What the head takes per series and per sample: `cargo bench -p highwater-promql --bench head_memory`. Counted by the allocator,
//! capacity that is not filled included, beside what the head says of itself.
//!
//! A series has ten labels, of which four are its own or shared by few; a sample comes every 15 s for an hour, up to half a
//! second late.

#![expect(unsafe_code, reason = "counts allocations: the allocator below is the system's with two numbers beside it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use highwater_promql::Labels;
use highwater_promql::head::Head;

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SERIES: u32 = 20_000;
/// Samples of an hour.
const SAMPLES: i64 = 240;

fn labels(i: u32) -> Labels {
    let (instance, path) = (format!("10.0.{}.{}:9100", i / 250 % 250, i % 250), format!("/api/v1/{}", i % 40));
    let pod = format!("api-{i:08x}");
    Labels::from_pairs([
        ("__name__", "http_requests_total"),
        ("job", "api-server"),
        ("instance", &instance),
        ("method", "GET"),
        ("code", "200"),
        ("path", &path),
        ("region", "eu-west-1"),
        ("zone", "eu-west-1a"),
        ("cluster", "production"),
        ("pod", &pod),
    ])
}

/// Numbers that look random and are the same each time.
fn noise(n: u64) -> u64 {
    let mut x = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x ^= x >> 31;
    x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^ (x >> 29)
}

fn measure(name: &str, late: bool, value: impl Fn(u32, i64, f64) -> f64) {
    let before = HELD.load(Ordering::Relaxed);
    let mut head = Head::new();
    let empty = HELD.load(Ordering::Relaxed) - before;
    let mut refs = Vec::with_capacity(SERIES as usize);
    let vector = HELD.load(Ordering::Relaxed) - before - empty;
    let mut last = vec![0.0; SERIES as usize];
    let held = |last: &Vec<f64>| HELD.load(Ordering::Relaxed) - before - vector - last.capacity() * size_of::<f64>();
    let mut first = 0;
    for k in 0..SAMPLES {
        for i in 0..SERIES {
            let jitter = if late { (noise(u64::from(i) << 20 | k as u64) % 500) as i64 } else { 0 };
            let v = value(i, k, last[i as usize]);
            last[i as usize] = v;
            let time_ms = 1_767_322_800_000 + k * 15_000 + jitter;
            if k == 0 {
                refs.push(head.append(&labels(i), time_ms, v));
            } else {
                head.append_to(refs[i as usize], time_ms, v);
            }
        }
        if k == 0 {
            first = held(&last);
        }
    }
    let all = held(&last);
    let (series, samples) = (f64::from(SERIES), f64::from(SERIES) * SAMPLES as f64);
    println!(
        "{name:<28} {:>6.0} B/series with its first sample, {:>6.0} B/series with an hour, {:>5.2} B/sample; the head says {:>6.0} B/series",
        first as f64 / series,
        all as f64 / series,
        (all - first) as f64 / samples,
        head.memory_bytes() as f64 / series,
    );
}

fn main() {
    println!("{SERIES} series with ten labels, {SAMPLES} samples each");
    measure("a counter, scraped in time", false, |i, k, last| {
        last + (noise(u64::from(i) << 16 | k as u64) % 50) as f64
    });
    measure("a counter, up to 0.5 s late", true, |i, k, last| {
        last + (noise(u64::from(i) << 16 | k as u64) % 50) as f64
    });
    measure("a gauge that stands still", true, |i, _, _| f64::from(i % 7));
    measure("a gauge of whole numbers", true, |i, k, _| (noise(u64::from(i) << 16 | k as u64) % 1_000) as f64);
    measure("a gauge of any number", true, |i, k, _| noise(u64::from(i) << 16 | k as u64) as f64 / 1e15);
}
