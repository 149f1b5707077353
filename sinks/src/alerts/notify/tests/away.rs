//! A receiver that is away for an hour: of a clock that the test moves, beside a real socket.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::watch;

use super::*;

const MINUTE_MS: i64 = 60_000;

/// Time that passes when the test says so; pauses end by it.
struct Hand(watch::Sender<i64>);

impl Hand {
    fn at(ms: i64) -> Arc<Self> {
        Arc::new(Self(watch::channel(ms).0))
    }

    fn pass(&self, ms: i64) {
        self.0.send_modify(|now| *now += ms);
    }
}

impl Clock for Hand {
    fn now_ms(&self) -> i64 {
        *self.0.borrow()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let until = self.now_ms() + i64::try_from(duration.as_millis()).unwrap();
        let mut time = self.0.subscribe();
        Box::pin(async move { drop(time.wait_for(|now| *now >= until).await) })
    }
}

/// What a receiver does with requests.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    /// Hangs up without a word.
    HangsUp,
    /// Says that it cannot.
    Refuses,
    Takes,
}

/// A receiver's HTTP server, as much as a client needs; it may hang up, which those that are well made do not.
#[derive(Clone)]
struct Desk {
    mood: Arc<Mutex<Mood>>,
    asked: Arc<AtomicI64>,
    /// `state alertname` of each alert that was taken, with its key and the minute.
    taken: Arc<Mutex<Vec<(String, String, i64)>>>,
    clock: Arc<Hand>,
}

impl Desk {
    fn new(mood: Mood, clock: &Arc<Hand>) -> Self {
        let (asked, taken) = (Arc::default(), Arc::default());
        Self { mood: Arc::new(Mutex::new(mood)), asked, taken, clock: Arc::clone(clock) }
    }

    async fn open(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let desk = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let desk = desk.clone();
                tokio::spawn(async move { desk.serve(stream).await });
            }
        });
        url
    }

    async fn serve(&self, stream: tokio::net::TcpStream) {
        let (read, mut write) = stream.into_split();
        let mut read = BufReader::new(read);
        loop {
            let mut length = 0;
            loop {
                let mut line = String::new();
                if read.read_line(&mut line).await.unwrap_or(0) == 0 {
                    return;
                }
                let line = line.trim().to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            if read.read_exact(&mut body).await.is_err() {
                return;
            }
            self.asked.fetch_add(1, Ordering::SeqCst);
            let mood = *self.mood.lock();
            let answer = match mood {
                Mood::HangsUp => return,
                Mood::Refuses => "HTTP/1.1 503 Service Unavailable\r\nretry-after: 20\r\ncontent-length: 0\r\n\r\n",
                Mood::Takes => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            };
            if mood == Mood::Takes {
                let body: Value = serde_json::from_slice(&body).unwrap();
                let minute = self.clock.now_ms() / MINUTE_MS;
                for alert in body["alerts"].as_array().unwrap() {
                    let said = format!(
                        "{} {}",
                        alert["status"].as_str().unwrap(),
                        alert["labels"]["alertname"].as_str().unwrap()
                    );
                    self.taken.lock().push((said, alert["dedupeKey"].as_str().unwrap().to_owned(), minute));
                }
            }
            if write.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn told(&self) -> Vec<String> {
        self.taken.lock().iter().map(|(said, ..)| said.clone()).collect()
    }
}

/// Waits until it is so. Little time passes meanwhile: a pause of whoever is well ends, and nobody's who is away.
async fn until(clock: &Hand, what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..12_000 {
        if is_so() {
            return;
        }
        clock.pass(10);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_away_for_an_hour_is_told_after_once_and_in_order_and_nobody_waits() {
    let log = MemoryLog::with_topic(TOPIC, 1);
    let clock = Hand::at(1_800_000_000_000 / MINUTE_MS * MINUTE_MS);
    let begin_ms = clock.now_ms();
    let (well, away) = (Desk::new(Mood::Takes, &clock), Desk::new(Mood::HangsUp, &clock));
    let config = |name: &str, url: &str| json!({"webhook": [{"name": name, "url": url}]});
    let (well_url, away_url) = (well.open().await, away.open().await);
    let start = |name: &str, url: &str| start_on(&log, config(name, url), Arc::clone(&clock) as Arc<dyn Clock>);
    let (healthy, mut waiting) = (start("well", &well_url), start("away", &away_url));
    // Both have begun: what comes from now on is theirs to tell.
    until(&clock, "both begin", || {
        ["well", "away"].iter().all(|name| !log.group(&format!("__highwater.notify.{name}")).is_empty())
    })
    .await;

    let mut said = Vec::new();
    for minute in 0..60 {
        // One fires, another is over: of every minute another.
        let name = format!("Minute{}", "x".repeat(minute / 2));
        let (state, word) =
            if minute % 2 == 0 { (AlertState::Firing, "firing") } else { (AlertState::Resolved, "resolved") };
        push(&log, &transition(&name, state, i64::try_from(minute).unwrap()));
        said.push(format!("{word} {name}"));
        // Nobody else waits: the other has it before the next minute comes.
        until(&clock, "the healthy one is told at once", || well.told().len() == said.len()).await;
        assert_eq!(well.told(), said);
        if minute == 20 {
            // Its process is started again meanwhile.
            waiting.stop().await;
            waiting = start("away", &away_url);
        }
        if minute == 40 {
            *away.mood.lock() = Mood::Refuses;
        }
        let asked = away.asked.load(Ordering::SeqCst);
        clock.pass(MINUTE_MS);
        // It is tried again, by the clock: at the latest a minute after the last time.
        until(&clock, "the other is tried again", || away.asked.load(Ordering::SeqCst) > asked).await;
    }
    assert!(clock.now_ms() - begin_ms >= 60 * MINUTE_MS);
    assert_eq!(away.told(), Vec::<String>::new());

    *away.mood.lock() = Mood::Takes;
    clock.pass(MINUTE_MS);
    until(&clock, "the other is told of all", || away.told().len() >= said.len()).await;
    assert_eq!(away.told(), said, "in order");
    let end = i64::try_from(said.len()).unwrap();
    until(&clock, "its progress is noted", || {
        log.group("__highwater.notify.away").values().all(|offset| *offset == end)
    })
    .await;
    waiting.stop().await;
    // And once: the next start has nothing to say.
    let again = start("away", &away_url);
    push(&log, &transition("Last", AlertState::Firing, 60));
    until(&clock, "the next is told", || away.told().len() > said.len()).await;
    said.push("firing Last".to_owned());
    assert_eq!(away.told(), said);
    let keys: std::collections::BTreeSet<String> = away.taken.lock().iter().map(|(_, key, _)| key.clone()).collect();
    assert_eq!(keys.len(), said.len(), "every transition has a key of its own");
    until(&clock, "the healthy one is told as well", || well.told() == said).await;
    again.stop().await;
    healthy.stop().await;
}
