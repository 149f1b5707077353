//! Consumer groups: Kafka's classic protocol over the coordinator's journal.
//!
//! ```text
//! handler ──▶ Groups (one lock) ──▶ GroupMachine: pure ──▶ answers, deadlines, records ──▶ journal ──▶ synced ──▶ Groups
//! ```
//!
//! What holds here:
//! - **What a member was told stays true over a restart.** An assignment and a commit are answered after they are durable; a group that was
//!   stable is stable again after a restart, with the same members and generation.
//! - **No commit of an old generation lands after one of a newer.** A commit is checked, and handed to the journal, under the lock under
//!   which generations change.
//! - **Time is asked of the broker's clock.** Timeouts count the time that passes, so a wall clock that is set throws nobody out.
//!
//! Where to look: [`machine`] what a group does, [`driver`] who calls it and carries out what it wants, [`offsets`] commits, [`admin`] listing
//! and deleting, [`expiry`] what goes with time.

mod admin;
mod driver;
mod error;
mod expiry;
mod machine;
mod offsets;
mod settings;
#[cfg(test)]
mod tests;

pub use admin::{GroupDescription, GroupListing, MemberDescription};
pub use driver::Groups;
pub use error::GroupError;
pub use machine::GroupState;
pub use settings::GroupSettings;

pub(crate) use machine::{JoinRefused, JoinRequest, Joined, Leaver, OffsetDeletion, Protocol, SyncRequest};
pub(crate) use offsets::{CommitRequest, FetchedOffset, OffsetToCommit};
