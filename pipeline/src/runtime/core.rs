//! The pure part of a task: one record in, effects out.

use std::sync::Arc;

use arrow::array::{AsArray, Int32Array, TimestampMicrosecondArray};
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;

use super::chunks::Scratch;
use super::effects::Effects;
use super::history::{Slice, SliceRequest};
use super::input::Reader;
use super::processor::{At, Input, Processor, ProcessorError, Rows};
use super::snapshot::{StateReader, StateWriter};
use super::stage::StageRows;
use super::tasks::TaskSpec;
use super::versions::Versions;
use super::watermark::PartitionWatermark;
use crate::data::{Control, Decoded, Refused, Tenant, content_type, dead_letter, identity, time};
use crate::log::{StoredRecord, TopicPartition};

/// Name of the runtime's own section in a snapshot.
const SECTION: &str = "runtime";
/// Bumped when the meaning of that section changes.
const SECTION_VERSION: u64 = 1;

/// Name of the section that says which version of the processor wrote the others.
const VERSION_SECTION: &str = "runtime/version";
/// Bumped when the meaning of that section changes.
const VERSION_SECTION_VERSION: u64 = 1;

/// Decodes the records of one input partition, keeps its watermark and steps a [`Processor`]: for each record the version that applies at its offset. A
/// pure function of the records it is given, in order, and of the versions; see [`Processor`] for the contract.
pub struct TaskCore {
    input: TopicPartition,
    reader: Reader,
    versions: Arc<dyn Versions>,
    version: u32,
    processor: Box<dyn Processor>,
    watermark: PartitionWatermark,
    next_offset: i64,
    dead_letters: Arc<str>,
    running: Vec<i64>,
    scratch: Option<Arc<dyn Scratch>>,
}

impl TaskCore {
    /// A task that has read nothing yet and begins at `next_offset`.
    pub fn new(spec: &TaskSpec, next_offset: i64) -> Result<Self, ProcessorError> {
        // What applied to the record before: where another version begins with the next one, the task switches to it there, whether it ran when the
        // definitions changed or starts only now. In front of all records that is the first version there ever was.
        let version = spec.versions.version_at(&spec.input, next_offset - 1);
        Ok(Self {
            input: spec.input.clone(),
            reader: Reader::new(&spec.kind),
            versions: Arc::clone(&spec.versions),
            version,
            processor: spec.versions.make(version, &spec.input)?,
            watermark: PartitionWatermark::default(),
            next_offset,
            dead_letters: Arc::from(dead_letter::TOPIC),
            running: Vec::new(),
            scratch: None,
        })
    }

    /// With a place for state that memory has no room for.
    #[must_use]
    pub fn with_scratch(mut self, scratch: Option<Arc<dyn Scratch>>) -> Self {
        if let Some(scratch) = &scratch {
            self.processor.use_scratch(scratch);
        }
        self.scratch = scratch;
        self
    }

    fn make(&self, version: u32) -> Result<Box<dyn Processor>, ProcessorError> {
        let mut processor = self.versions.make(version, &self.input)?;
        if let Some(scratch) = &self.scratch {
            processor.use_scratch(scratch);
        }
        Ok(processor)
    }

    /// The next input offset to read.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// The version of the processor that stepped the last record.
    pub fn version(&self) -> u32 {
        self.version
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

    /// What the record asks of a table, to be given to [`Self::step_with`].
    pub fn asks(&self, record: &StoredRecord) -> Result<Option<SliceRequest>, ProcessorError> {
        match self.reader {
            Reader::Slices if record.offset >= self.next_offset => SliceRequest::parse(record).map(Some),
            _ => Ok(None),
        }
    }

    /// [`Self::step_with`] for a record that asks for nothing.
    pub fn step(&mut self, record: &StoredRecord, effects: &mut Effects) -> Result<(), ProcessorError> {
        self.step_with(record, None, effects)
    }

    /// Takes one record, with the version of the processor that applies to it: the caller has seen to it that the versions know
    /// ([`Versions::catch_up`]). A record below [`Self::next_offset`] has been taken before and is passed over.
    pub fn step_with(
        &mut self,
        record: &StoredRecord,
        slice: Option<(SliceRequest, Slice)>,
        effects: &mut Effects,
    ) -> Result<(), ProcessorError> {
        if record.offset < self.next_offset {
            return Ok(());
        }
        self.switch_at(record.offset)?;
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
            Reader::Slices => {
                let (request, slice) = slice.ok_or_else(|| {
                    ProcessorError::new("a record asks for stored rows, and there is nowhere to read")
                })?;
                self.processor.process(self.at(record), Input::Slice(&request, &slice), effects)?;
            }
        }
        self.next_offset = record.offset + 1;
        Ok(())
    }

    /// The state as one snapshot file that holds everything; see [`super::snapshot`].
    pub fn snapshot(&mut self, epoch: i32) -> Result<Bytes, ProcessorError> {
        let state = self.state()?;
        state.finish(self.next_offset, epoch).map_err(|e| ProcessorError::caused("the snapshot cannot be written", e))
    }

    /// The state.
    pub fn state(&mut self) -> Result<StateWriter, ProcessorError> {
        let mut writer = StateWriter::new();
        let own = serde_json::to_vec(&self.watermark)
            .map_err(|e| ProcessorError::caused("the watermark cannot be written", e))?;
        writer.put(SECTION, SECTION_VERSION, own);
        writer.put(VERSION_SECTION, VERSION_SECTION_VERSION, self.version.to_le_bytes().to_vec());
        self.barrier(&mut writer)?;
        Ok(writer)
    }

    /// Where another version applies to the record at this offset than to the one before it, its processor takes the state over. What the
    /// two define alike goes on; the rest starts here, or ends.
    fn switch_at(&mut self, offset: i64) -> Result<(), ProcessorError> {
        let version = self.versions.version_at(&self.input, offset);
        if version == self.version {
            return Ok(());
        }
        let mut writer = StateWriter::new();
        self.barrier(&mut writer)?;
        let mut processor = self.make(version)?;
        processor.restore(&writer.into_reader(offset, 0))?;
        let (topic, partition) = (&self.input.topic, self.input.partition);
        tracing::info!(%topic, partition, offset, from = self.version, to = version, "definitions switched");
        (self.processor, self.version) = (processor, version);
        Ok(())
    }

    fn barrier(&mut self, writer: &mut StateWriter) -> Result<(), ProcessorError> {
        let at = At {
            position: self.next_offset,
            append_time_us: 0,
            watermark_us: self.watermark.watermark_us(),
            idle: self.watermark.is_idle(),
        };
        let mut none = Effects::new();
        self.processor.process(at, Input::Barrier(writer), &mut none)?;
        if !none.as_slice().is_empty() {
            return Err(ProcessorError::new("the processor had effects at a barrier"));
        }
        Ok(())
    }

    /// Takes over a snapshot, with the version that wrote it. On a core that has read nothing.
    pub fn restore(&mut self, snapshot: &StateReader) -> Result<(), ProcessorError> {
        let own = snapshot
            .get(SECTION, SECTION_VERSION)
            .ok_or_else(|| ProcessorError::new("the snapshot has no readable section `runtime`"))?;
        self.watermark = serde_json::from_slice(own)
            .map_err(|e| ProcessorError::caused("section `runtime` of the snapshot is unreadable", e))?;
        let version = match snapshot.get(VERSION_SECTION, VERSION_SECTION_VERSION) {
            Some(body) => <[u8; 4]>::try_from(&body[..]).map(u32::from_le_bytes).map_err(|_| {
                ProcessorError::new(format!("section `{VERSION_SECTION}` of the snapshot is not a number of 4 bytes"))
            })?,
            None => self.versions.version_at(&self.input, snapshot.offset()),
        };
        self.processor = self.make(version)?;
        self.version = version;
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
