//! Which processor a task runs at which offset.

use std::sync::Arc;

use async_trait::async_trait;

use super::processor::{Processor, ProcessorError};
use super::tasks::ProcessorFactory;
use crate::definitions::{Definitions, DefinitionsError, Version};
use crate::log::TopicPartition;

/// The versions of a task's processor.
///
/// A task fetches records, calls [`Versions::catch_up`], and steps the records: for each it asks which version applies, and where that is
/// another one than before, hands its state over ([`super::TaskCore::step`]). A number always means the same definitions, so a snapshot can name the one that wrote it.
#[async_trait]
pub trait Versions: Send + Sync + 'static {
    /// Returns once every version is known that can apply to a record which could be read before this was called.
    async fn catch_up(&self) -> Result<(), DefinitionsError>;

    /// The version that applies to the record at this offset of the task's input.
    fn version_at(&self, input: &TopicPartition, offset: i64) -> u32;

    /// A processor of this version with no state.
    fn make(&self, version: u32, input: &TopicPartition) -> Result<Box<dyn Processor>, ProcessorError>;
}

/// One version for ever, number 0.
pub struct OneVersion(pub ProcessorFactory);

#[async_trait]
impl Versions for OneVersion {
    async fn catch_up(&self) -> Result<(), DefinitionsError> {
        Ok(())
    }

    fn version_at(&self, _input: &TopicPartition, _offset: i64) -> u32 {
        0
    }

    fn make(&self, _version: u32, _input: &TopicPartition) -> Result<Box<dyn Processor>, ProcessorError> {
        (self.0)()
    }
}

/// Makes the processor of a task from a version of the definitions.
pub type VersionedFactory =
    Arc<dyn Fn(&Version, &TopicPartition) -> Result<Box<dyn Processor>, ProcessorError> + Send + Sync>;

/// The versions in the log's config topic.
pub struct RecordedVersions {
    definitions: Arc<Definitions>,
    make: VersionedFactory,
}

impl RecordedVersions {
    /// Those of these definitions, as `make` understands them.
    pub fn new(definitions: Arc<Definitions>, make: VersionedFactory) -> Self {
        Self { definitions, make }
    }
}

#[async_trait]
impl Versions for RecordedVersions {
    async fn catch_up(&self) -> Result<(), DefinitionsError> {
        self.definitions.catch_up().await
    }

    fn version_at(&self, input: &TopicPartition, offset: i64) -> u32 {
        self.definitions.version_at(input, offset).map_or(0, |version| version.number)
    }

    fn make(&self, version: u32, input: &TopicPartition) -> Result<Box<dyn Processor>, ProcessorError> {
        let found = self.definitions.version(version).ok_or_else(|| {
            ProcessorError::new(format!("the log has no definitions of version {version}; were they ever written?"))
        })?;
        (self.make)(&found, input)
    }
}
