//! Log files of container runtimes: what a program wrote lies in an envelope, one per line or per piece of a long one.
//!
//! ```text
//! CRI (containerd, CRI-O):  2016-10-06T00:17:09.669794202Z stdout F the line
//! Docker's json-file:       {"log":"the line\n","stream":"stdout","time":"2016-10-06T00:17:09.669794202Z"}
//! ```
//! Long lines come in pieces: CRI marks them `P` and the last `F`, Docker's last one ends with a newline. They are joined, but where a line of the other
//! stream comes between: then what came so far is a line, so that positions in the file stay in order.

use std::borrow::Cow;

use serde::Deserialize;

use super::multiline::Event;
use crate::data::time;

/// What a file's lines are wrapped in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wrapping {
    /// CRI's or Docker's envelope where a line has one, none where it has not.
    #[default]
    Auto,
    /// Nothing: lines are what programs wrote.
    Plain,
    /// CRI's. A line without is taken as it is.
    Cri,
    /// Docker's. A line without is taken as it is.
    Docker,
}

/// Which of a program's streams a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    fn named(name: &str) -> Option<Self> {
        match name {
            "stdout" => Some(Self::Stdout),
            "stderr" => Some(Self::Stderr),
            _ => None,
        }
    }
}

/// What an envelope says of what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Envelope {
    /// When the runtime read the line, Unix microseconds.
    pub(crate) stamp_us: Option<i64>,
    /// From where.
    pub(crate) stream: Option<Stream>,
}

/// Takes lines of one file out of their envelopes.
#[derive(Debug)]
pub(crate) struct Unwrapper {
    wrapping: Wrapping,
    limit_bytes: usize,
    /// A line of which pieces have come.
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Pending {
    text: String,
    envelope: Envelope,
    end: u64,
    cut_size_bytes: u64,
    last_ms: i64,
}

/// What is in an envelope.
struct Inner<'a> {
    text: Cow<'a, str>,
    envelope: Envelope,
    /// More of the line comes.
    partial: bool,
}

impl Unwrapper {
    /// Joined pieces have at most `limit_bytes`; the rest is cut.
    pub(crate) fn new(wrapping: Wrapping, limit_bytes: usize) -> Self {
        Self { wrapping, limit_bytes, pending: None }
    }

    /// Takes a line and hands out the lines it completes.
    pub(crate) fn push(&mut self, line: Event<'_>, now_ms: i64, mut each: impl FnMut(Event<'_>)) {
        let Some(inner) = self.open(line.text) else {
            self.flush(&mut each);
            return each(line);
        };
        if self.pending.as_ref().is_some_and(|pending| pending.envelope.stream != inner.envelope.stream) {
            self.flush(&mut each);
        }
        if !inner.partial && self.pending.is_none() {
            return each(Event { text: &inner.text, envelope: inner.envelope, ..line });
        }
        let pending = self.pending.get_or_insert_with(|| Pending {
            text: String::new(),
            envelope: inner.envelope,
            end: 0,
            cut_size_bytes: 0,
            last_ms: now_ms,
        });
        let room = inner.text.floor_char_boundary(self.limit_bytes.saturating_sub(pending.text.len()));
        pending.text.push_str(&inner.text[..room]);
        pending.cut_size_bytes += (inner.text.len() - room) as u64 + line.cut_size_bytes;
        (pending.end, pending.last_ms) = (line.end, now_ms);
        if !inner.partial {
            self.flush(each);
        }
    }

    /// Hands out a line that waits for more pieces.
    pub(crate) fn flush(&mut self, mut each: impl FnMut(Event<'_>)) {
        if let Some(Pending { text, envelope, end, cut_size_bytes, .. }) = self.pending.take() {
            each(Event { text: &text, end, cut_size_bytes, envelope });
        }
    }

    /// The same, where no piece has come for so long.
    pub(crate) fn flush_due(&mut self, wait_ms: i64, now_ms: i64, each: impl FnMut(Event<'_>)) {
        let is_due = |pending: &Pending| !(pending.last_ms..pending.last_ms.saturating_add(wait_ms)).contains(&now_ms);
        if self.pending.as_ref().is_some_and(is_due) {
            self.flush(each);
        }
    }

    fn open<'a>(&self, line: &'a str) -> Option<Inner<'a>> {
        match self.wrapping {
            Wrapping::Plain => None,
            Wrapping::Cri => cri(line),
            Wrapping::Docker => docker(line),
            Wrapping::Auto if line.starts_with('{') => docker(line),
            Wrapping::Auto => cri(line),
        }
    }
}

fn cri(line: &str) -> Option<Inner<'_>> {
    // A time begins with its year: most lines that are none are told by their first byte.
    if !line.as_bytes().first()?.is_ascii_digit() {
        return None;
    }
    let (stamp, rest) = line.split_once(' ')?;
    let (stream, rest) = rest.split_once(' ')?;
    let stream = Stream::named(stream)?;
    let (tags, text) = rest.split_once(' ').unwrap_or((rest, ""));
    // Tags stand between colons; the first says whether the line is whole.
    let partial = match tags.split(':').next()? {
        "P" => true,
        "F" => false,
        _ => return None,
    };
    let stamp_us = Some(time::parse(stamp)?);
    Some(Inner { text: Cow::Borrowed(text), envelope: Envelope { stamp_us, stream: Some(stream) }, partial })
}

/// What Docker writes of a line.
#[derive(Deserialize)]
struct DockerLine<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

fn docker(line: &str) -> Option<Inner<'_>> {
    // Its members come in this order; other objects are a program's own.
    if !line.starts_with("{\"log\":\"") {
        return None;
    }
    let read: DockerLine<'_> = serde_json::from_str(line).ok()?;
    let stream = Stream::named(&read.stream);
    let stamp_us = Some(time::parse(&read.time)?);
    let partial = !read.log.ends_with('\n');
    let whole = read.log.trim_end_matches(['\n', '\r']).len();
    let text = match read.log {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..whole]),
        Cow::Owned(mut text) => {
            text.truncate(whole);
            Cow::Owned(text)
        }
    };
    Some(Inner { text, envelope: Envelope { stamp_us, stream }, partial })
}

/// What the path of a container's log says of it, as OpenTelemetry names it.
///
/// ```text
/// /var/log/pods/<namespace>_<pod>_<uid>/<container>/<restarts>.log
/// /var/log/containers/<pod>_<namespace>_<container>-<id>.log
/// /var/lib/docker/containers/<id>/<id>-json.log
/// ```
pub(crate) fn attributes_of(path: &str) -> Vec<(&'static str, &str)> {
    let parts: Vec<&str> = path.rsplit('/').take(4).collect();
    match *parts.as_slice() {
        [_, container, pod, "pods"] => {
            let mut pieces = pod.splitn(3, '_');
            match (pieces.next(), pieces.next(), pieces.next()) {
                (Some(namespace), Some(name), Some(uid)) => vec![
                    ("k8s.namespace.name", namespace),
                    ("k8s.pod.name", name),
                    ("k8s.pod.uid", uid),
                    ("k8s.container.name", container),
                ],
                _ => Vec::new(),
            }
        }
        [file, "containers", ..] => {
            let mut pieces = file.strip_suffix(".log").unwrap_or(file).splitn(3, '_');
            let named = (pieces.next(), pieces.next(), pieces.next().and_then(|rest| rest.rsplit_once('-')));
            match named {
                (Some(pod), Some(namespace), Some((container, id))) => vec![
                    ("k8s.namespace.name", namespace),
                    ("k8s.pod.name", pod),
                    ("k8s.container.name", container),
                    ("container.id", id),
                ],
                _ => Vec::new(),
            }
        }
        [file, id, "containers", ..] if file.strip_suffix("-json.log") == Some(id) => vec![("container.id", id)],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines through the unwrapper: text, stream, microseconds of the stamp, offset behind it.
    fn run(wrapping: Wrapping, lines: &[&str]) -> Vec<(String, &'static str, Option<i64>, u64)> {
        let mut unwrapper = Unwrapper::new(wrapping, 20);
        let mut out = Vec::new();
        let mut each = |event: Event<'_>| {
            let stream = event.envelope.stream.map_or("", Stream::name);
            out.push((event.text.to_owned(), stream, event.envelope.stamp_us, event.end));
        };
        for (at, text) in lines.iter().enumerate() {
            let line = Event { text, end: at as u64 + 1, cut_size_bytes: 0, envelope: Envelope::default() };
            unwrapper.push(line, 0, &mut each);
        }
        unwrapper.flush(&mut each);
        out
    }

    const STAMP_US: i64 = 1_475_713_029_669_794;

    #[test]
    fn cri_lines_are_taken_out_and_joined() {
        let lines = [
            "2016-10-06T00:17:09.669794202Z stdout F whole",
            "2016-10-06T00:17:09.669794202Z stdout P first ",
            "2016-10-06T00:17:09.669794202Z stdout F second",
            "2016-10-06T00:17:09.669794202Z stderr F:tag  indented",
            "2016-10-06T00:17:09.669794202Z stderr F ",
            "2016-10-06T00:17:09.669794202+02:00 stdout F zone",
            "2016-10-06 stdout",
        ];
        let zone_us = STAMP_US - 7_200_000_000;
        assert_eq!(
            run(Wrapping::Auto, &lines),
            [
                ("whole".to_owned(), "stdout", Some(STAMP_US), 1),
                ("first second".to_owned(), "stdout", Some(STAMP_US), 3),
                (" indented".to_owned(), "stderr", Some(STAMP_US), 4),
                (String::new(), "stderr", Some(STAMP_US), 5),
                ("zone".to_owned(), "stdout", Some(zone_us), 6),
                ("2016-10-06 stdout".to_owned(), "", None, 7),
            ]
        );
        assert_eq!(run(Wrapping::Plain, &lines[..1])[0].0, lines[0]);
    }

    #[test]
    fn docker_lines_are_taken_out_and_joined() {
        let lines = [
            r#"{"log":"a \"quoted\" line\n","stream":"stdout","time":"2016-10-06T00:17:09.669794202Z"}"#,
            r#"{"log":"first ","stream":"stderr","time":"2016-10-06T00:17:09.669794202Z"}"#,
            r#"{"log":"second\r\n","stream":"stderr","time":"2016-10-06T00:17:09.669794202Z"}"#,
            r#"{"log":"of the program","level":"info"}"#,
        ];
        assert_eq!(
            run(Wrapping::Auto, &lines),
            [
                ("a \"quoted\" line".to_owned(), "stdout", Some(STAMP_US), 1),
                ("first second".to_owned(), "stderr", Some(STAMP_US), 3),
                (lines[3].to_owned(), "", None, 4),
            ]
        );
    }

    #[test]
    fn pieces_keep_their_order_in_the_file_and_the_cap() {
        let stdout = "2016-10-06T00:17:09.669794202Z stdout P half";
        let stderr = "2016-10-06T00:17:09.669794202Z stderr F other";
        let texts = |lines: &[&str]| {
            run(Wrapping::Cri, lines).into_iter().map(|(text, _, _, end)| (text, end)).collect::<Vec<_>>()
        };
        assert_eq!(texts(&[stdout, stderr]), [("half".to_owned(), 1), ("other".to_owned(), 2)]);
        let long = "2016-10-06T00:17:09.669794202Z stdout P 0123456789ü23";
        assert_eq!(texts(&[long, long])[0].0, "0123456789ü2301234".to_owned() + "5");
        let mut unwrapper = Unwrapper::new(Wrapping::Cri, 20);
        let line = Event { text: stdout, end: 9, cut_size_bytes: 0, envelope: Envelope::default() };
        unwrapper.push(line, 1_000, |_| unreachable!("it is half a line"));
        unwrapper.flush_due(5_000, 5_999, |_| unreachable!("it is not due"));
        let mut flushed = Vec::new();
        unwrapper.flush_due(5_000, 6_000, |event| flushed.push(event.text.to_owned()));
        assert_eq!(flushed, ["half"]);
    }

    #[test]
    fn paths_name_pods_and_containers() {
        assert_eq!(
            attributes_of("/var/log/pods/shop_web-5d8_1234-uid/nginx/0.log"),
            [
                ("k8s.namespace.name", "shop"),
                ("k8s.pod.name", "web-5d8"),
                ("k8s.pod.uid", "1234-uid"),
                ("k8s.container.name", "nginx")
            ]
        );
        assert_eq!(
            attributes_of("/var/log/containers/web-5d8_shop_side-car-0123abcd.log"),
            [
                ("k8s.namespace.name", "shop"),
                ("k8s.pod.name", "web-5d8"),
                ("k8s.container.name", "side-car"),
                ("container.id", "0123abcd")
            ]
        );
        assert_eq!(attributes_of("/var/lib/docker/containers/ab12/ab12-json.log"), [("container.id", "ab12")]);
        assert_eq!(attributes_of("/var/log/nginx/access.log"), []);
        assert_eq!(attributes_of("app.log"), []);
    }
}
