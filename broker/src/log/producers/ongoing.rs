//! What the log asks the transaction coordinator.

/// A view of which partitions are in which transaction, shared with the writers of the log.
///
/// It is asked right before a transactional batch is written, by the thread that writes it and also writes the markers. So no batch
/// lands in a partition after its transaction has ended there: it would stay open for ever, and hold readers up.
pub(crate) trait OngoingTransactions: Send + Sync {
    /// True where this partition was added to the transaction that this producer has open under this epoch.
    fn is_open(&self, producer_id: i64, epoch: i16, topic: &str, partition: i32) -> bool;

    /// The epoch under which this producer id is held now, where it is known.
    fn current_epoch(&self, producer_id: i64) -> Option<i16>;
}
