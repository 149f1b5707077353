//! What rotation makes of files: copies and compressed ones, while an agent runs and while none does. Each line goes out once.

use std::io::Write;

use super::following::Bench;
use super::*;

const HEAD: &str = "2026-03-01T00:00:00Z INFO the first line of a file that says what it is, so that it is told from others that begin as it does";

fn gzip(path: &Path) {
    let text = fs::read(path).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&text).unwrap();
    fs::write(path.with_extension("1.gz"), encoder.finish().unwrap()).unwrap();
    fs::remove_file(path).unwrap();
}

fn copytruncate(path: &Path, copy: &Path) {
    fs::copy(path, copy).unwrap();
    File::options().write(true).open(path).unwrap().set_len(0).unwrap();
}

/// `(pattern, ...)`: with and without the rotated files among those that are read.
const PATTERNS: [&str; 2] = ["app.log", "app.log*"];

#[test]
fn a_copy_is_read_no_second_time_and_its_rest_is_not_lost() {
    for pattern in PATTERNS {
        let dir = tempfile::tempdir().unwrap();
        let (path, copy) = (dir.path().join("app.log"), dir.path().join("app.log.1"));
        append(&path, &format!("{HEAD}\nold 1\n"));
        let mut bench = Bench::open(dir.path(), &[pattern], StartAt::Beginning);
        bench.pass(2);
        // Written between the last look and the copy; the last line only in part.
        append(&path, "old 2\nold");
        bench.step();
        append(&path, " 3\nold 4\n");
        copytruncate(&path, &copy);
        append(&path, "new 1\n");
        bench.pass(30);
        assert_eq!(bench.take(), [HEAD, "old 1", "old 2", "old 3", "old 4", "new 1"], "{pattern}");
        append(&path, "new 2\n");
        drop(bench);
        let mut bench = Bench::open(dir.path(), &[pattern], StartAt::Beginning);
        bench.pass(30);
        assert_eq!(bench.take(), ["new 2"], "{pattern}");
    }
}

#[test]
fn a_copy_that_is_there_before_the_file_is_truncated_waits() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("app.log"), dir.path().join("app.log.1"));
    append(&path, &format!("{HEAD}\n1\n2\n"));
    let mut bench = Bench::open(dir.path(), &["app.log*"], StartAt::Beginning);
    bench.pass(2);
    fs::write(&copy, "").unwrap();
    bench.pass(2);
    fs::write(&copy, format!("{HEAD}\n1\n")).unwrap();
    bench.pass(2);
    append(&path, "3\n");
    bench.pass(2);
    fs::copy(&path, &copy).unwrap();
    bench.pass(2);
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    append(&path, "4\n");
    bench.pass(30);
    assert_eq!(bench.take(), [HEAD, "1", "2", "3", "4"]);
}

#[test]
fn a_file_that_only_begins_as_another_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("app.log"), dir.path().join("app.err.log"));
    append(&path, &format!("{HEAD}\n1\n"));
    let mut bench = Bench::open(dir.path(), &["app*"], StartAt::Beginning);
    bench.pass(2);
    append(&other, &format!("{HEAD}\n"));
    bench.pass(2);
    append(&other, "other\n");
    bench.pass(8);
    assert_eq!(bench.take(), [HEAD, "1", HEAD, "other"]);
    // One that never differs is one of its own after a while.
    append(&dir.path().join("app.copy"), &format!("{HEAD}\n"));
    bench.pass(8);
    assert_eq!(bench.take(), Vec::<String>::new());
    bench.pass(12);
    assert_eq!(bench.take(), [HEAD]);
}

#[test]
fn copied_and_truncated_while_no_agent_ran() {
    for pattern in PATTERNS {
        for rest in ["", "2\n3\n"] {
            let dir = tempfile::tempdir().unwrap();
            let (path, copy) = (dir.path().join("app.log"), dir.path().join("app.log.1"));
            append(&path, &format!("{HEAD}\n1\n"));
            let mut bench = Bench::open(dir.path(), &[pattern], StartAt::End);
            bench.pass(1);
            append(&path, "read\n");
            bench.pass(6);
            assert_eq!(bench.take(), ["read"]);
            drop(bench);
            append(&path, rest);
            copytruncate(&path, &copy);
            append(&path, "4\n");
            let expected: Vec<&str> = rest.lines().chain(["4"]).collect();
            for expected in [expected, vec![]] {
                let mut bench = Bench::open(dir.path(), &[pattern], StartAt::End);
                bench.pass(30);
                assert_eq!(bench.take(), expected, "{pattern} {rest:?}");
            }
        }
    }
}

#[test]
fn renamed_and_compressed_while_no_agent_ran() {
    for pattern in PATTERNS {
        for compress in ["gzip", "zstd"] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("app.log");
            let lines = numbered(0..5_000);
            append(&path, &text_of(&lines[..2_000]));
            let mut bench = Bench::open(dir.path(), &[pattern], StartAt::Beginning);
            bench.pass(6);
            assert_eq!(bench.take(), lines[..2_000]);
            drop(bench);
            append(&path, &text_of(&lines[2_000..4_900]));
            if compress == "gzip" {
                gzip(&path);
            } else {
                fs::write(
                    dir.path().join("app.log.1.zst"),
                    zstd::encode_all(&fs::read(&path).unwrap()[..], 1).unwrap(),
                )
                .unwrap();
                fs::remove_file(&path).unwrap();
            }
            // Others, which are not it.
            fs::write(dir.path().join("app.log.2.gz"), b"\x1f\x8b\x08 damaged").unwrap();
            fs::write(dir.path().join("app.log.3.zst"), zstd::encode_all(&b"something else"[..], 1).unwrap()).unwrap();
            append(&path, &text_of(&lines[4_900..]));
            // Stopped in the middle: it goes on there.
            let mut bench = Bench::open(dir.path(), &[pattern], StartAt::Beginning);
            bench.step();
            let mut sent = bench.take();
            drop(bench);
            let mut bench = Bench::open(dir.path(), &[pattern], StartAt::Beginning);
            bench.pass(12);
            sent.extend(bench.take());
            assert_eq!(sent, lines[2_000..], "{pattern} {compress}");
            drop(bench);
            let mut bench = Bench::open(dir.path(), &[pattern], StartAt::Beginning);
            bench.pass(12);
            assert_eq!(bench.take(), Vec::<String>::new());
        }
    }
}

#[test]
fn copytruncate_under_load_neither_loses_what_was_copied_nor_doubles() {
    for pattern in PATTERNS {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        append(&path, &format!("{HEAD}\n"));
        let mut bench = Bench::open(dir.path(), &[pattern], StartAt::Beginning);
        let mut written = vec![HEAD.to_owned()];
        let mut writer = File::options().append(true).open(&path).unwrap();
        let (mut random, mut looked, mut has_lines) = (7_u64, true, true);
        for round in 0..400 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            for line in 0..(random >> 60) {
                let line = format!(
                    "2026-03-01T00:00:00Z INFO round {round} line {line} {}",
                    "x".repeat((random >> 52) as usize & 0xff)
                );
                // A line comes in two pieces, and what happens may happen in between.
                writer.write_all(&line.as_bytes()[..30]).unwrap();
                if random >> 40 & 3 == 0 {
                    bench.step();
                }
                writer.write_all(&line.as_bytes()[30..]).unwrap();
                writer.write_all(b"\n").unwrap();
                written.push(line);
                has_lines = true;
            }
            bench.now_ms += 700;
            // What is written and truncated between two looks nobody could know of, but by a pattern.
            if random >> 32 & 7 == 0 && std::mem::take(&mut looked) {
                has_lines = false;
                for generation in (1..4).rev() {
                    let name = |generation: i32| dir.path().join(format!("app.log.{generation}"));
                    drop(fs::rename(name(generation), name(generation + 1)));
                }
                fs::copy(&path, dir.path().join("app.log.1")).unwrap();
                if random >> 20 & 1 == 0 {
                    bench.step();
                }
                File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
            }
            if random >> 36 & 3 == 0 {
                bench.pass(1);
                looked = has_lines;
            }
        }
        bench.pass(40);
        let mut sent = bench.take();
        sent.sort();
        written.sort();
        let twice: Vec<_> =
            sent.windows(2).filter(|two| two[0] == two[1]).map(|two| two[0].get(..44).unwrap_or("")).collect();
        assert_eq!(sent.len(), written.len(), "{pattern}: {twice:?}");
        assert_eq!(sent, written, "{pattern}");
    }
}
