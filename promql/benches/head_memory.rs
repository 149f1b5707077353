//! What the head takes per series and per sample: `cargo bench -p highwater-promql --bench head_memory`. Counted by the allocator,
//! capacity that is not filled included, beside what the head says of itself.
//!
//! A series has ten labels, of which four are its own or shared by few; a sample comes every 15 s for an hour, up to half a
//! second late, and with each the offset of its record is kept.
//!
//! Then what a sample costs to put in, and what a rule pays that looks at the newest sample, at five minutes and at the hour; beside the same with samples as
//! they are, 24 bytes each.

#![expect(unsafe_code, reason = "counts allocations: the allocator below is the system's with two numbers beside it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use highwater_promql::head::{Head, Point, SeriesRef};
use highwater_promql::{Labels, Series};

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
            let time_ms = START_MS + k * 15_000 + jitter;
            if k == 0 {
                refs.push(head.append(&labels(i), Point { time_ms, value: v, mark: offset(i, k) }).series);
            } else {
                head.append_to(refs[i as usize], Point { time_ms, value: v, mark: offset(i, k) });
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

/// Offset of the record that has the sample: a record has a thousand samples, and now and then there are others.
fn offset(i: u32, k: i64) -> i64 {
    k * 21 + i64::from(i) / 1_000 + (noise(k as u64) % 3) as i64
}

const START_MS: i64 = 1_767_322_800_000;

/// Samples as they are.
struct Plain {
    labels: Labels,
    points: Vec<Point>,
}

impl Plain {
    fn read(&self, start_ms: i64, end_ms: i64) -> Option<Series> {
        let to = self.points.partition_point(|point| point.time_ms <= end_ms);
        let from = self.points[..to].partition_point(|point| point.time_ms <= start_ms);
        let inside = &self.points[from..to];
        (!inside.is_empty()).then(|| {
            let times = inside.iter().map(|point| point.time_ms).collect();
            Series::floats(self.labels.clone(), times, inside.iter().map(|point| point.value).collect())
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "measures")]
fn now() -> Instant {
    Instant::now()
}

/// The time that something takes for one of so many, the best of five, ns.
fn best(count: usize, mut of: impl FnMut()) -> f64 {
    let once = |()| {
        let begun = now();
        of();
        begun.elapsed().as_nanos() as f64 / count as f64
    };
    [(); 5].map(once).into_iter().fold(f64::INFINITY, f64::min)
}

fn speed(name: &str, value: impl Fn(u32, i64) -> f64) {
    let point = |i: u32, k: i64| {
        let time_ms = START_MS + k * 15_000 + (noise(u64::from(i) << 20 | k as u64) % 500) as i64;
        Point { time_ms, value: value(i, k), mark: offset(i, k) }
    };
    let (mut head, mut plain) = (Head::new(), Vec::new());
    let mut refs: Vec<SeriesRef> = Vec::new();
    for i in 0..SERIES {
        refs.push(head.append(&labels(i), point(i, 0)).series);
        plain.push(Plain { labels: labels(i), points: vec![point(i, 0)] });
    }
    let (mut compressed_ns, mut plain_ns) = (0.0, 0.0);
    for k in 1..SAMPLES {
        let points: Vec<Point> = (0..SERIES).map(|i| point(i, k)).collect();
        let begun = now();
        refs.iter().zip(&points).for_each(|(series, point)| {
            head.append_to(*series, *point);
        });
        compressed_ns += begun.elapsed().as_nanos() as f64;
        let begun = now();
        plain.iter_mut().zip(&points).for_each(|(series, point)| series.points.push(*point));
        plain_ns += begun.elapsed().as_nanos() as f64;
    }
    let pushes = f64::from(SERIES) * (SAMPLES - 1) as f64;
    print!("{name:<28} push {:>4.0} (plain {:>3.0})", compressed_ns / pushes, plain_ns / pushes);
    let end_ms = START_MS + SAMPLES * 15_000;
    for (range, range_ms) in [("newest", 15_001), ("5 m", 300_000), ("1 h", 3_600_000)] {
        let compressed = best(refs.len(), || {
            refs.iter().for_each(|series| drop(black_box(head.read(*series, end_ms - range_ms, end_ms))));
        });
        let as_they_are = best(plain.len(), || {
            plain.iter().for_each(|series| drop(black_box(series.read(end_ms - range_ms, end_ms))));
        });
        print!("; {range} {compressed:>5.0} (plain {as_they_are:>5.0})");
    }
    println!(" ns");
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
    println!("time of a sample to go in, and of a series to be read");
    speed("a counter, up to 0.5 s late", |i, k| (k * 25 + (noise(u64::from(i) << 16 | k as u64) % 50) as i64) as f64);
    speed("a gauge that stands still", |i, _| f64::from(i % 7));
    speed("a gauge in hundredths", |i, k| (noise(u64::from(i) << 16 | k as u64) % 10_000) as f64 / 100.0);
    speed("a gauge of any number", |i, k| noise(u64::from(i) << 16 | k as u64) as f64 / 1e15);
}
