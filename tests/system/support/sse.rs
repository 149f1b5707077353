//! A reader of server-sent events.

use futures::StreamExt;
use futures::stream::BoxStream;

use super::server::Server;
use super::wait::{DEADLINE, within};

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub id: String,
    pub data: String,
}

/// An open stream of server-sent events.
pub struct EventStream {
    chunks: BoxStream<'static, reqwest::Result<Vec<u8>>>,
    pending: Vec<u8>,
}

impl EventStream {
    /// Opens `path`; with `last_event_id`, resumes after it.
    pub async fn open(server: &Server, path: &str, last_event_id: Option<&str>) -> Self {
        let mut request = reqwest::Client::new().get(server.url(path)).header("accept", "text/event-stream");
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = within(DEADLINE, "the event stream opens", request.send()).await.unwrap();
        assert_eq!(response.status(), 200);
        let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
        assert!(content_type.starts_with("text/event-stream"), "{content_type}");
        let chunks = response.bytes_stream().map(|chunk| chunk.map(|bytes| bytes.to_vec())).boxed();
        Self { chunks, pending: Vec::new() }
    }

    /// The next event that carries data; comments (keep-alives) are passed over.
    pub async fn next(&mut self) -> Event {
        within(DEADLINE, "the next server-sent event", async {
            loop {
                if let Some(end) = self.pending.windows(2).position(|pair| pair == b"\n\n") {
                    let block: Vec<u8> = self.pending.drain(..end + 2).collect();
                    if let Some(event) = parse(std::str::from_utf8(&block).unwrap()) {
                        return event;
                    }
                    continue;
                }
                let chunk = self.chunks.next().await.expect("the event stream goes on").unwrap();
                self.pending.extend(chunk);
            }
        })
        .await
    }
}

fn parse(block: &str) -> Option<Event> {
    let field = |name: &str| {
        let values = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        values.map(|value| value.strip_prefix(' ').unwrap_or(value)).collect::<Vec<_>>()
    };
    let data = field("data");
    (!data.is_empty()).then(|| Event { id: field("id").concat(), data: data.join("\n") })
}
