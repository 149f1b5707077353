//! What happens in a history, and when: drawn from its seed before it begins.

use highwater_broker::BrokerConfig;
use highwater_broker::fs::Crash;
use highwater_pipeline::runtime::DriverConfig;

use crate::batch::Batch;
use crate::log::Manners;
use crate::random::Random;
use crate::setup::{DEFINITIONS, MAX_PARTITIONS};

/// Something that happens.
#[derive(Debug, Clone)]
pub enum Event {
    /// A sender sends.
    Send(Batch),
    /// The process or the machine dies.
    Crash {
        /// What the disk keeps.
        kind: Crash,
        /// The disk takes so many more changes, and then none, before the crash comes.
        dying_after: Option<u64>,
        /// The next start dies after so many changes of the disk.
        again_after: Option<u64>,
        /// How long it is down.
        down_ms: i64,
    },
    /// An orderly stop and a start.
    Restart {
        /// How long it is down.
        down_ms: i64,
    },
    /// The disk has room for so many more bytes.
    DiskFull {
        /// How many.
        room_bytes: u64,
        /// For how long.
        for_ms: i64,
    },
    /// The next sync of a file below this path fails, and somebody restarts the process later.
    FailSync {
        /// Part of the path.
        path: &'static str,
        /// How much later.
        restart_after_ms: i64,
        /// What the disk keeps of what was not synced.
        kind: Crash,
    },
    /// The wall clock is set.
    Jump {
        /// By so much.
        by_ms: i64,
    },
    /// A task is run a second time while it runs.
    DoubleStart {
        /// Which.
        task: usize,
    },
    /// Other rollups and rules are to apply.
    Reconfigure {
        /// Which.
        definitions: usize,
        /// What another process wants at the same moment, if one does.
        rival: Option<usize>,
    },
    /// Object storage is unwell.
    Storage {
        /// Calls of a thousand that fail.
        faults: u64,
        /// For how long.
        for_ms: i64,
    },
}

/// A history before it begins.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Partitions of the topics.
    pub partitions: i32,
    /// Which definitions apply first.
    pub definitions: usize,
    /// Settings of the broker.
    pub broker: BrokerConfig,
    /// Settings of tasks.
    pub driver: DriverConfig,
    /// How the log behaves.
    pub manners: Manners,
    /// Chooses the topics that are written into tables.
    pub tables: u64,
    /// By time, in milliseconds from the start.
    pub events: Vec<(i64, Event)>,
    /// How the process that saw all of it ends before the last one starts; `None` for in order.
    pub last_crash: Option<Crash>,
    /// How long it goes on in silence, so that windows close.
    pub silence_ms: i64,
}

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
const PATHS: [&str; 7] = [
    "topics/logs/0/",
    "topics/metrics/",
    "topics/spans/",
    "topics/__highwater.partials/0/",
    "topics/rollup.",
    "groups",
    "checkpoint",
];

impl Plan {
    /// The plan of a seed.
    pub fn random(random: &mut Random) -> Self {
        let length_ms = random.between(20_000, 70_000);
        let mut events: Vec<(i64, Event)> = Vec::new();
        for number in 0..random.between(12, 45) as usize {
            events.push((random.between(0, length_ms), Event::Send(Batch::random(number, random))));
        }
        for _ in 0..random.between(1, 6) {
            let event = Self::trouble(random);
            events.push((random.between(1_000, length_ms), event));
        }
        if random.chance(150) {
            let day_ms = if random.chance(500) { DAY_MS } else { -DAY_MS };
            let at_ms = random.between(0, length_ms);
            events.push((at_ms, Event::Jump { by_ms: day_ms }));
            if random.chance(700) {
                events.push((random.between(at_ms, length_ms), Event::Jump { by_ms: -day_ms }));
            }
        }
        if random.chance(400) {
            for _ in 0..random.between(1, 4) {
                let rival = random.chance(300).then(|| random.below(DEFINITIONS));
                let event = Event::Reconfigure { definitions: random.below(DEFINITIONS), rival };
                events.push((random.between(500, length_ms), event));
            }
        }
        events.sort_by_key(|(at_ms, _)| *at_ms);
        let broker = BrokerConfig {
            segment_size_bytes: *random.pick(&[8 << 10, 32 << 10, 1 << 20]),
            writer_threads: random.between(1, 4) as usize,
            checkpoint_interval_ms: *random.pick(&[200, 2_000, 20_000]),
            ..BrokerConfig::new("/data")
        };
        let mut driver = DriverConfig {
            max_wait_ms: *random.pick(&[200, 1_000]),
            commit_interval_ms: *random.pick(&[0, 100, 500, 3_000]),
            snapshot_records: *random.pick(&[3, 20, 200]),
            snapshot_interval_ms: *random.pick(&[2_000, 30_000]),
            ..DriverConfig::default()
        };
        if driver.snapshot_records < 200 {
            // State is small here: all of it goes into packs, as that of a large task does.
            driver.snapshot_inline_bytes = 0;
        }
        Self {
            partitions: random.between(1, i64::from(MAX_PARTITIONS) + 1) as i32,
            definitions: random.below(DEFINITIONS),
            broker,
            driver,
            manners: Manners { lost_replies: *random.pick(&[0, 5, 30]), hangs: *random.pick(&[0, 2, 8]) },
            tables: random.bits(),
            events,
            last_crash: random.chance(600).then(|| crash(random)),
            silence_ms: *random.pick(&[0, 15_000, 45_000]),
        }
    }

    fn trouble(random: &mut Random) -> Event {
        match random.below(13) {
            0..4 => Event::Crash {
                kind: crash(random),
                dying_after: random.chance(500).then(|| random.between(0, 40) as u64),
                again_after: random.chance(250).then(|| random.between(0, 150) as u64),
                down_ms: random.between(0, 5_000),
            },
            4..6 => Event::Restart { down_ms: random.between(0, 40_000) },
            6 => Event::DiskFull { room_bytes: random.between(0, 60_000) as u64, for_ms: random.between(500, 12_000) },
            7..9 => Event::FailSync {
                path: PATHS[random.below(PATHS.len())],
                restart_after_ms: random.between(500, 8_000),
                kind: crash(random),
            },
            9..12 => Event::DoubleStart { task: random.below(64) },
            _ => Event::Storage { faults: *random.pick(&[300, 1_000]), for_ms: random.between(1_000, 20_000) },
        }
    }
}

fn crash(random: &mut Random) -> Crash {
    match random.below(4) {
        0 => Crash::Kill,
        1 => Crash::LoseUnsynced,
        _ => Crash::Tear(random.bits()),
    }
}
