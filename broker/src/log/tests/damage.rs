//! Bytes that rot, before and behind good ones.

use super::*;

#[test]
fn a_flipped_bit_in_any_header_field_costs_one_batch() {
    let fs = new_fs();
    drop(filled(&fs, 5));
    let (at, _) = batches(&segment_bytes(&fs))[2];
    let path = files(&fs, ".log")[0].clone();
    for byte in 0..crate::batch::HEADER_SIZE_BYTES {
        for bit in [0, 3, 7] {
            let fs = copy(&fs);
            fs.flip(&path, (at + byte) as u64, 1 << bit).unwrap();
            let (mut log, report) = try_open(&fs, settings()).unwrap();
            let (records, gaps) = read_all_records(log.view());
            if (12..16).contains(&byte) {
                assert_eq!((records, gaps), (expected(0..5), vec![]), "the leader epoch is nobody's business");
                continue;
            }
            assert_eq!(records, expected([0, 1, 3, 4]), "byte {byte} bit {bit}");
            assert_eq!(gaps.iter().map(|g| (g.from, g.to)).collect::<Vec<_>>(), [(2, 3)], "byte {byte} bit {bit}");
            assert_eq!((report.cut_bytes, report.damaged_ranges), (0, 1));
            let damaged = log.view().damaged();
            assert_eq!((damaged[0].range.from_offset, damaged[0].range.to_offset), (2, 3));
            // And life goes on.
            assert_eq!(append(&mut log, value_of(5)).unwrap().base_offset, 5);
            log.sync().unwrap();
            assert_eq!(read_all_records(log.view()).0, expected([0, 1, 3, 4, 5]));
        }
    }
}

#[test]
fn rot_in_a_closed_segment_is_passed_over_and_reported_once() {
    let fs = new_fs();
    let log = filled(&fs, 700);
    let path = files(&fs, ".log")[0].clone();
    let found = batches(&read_all(&fs, &path).unwrap().unwrap());
    for (i, at) in [(0, 70), (10, 30), (found.len() - 1, 70)] {
        fs.flip(&path, (found[i].0 + at) as u64, 0x10).unwrap();
    }
    let last = found.len() - 1;
    for _ in 0..2 {
        let (records, gaps) = read_all_records(log.view());
        let lost = [0, 10, last];
        assert_eq!(records, expected((0..700).filter(|i| !lost.contains(i))));
        assert_eq!(gaps.iter().map(|g| g.from as usize).collect::<Vec<_>>(), lost);
    }
    assert_eq!(log.view().damaged().len(), 3);
    // A read that begins inside the gap is told of it, too.
    let fetched = log.view().read(10, 1).unwrap();
    assert_eq!((fetched.gaps[0].from, fetched.records[0].offset), (10, 11));
}

#[test]
fn a_damaged_range_of_any_length_is_passed_over() {
    let fs = new_fs();
    drop(filled(&fs, 20));
    let found = batches(&segment_bytes(&fs));
    let path = files(&fs, ".log")[0].clone();
    // From inside batch 3 to inside batch 8, so that no length field leads out.
    let (from, to) = (found[3].0 + 5, found[8].0 + 90);
    overwrite(&fs, &path, from as u64, &vec![0xa5; to - from]);
    let log = open(&fs);
    let (records, gaps) = read_all_records(log.view());
    assert_eq!(records, expected((0..3).chain(9..20)));
    assert_eq!(gaps.iter().map(|g| (g.from, g.to)).collect::<Vec<_>>(), [(3, 9)]);
}

#[test]
fn a_length_of_two_to_the_31_is_damage_like_any_other() {
    let fs = new_fs();
    drop(filled(&fs, 4));
    let found = batches(&segment_bytes(&fs));
    let path = files(&fs, ".log")[0].clone();
    for length in [i32::MAX, i32::MIN, -1, 0] {
        let middle = copy(&fs);
        overwrite(&middle, &path, (found[1].0 + 8) as u64, &length.to_be_bytes());
        let (records, gaps) = read_all_records(open(&middle).view());
        assert_eq!((records, gaps.len()), (expected([0, 2, 3]), 1), "{length}");
        let end = copy(&fs);
        overwrite(&end, &path, (found[3].0 + 8) as u64, &length.to_be_bytes());
        let (log, report) = try_open(&end, settings()).unwrap();
        assert_eq!(read_all_records(log.view()), (expected(0..3), vec![]), "{length}");
        assert!(report.cut_bytes > 0);
    }
}

#[test]
fn a_batch_that_does_not_unpack_is_a_gap_not_a_wall() {
    let fs = new_fs();
    let compressed = LogSettings { compression: Compression::Lz4, ..settings() };
    let (mut log, _) = try_open(&fs, compressed.clone()).unwrap();
    append(&mut log, value_of(0)).unwrap();
    append(&mut log, vec![b'x'; 500_000]).unwrap();
    append(&mut log, value_of(2)).unwrap();
    log.close().unwrap();
    drop(log);
    let capped = LogSettings { max_decompressed_size_bytes: 100_000, ..compressed };
    let log = try_open(&fs, capped).unwrap().0;
    let (records, gaps) = read_all_records(log.view());
    assert_eq!(records, expected([0, 2]));
    assert_eq!((gaps[0].from, gaps[0].to), (1, 2));
    assert!(gaps[0].reason.contains("limit of 100000 bytes"), "{}", gaps[0].reason);
}
