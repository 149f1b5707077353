//! Sent = acknowledged = in SQL, at every door that senders push through, while the server dies and while its disk is full.
//!
//! A sender that was not answered sends again. With an `Idempotency-Key` its rows are there once; without one what it sent again may be there twice,
//! and nothing else is.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::doors::{Door, Rows, Sent};
use crate::support::{Addresses, Server, Site, SmallDisk, skipped};

/// One sender at one door: a tenant of its own, and whether it names its requests.
#[derive(Debug, Clone, Copy)]
struct Sender {
    door: Door,
    keyed: bool,
}

/// What its sender knows.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// Requests that were sent again.
    again: u64,
    /// Requests that got no answer, or one that says "later".
    unanswered: u64,
}

impl Sender {
    fn all() -> Vec<Self> {
        Door::ALL.into_iter().flat_map(|door| [true, false].map(|keyed| Self { door, keyed })).collect()
    }

    fn tenant(self) -> String {
        format!("{:?}-{}", self.door, if self.keyed { "keyed" } else { "bare" })
    }

    async fn send(self, client: &reqwest::Client, at: &Addresses, rows: Rows) -> Sent {
        let key = self.keyed.then(|| format!("rows-{}-{}", rows.from, rows.padding_size_bytes));
        self.door.send(client, at, &self.tenant(), key.as_deref(), rows).await
    }

    /// Sends rows until they are acknowledged.
    async fn deliver(self, client: &reqwest::Client, at: &watch::Receiver<Addresses>, rows: Rows, known: &mut Known) {
        loop {
            let address = at.borrow().clone();
            if self.send(client, &address, rows).await == Sent::Acknowledged {
                return;
            }
            known.unanswered += 1;
            known.again += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// How many rows there are, how many different ones, the lowest and the highest.
    async fn stored(self, server: &Server) -> [i64; 4] {
        let (number, table) = self.door.found();
        let query = format!(
            "SELECT count(*) AS n, count(DISTINCT {number}) AS different, coalesce(min({number}), -1) AS lowest, coalesce(max({number}), -1) AS highest FROM {table}"
        );
        let rows = server.sql_of(&self.tenant(), &query).await;
        ["n", "different", "lowest", "highest"]
            .map(|column| rows[0][column].as_i64().unwrap_or_else(|| panic!("{query}: {rows:?}")))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_any_door_acknowledged_is_there_after_kills() {
    const BATCHES: u64 = 24;
    const ROWS: u64 = 25;
    const KILLS: u64 = 3;
    let site = Site::with_config("log: { segment_size_bytes: 4194304 }\n");
    let mut server = site.start().await;
    let addresses = server.addresses();
    let (at, follow) = watch::channel(addresses.clone());
    let acknowledged = Arc::new(AtomicU64::new(0));
    let mut sending = JoinSet::new();
    let senders = Sender::all();
    for sender in senders.clone() {
        let (follow, acknowledged) = (follow.clone(), Arc::clone(&acknowledged));
        sending.spawn(async move {
            let (client, mut known) = (reqwest::Client::new(), Known::default());
            for batch in 0..BATCHES {
                let rows = Rows { from: batch * ROWS, to: (batch + 1) * ROWS, padding_size_bytes: 40 };
                sender.deliver(&client, &follow, rows, &mut known).await;
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            (sender.tenant(), known)
        });
    }
    let all = BATCHES * senders.len() as u64;
    for kill in 1..=KILLS {
        while acknowledged.load(Ordering::Relaxed) < all * kill / (KILLS + 1) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        server.kill_in_place().await;
        server = site.start_again(&addresses).await;
        at.send_replace(server.addresses());
    }
    let mut known = BTreeMap::new();
    while let Some(sent) = sending.join_next().await {
        let (tenant, of) = sent.unwrap();
        known.insert(tenant, of);
    }
    assert!(known.values().any(|known| known.again > 0), "the kills missed the load");
    let rows = (BATCHES * ROWS) as i64;
    for sender in senders {
        let [n, different, lowest, highest] = sender.stored(&server).await;
        let tenant = sender.tenant();
        assert_eq!((different, lowest, highest), (rows, 0, rows - 1), "{tenant}");
        let most = if sender.keyed { rows } else { rows + (known[&tenant].unanswered * ROWS) as i64 };
        assert!((rows..=most).contains(&n), "{tenant}: {n} rows, {rows} sent, {:?}", known[&tenant]);
    }
    server.stop().await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_said_in_every_protocol_and_loses_nothing() {
    const ROWS: u64 = 40;
    let site = Site::with_config("log: { segment_size_bytes: 1048576 }\n");
    let mount_point = site.subdirectory("small-disk");
    let disk = match SmallDisk::mount(&mount_point, "192m") {
        Ok(disk) => disk,
        Err(error) => return skipped("a full disk at every door", &format!("cannot mount a tmpfs: {error}")),
    };
    let site = site.with_data_dir(disk.path.join("data"));
    let server = site.start().await;
    let at = server.addresses();
    let client = reqwest::Client::new();
    let senders = Sender::all();
    let batch = |number: u64| Rows { from: number * ROWS, to: (number + 1) * ROWS, padding_size_bytes: 6_000 };
    for sender in &senders {
        assert_eq!(sender.send(&client, &at, batch(0)).await, Sent::Acknowledged, "{}", sender.tenant());
    }
    let filler = disk.path.join("filler");
    drop(Command::new("dd").args(["if=/dev/zero", "bs=64K", &format!("of={}", filler.display())]).output().unwrap());
    // Each goes on until it is told that it cannot be.
    let mut next = BTreeMap::new();
    for sender in &senders {
        let mut number = 1;
        let refusal = loop {
            match sender.send(&client, &at, batch(number)).await {
                Sent::Acknowledged => number += 1,
                refusal => break refusal,
            }
            assert!(number < 200, "the disk never fills");
        };
        let expected = Sent::Later { code: sender.door.when_the_disk_is_full(), says_when: true };
        assert_eq!(refusal, expected, "{}", sender.tenant());
        next.insert(sender.tenant(), number);
    }
    // What was acknowledged shows while nothing more goes in.
    for sender in &senders {
        let [_, different, ..] = sender.stored(&server).await;
        let number = next[&sender.tenant()];
        assert!(different as u64 >= number * ROWS, "{}: {different} rows of {number} batches", sender.tenant());
    }
    std::fs::remove_file(&filler).unwrap();
    let (_, follow) = watch::channel(at);
    for sender in &senders {
        let number = next[&sender.tenant()];
        let mut known = Known::default();
        // What was refused, again, and one more.
        for number in [number, number + 1] {
            sender.deliver(&client, &follow, batch(number), &mut known).await;
        }
        let rows = ((number + 2) * ROWS) as i64;
        let [n, different, lowest, highest] = sender.stored(&server).await;
        assert_eq!((different, lowest, highest), (rows, 0, rows - 1), "{}", sender.tenant());
        let twice = n - rows;
        // A request that was refused may have been stored in some partitions.
        let most = if sender.keyed { 0 } else { ((1 + known.again) * ROWS) as i64 };
        assert!((0..=most).contains(&twice), "{}: {twice} rows are there twice", sender.tenant());
    }
    let balanced = "SELECT source, signal FROM loss_ledger WHERE balance <> 0";
    crate::support::eventually("the ledger adds up", Vec::<serde_json::Value>::new(), async || {
        server.sql(balanced).await
    })
    .await;
    let refused = "SELECT count(*) AS n FROM loss_ledger WHERE rejected > 0 AND source IN ('http', 'remote_write', 'loki', 'otlp_http', 'otlp_grpc')";
    assert!(server.number(refused).await >= 5, "{}", json!(server.sql("SELECT * FROM loss_ledger").await));
    server.stop().await;
    site.verify().await;
}
