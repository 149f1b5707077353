//! Bytes to lines.
//!
//! A line ends at a newline; carriage returns before it are not part of it. What lies beyond the size cap is not kept
//! while the rest of the line goes by, so memory is bounded by the cap whatever is read.

use memchr::memchr;

/// Cuts chunks of a byte stream into lines, however the stream is chunked.
#[derive(Debug)]
pub(crate) struct LineSplitter {
    limit_bytes: usize,
    /// Stream offset of the next byte to come.
    offset: u64,
    /// The unfinished line, up to the cap.
    kept: Vec<u8>,
    /// How many of its bytes came after the cap was reached.
    beyond: u64,
    /// How many of those, counted from the last, are carriage returns.
    beyond_returns: u64,
    /// A line has begun, be it only with carriage returns.
    begun: bool,
}

/// One line, without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// Its bytes, up to the cap.
    pub(crate) bytes: &'a [u8],
    /// Stream offset behind its end.
    pub(crate) end: u64,
    /// Bytes cut off at the cap.
    pub(crate) cut_size_bytes: u64,
}

impl LineSplitter {
    /// A splitter for a stream that is read from `offset` on.
    pub(crate) fn new(limit_bytes: usize, offset: u64) -> Self {
        Self { limit_bytes, offset, kept: Vec::new(), beyond: 0, beyond_returns: 0, begun: false }
    }

    /// Takes the next bytes of the stream and hands out each line they complete.
    pub(crate) fn push(&mut self, mut chunk: &[u8], mut each: impl FnMut(Line<'_>)) {
        while let Some(at) = memchr(b'\n', chunk) {
            let (head, rest) = (&chunk[..at], &chunk[at + 1..]);
            chunk = rest;
            if self.begun {
                self.keep(head);
                self.offset += 1;
                self.hand_out(&mut each);
            } else {
                self.offset += at as u64 + 1;
                let line = without_returns(head);
                let bytes = line.get(..self.limit_bytes).unwrap_or(line);
                each(Line { bytes, end: self.offset, cut_size_bytes: (line.len() - bytes.len()) as u64 });
            }
        }
        if !chunk.is_empty() {
            self.keep(chunk);
        }
    }

    /// Hands out the line that has no newline (yet), if any bytes of it have come.
    pub(crate) fn finish(&mut self, mut each: impl FnMut(Line<'_>)) {
        if self.begun {
            self.hand_out(&mut each);
        }
    }

    /// The most that is kept of a line.
    pub(crate) fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// Whether a line has begun and not ended.
    pub(crate) fn has_partial(&self) -> bool {
        self.begun
    }

    /// Stream offset of the next byte to come.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Stream offset of the line that has begun, or of the next one.
    pub(crate) fn line_start(&self) -> u64 {
        self.offset - self.kept.len() as u64 - self.beyond
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.begun = true;
        self.offset += bytes.len() as u64;
        let room = self.limit_bytes - self.kept.len();
        let (kept, beyond) = bytes.split_at(room.min(bytes.len()));
        self.kept.extend_from_slice(kept);
        let returns = (beyond.len() - without_returns(beyond).len()) as u64;
        let all_returns = returns == beyond.len() as u64;
        self.beyond += beyond.len() as u64;
        self.beyond_returns = if all_returns { self.beyond_returns + returns } else { returns };
    }

    fn hand_out(&mut self, each: &mut impl FnMut(Line<'_>)) {
        let cut_size_bytes = self.beyond - self.beyond_returns;
        let bytes = if cut_size_bytes == 0 { without_returns(&self.kept) } else { &self.kept };
        each(Line { bytes, end: self.offset, cut_size_bytes });
        self.kept.clear();
        // One long line must not hold its memory for the life of the agent.
        self.kept.shrink_to(64 << 10);
        (self.beyond, self.beyond_returns, self.begun) = (0, 0, false);
    }
}

fn without_returns(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte != b'\r').map_or(0, |last| last + 1);
    &bytes[..end]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    struct Owned(Vec<u8>, u64, u64);

    fn split(chunks: &[&[u8]], limit_bytes: usize) -> Vec<Owned> {
        let mut lines = Vec::new();
        let mut splitter = LineSplitter::new(limit_bytes, 0);
        let mut each = |line: Line<'_>| lines.push(Owned(line.bytes.to_vec(), line.end, line.cut_size_bytes));
        for chunk in chunks {
            splitter.push(chunk, &mut each);
        }
        splitter.finish(&mut each);
        assert!(!splitter.has_partial());
        lines
    }

    /// The model: the whole stream at once, by the definition.
    fn model(stream: &[u8], limit_bytes: usize) -> Vec<Owned> {
        let mut end = 0;
        let pieces = stream.split_inclusive(|byte| *byte == b'\n');
        pieces
            .map(|piece| {
                end += piece.len() as u64;
                let line = piece.strip_suffix(b"\n").unwrap_or(piece);
                let mut line = line.to_vec();
                while line.last() == Some(&b'\r') {
                    line.pop();
                }
                let cut = line.len().saturating_sub(limit_bytes);
                line.truncate(limit_bytes);
                Owned(line, end, cut as u64)
            })
            .collect()
    }

    #[test]
    fn ends_of_all_kinds() {
        let lines = split(&[b"a\nb\r\nc\r\r\n\n\r\nlast"], 10);
        let texts: Vec<&[u8]> = lines.iter().map(|line| &line.0[..]).collect();
        assert_eq!(texts, [&b"a"[..], b"b", b"c", b"", b"", b"last"]);
        assert_eq!(lines.iter().map(|line| line.1).collect::<Vec<_>>(), [2, 5, 9, 10, 12, 16]);
    }

    #[test]
    fn a_line_of_100_mb_costs_no_more_memory_than_the_cap() {
        let mut splitter = LineSplitter::new(1000, 0);
        let chunk = vec![b'x'; 1 << 20];
        for _ in 0..100 {
            splitter.push(&chunk, |_| unreachable!("no line has ended"));
        }
        assert!(splitter.kept.capacity() <= 2000, "{}", splitter.kept.capacity());
        let mut seen = Vec::new();
        splitter.push(b"\nnext\n", |line| seen.push((line.bytes.len(), line.cut_size_bytes, line.end)));
        assert_eq!(seen, [(1000, (100 << 20) - 1000, (100 << 20) + 1), (4, 0, (100 << 20) + 6)]);
    }

    proptest! {
        #[test]
        fn equals_the_model_however_it_is_chunked(
            bytes in prop::collection::vec(prop::sample::select(&b"\n\n\r\rab\xff "[..]), 0..200),
            cuts in prop::collection::vec(0usize..200, 0..12),
            limit_bytes in 1usize..12,
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in cuts {
                chunks.push(&bytes[from..cut]);
                from = cut;
            }
            chunks.push(&bytes[from..]);
            prop_assert_eq!(split(&chunks, limit_bytes), model(&bytes, limit_bytes));
        }
    }
}
