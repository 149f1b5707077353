//! Whatever is in the log, however reads and commits fall: the table equals the log.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::testing::{clock_record, json_record};

#[derive(Debug, Clone)]
enum Step {
    Rows(i32, Vec<LogRow>),
    Clock(i32),
    Garbage(i32),
    Flush,
    /// The writer dies where it is, and another starts.
    Crash,
    Fault(&'static str, bool),
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z]{1,8}", "\\PC{0,12}", Just("\u{0}/%=\\\"'{}".to_string()),]
}

fn row() -> impl Strategy<Value = LogRow> {
    let attributes = prop::option::of(prop::collection::btree_map("[a-c]{1}", prop::option::of(text()), 0..3));
    let tenant = prop_oneof![Just("default".to_string()), Just("a.b-C_1".to_string()), Just("x".repeat(128))];
    let time = prop_oneof![
        9 => DAY - DAY_US..DAY + DAY_US,
        // The first and the last instants that ingest takes.
        1 => prop_oneof![Just(0_i64), Just(253_402_300_799_000_000)],
    ];
    (time, tenant, prop::option::of(text()), "\\PC{1,20}", attributes).prop_map(
        |(timestamp_us, tenant, service, message, attributes)| LogRow {
            timestamp_us,
            tenant,
            service,
            message,
            attributes: attributes.map(|a: BTreeMap<_, _>| a.into_iter().collect()),
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..3, prop::collection::vec(row(), 1..6)).prop_map(|(p, rows)| Step::Rows(p, rows)),
        2 => (0..3).prop_map(Step::Clock),
        1 => (0..3).prop_map(Step::Garbage),
        3 => Just(Step::Flush),
        2 => Just(Step::Crash),
        2 => (prop::sample::select(vec![".parquet", "_delta_log/0"]), any::<bool>()).prop_map(|(p, lost)| Step::Fault(p, lost)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_table_is_the_log(steps in prop::collection::vec(step(), 1..24), fetch_size_bytes in 1_usize..4_000) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(3);
            world.config.fetch_size_bytes = fetch_size_bytes;
            world.config.commit_size_bytes = 4_000;
            let mut writer = world.start();
            let mut expected = 0;
            for step in steps {
                match step {
                    Step::Rows(partition, rows) => {
                        expected += rows.len() as u64;
                        world.log.push("logs", partition, log_record(&rows));
                    }
                    Step::Clock(partition) => {
                        world.log.push("logs", partition, clock_record());
                    }
                    Step::Garbage(partition) => {
                        world.log.push("logs", partition, json_record(&serde_json::json!({"x": 1})));
                    }
                    Step::Flush => {
                        writer.flush().await.unwrap();
                    }
                    Step::Crash => {
                        writer.abort();
                        let _ended = writer.join().await;
                        writer = world.start();
                    }
                    Step::Fault(part, lost) => {
                        let fault = if lost { crate::testing::Fault::LostReply } else { crate::testing::Fault::DiskFull };
                        world.faults.inject(part, 1, fault);
                    }
                }
            }
            writer.flush().await.unwrap();
            assert_eq!(world.assert_clean().await, expected);
            for partition in 0..3 {
                let end = highwater_pipeline::log::Log::offsets(world.log.as_ref(), "logs", partition).await.unwrap().high_watermark;
                if end > 0 {
                    let stands = writer.status().positions.iter().find(|p| p.1 == partition).map(|p| p.2);
                    assert_eq!(stands, Some(end));
                }
            }
        });
    }
}
