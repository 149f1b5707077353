//! The pure part of a task: one record in, effects out.

use std::sync::Arc;

use arrow::array::{AsArray, Int32Array, TimestampMicrosecondArray};
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;

use super::effects::Effects;
use super::input::{InputKind, Reader};
use super::processor::{At, Input, Processor, ProcessorError, Rows};
use super::snapshot::{StateReader, StateWriter};
use super::stage::StageRows;
use super::watermark::PartitionWatermark;
use crate::data::{Control, Decoded, Refused, Tenant, content_type, dead_letter, identity, time};
use crate::log::{StoredRecord, TopicPartition};

/// Name of the runtime's own section in a snapshot.
const SECTION: &str = "runtime";
/// Bumped when the meaning of that section changes.
const SECTION_VERSION: u64 = 1;

/// Decodes the records of one input partition, keeps its watermark and steps a [`Processor`]. A pure function of the
/// records it is given, in order; see [`Processor`] for the contract.
pub struct TaskCore {
    input: TopicPartition,
    reader: Reader,
    processor: Box<dyn Processor>,
    watermark: PartitionWatermark,
    next_offset: i64,
    dead_letters: Arc<str>,
    running: Vec<i64>,
}

impl TaskCore {
    /// A task that has read nothing yet and begins at `next_offset`.
    pub fn new(input: TopicPartition, kind: &InputKind, processor: Box<dyn Processor>, next_offset: i64) -> Self {
        Self {
            input,
            reader: Reader::new(kind),
            processor,
            watermark: PartitionWatermark::default(),
            next_offset,
            dead_letters: Arc::from(dead_letter::TOPIC),
            running: Vec::new(),
        }
    }

    /// The next input offset to read.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// The input partition's watermark. Stays empty on stage topics.
    pub fn watermark(&self) -> &PartitionWatermark {
        &self.watermark
    }

    /// How far event time has come here: the partition's watermark, or the one merged from the sources of a stage.
    pub fn watermark_us(&self) -> Option<i64> {
        self.processor.merged_watermark_us().or(self.watermark.watermark_us())
    }

    /// Goes on behind a gap in the log, or behind offsets that hold no record.
    pub fn skip_to(&mut self, offset: i64) {
        self.next_offset = self.next_offset.max(offset);
    }

    /// Takes one record. A record below [`Self::next_offset`] has been taken before and is passed over.
    pub fn step(&mut self, record: &StoredRecord, effects: &mut Effects) -> Result<(), ProcessorError> {
        if record.offset < self.next_offset {
            return Ok(());
        }
        effects.begin(record.offset);
        match &self.reader {
            Reader::Table(decoder) => match decoder.decode(self.input.partition, record) {
                Decoded::Rows { batch, refused } => {
                    self.rows(record, &batch, effects)?;
                    self.dead_letters(record, &refused, effects);
                }
                Decoded::Control(control) => self.control(record, &control, effects)?,
                Decoded::Undecodable(refused) => self.dead_letters(record, &[refused], effects),
            },
            Reader::Stage => self.stage(record, effects)?,
        }
        self.next_offset = record.offset + 1;
        Ok(())
    }

    /// The state as a snapshot file; see [`super::snapshot`].
    pub fn snapshot(&mut self, epoch: i32) -> Result<Bytes, ProcessorError> {
        let mut writer = StateWriter::new();
        let own = serde_json::to_vec(&self.watermark)
            .map_err(|e| ProcessorError::caused("the watermark cannot be written", e))?;
        writer.put(SECTION, SECTION_VERSION, own);
        let at = At {
            position: self.next_offset,
            append_time_us: 0,
            watermark_us: self.watermark.watermark_us(),
            idle: self.watermark.is_idle(),
        };
        let mut none = Effects::new();
        self.processor.process(at, Input::Barrier(&mut writer), &mut none)?;
        if !none.as_slice().is_empty() {
            return Err(ProcessorError::new("the processor had effects at a barrier"));
        }
        writer.finish(self.next_offset, epoch).map_err(|e| ProcessorError::caused("the snapshot cannot be written", e))
    }

    /// Takes over a snapshot. On a core that has read nothing.
    pub fn restore(&mut self, snapshot: &StateReader) -> Result<(), ProcessorError> {
        let own = snapshot
            .get(SECTION, SECTION_VERSION)
            .ok_or_else(|| ProcessorError::new("the snapshot has no readable section `runtime`"))?;
        self.watermark = serde_json::from_slice(own)
            .map_err(|e| ProcessorError::caused("section `runtime` of the snapshot is unreadable", e))?;
        self.processor.restore(snapshot)?;
        self.next_offset = snapshot.offset();
        Ok(())
    }

    fn rows(
        &mut self,
        record: &StoredRecord,
        batch: &RecordBatch,
        effects: &mut Effects,
    ) -> Result<(), ProcessorError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let times = times(batch)?;
        let flags = flags(batch)?;
        let mut running = std::mem::take(&mut self.running);
        let append_time_us = record.timestamp_ms.saturating_mul(1_000);
        self.watermark.observe_rows(record.offset, append_time_us, times, flags, &mut running);
        let rows = Rows { batch, watermarks_us: &running };
        let result = self.processor.process(self.at(record), Input::Rows(rows), effects);
        self.running = running;
        result
    }

    fn control(
        &mut self,
        record: &StoredRecord,
        control: &Control,
        effects: &mut Effects,
    ) -> Result<(), ProcessorError> {
        if let Control::Clock { base_offset, event_time_us, idle } = control {
            let append_time_us = record.timestamp_ms.saturating_mul(1_000);
            if !self.watermark.observe_clock(append_time_us, *base_offset, *event_time_us, *idle) {
                return Ok(());
            }
        }
        self.processor.process(self.at(record), Input::Control(control), effects)
    }

    fn stage(&mut self, record: &StoredRecord, effects: &mut Effects) -> Result<(), ProcessorError> {
        if content_type::of(record) == Some(content_type::CONTROL) {
            let value = record.value.as_deref().unwrap_or_default();
            let control = Control::parse(value).map_err(|reason| {
                ProcessorError::new(format!("control record at offset {} is unreadable: {reason}", record.offset))
            })?;
            return self.control(record, &control, effects);
        }
        let rows = StageRows::parse(record)?;
        self.processor.process(self.at(record), Input::Stage(rows), effects)
    }

    fn dead_letters(&self, record: &StoredRecord, refused: &[Refused], effects: &mut Effects) {
        let tenant =
            record.header(dead_letter::TENANT).and_then(|t| std::str::from_utf8(t).ok()).unwrap_or(Tenant::DEFAULT);
        for refused in refused {
            metrics::counter!("highwater_task_dead_letters_total", "topic" => self.input.topic.to_string())
                .increment(1);
            let letter = dead_letter::record(refused, &self.input.topic, self.input.partition, record.offset, tenant);
            effects.push(&self.dead_letters, 0, letter);
        }
    }

    fn at(&self, record: &StoredRecord) -> At {
        At {
            position: record.offset,
            append_time_us: record.timestamp_ms.saturating_mul(1_000),
            watermark_us: self.watermark.watermark_us(),
            idle: self.watermark.is_idle(),
        }
    }
}

fn times(batch: &RecordBatch) -> Result<&TimestampMicrosecondArray, ProcessorError> {
    let column = batch.column_by_name(time::COLUMN).and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
    column.ok_or_else(|| missing(batch, time::COLUMN))
}

fn flags(batch: &RecordBatch) -> Result<&Int32Array, ProcessorError> {
    let column = batch.column_by_name(identity::FLAGS).and_then(|c| c.as_primitive_opt::<Int32Type>());
    column.ok_or_else(|| missing(batch, identity::FLAGS))
}

fn missing(batch: &RecordBatch, column: &str) -> ProcessorError {
    let names: Vec<_> = batch.schema_ref().fields().iter().map(|f| f.name().as_str()).collect();
    ProcessorError::new(format!(
        "decoded rows have no column {column} of the right type; they have {}",
        names.join(", ")
    ))
}
