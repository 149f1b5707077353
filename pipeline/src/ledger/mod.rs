//! The ledger: for every source, received = stored + duplicate + rejected + dead-lettered + in flight.
//!
//! Two sides are counted apart, so that the sum can be wrong:
//! - **the doors** count what they received, refused and were told is durable ([`Doors`]); a bridge keeps its count with its committed
//!   offset. Counts in memory die with the process, so each process reports them to topic `__highwater.ledger` every ten seconds and
//!   at a clean stop.
//! - **the log** is counted: each record of `logs`, `metrics` and `dead-letter` names its source, the run that wrote it and how many
//!   entries it holds ([`Origin`]), so `stored` is a function of the log. Counts up to a cut of offsets are kept in
//!   `__highwater.ledger` too, so that what retention removes stays counted.
//!
//! Both kinds of report are whole for their key and carry a version (a sequence, a cut): the highest wins, so a report that is written
//! twice, or by two processes, changes nothing. What a killed process had not reported is seen in the log: rows that it stored were received.
//! Rows that were acknowledged and are not in the log are a positive balance.
//!
//! [`Ledger::rows`] is the sum, as of the end of the log. Records are drawn in `docs/formats/records.md`.

mod count;
mod doors;
mod keeper;
mod origin;
mod report;
mod state;
#[cfg(test)]
mod tests;

pub use doors::Doors;
pub use keeper::Ledger;
pub use origin::{Origin, Originated};
pub use report::{DoorReport, LedgerEntry};
pub use state::{LedgerRow, LedgerState};

/// The topic of reports.
pub const TOPIC: &str = "__highwater.ledger";
/// Where records of topics come from that name no origin: whoever wrote to the topic itself.
pub const DIRECT: &str = "direct";
