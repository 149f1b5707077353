//! What readers of committed records see of a transaction, from its first batch to its end.

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};

use super::*;

struct Producer {
    client: Client<TcpStream>,
    id: i64,
    epoch: i16,
    sequence: i32,
}

impl Producer {
    async fn open(door: &Door) -> Self {
        let mut client = door.dial().await;
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(text("tx"))))
            .with_transaction_timeout_ms(60_000);
        let response = client.ask(&request, 4).await;
        assert_eq!(response.error_code, 0);
        Self { client, id: response.producer_id.0, epoch: response.producer_epoch, sequence: 0 }
    }

    async fn add(&mut self) -> i16 {
        let topic = AddPartitionsToTxnTopic::default().with_name(topic_name("t")).with_partitions(vec![0]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(TransactionalId(text("tx")))
            .with_v3_and_below_producer_id(ProducerId(self.id))
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(vec![topic]);
        let response = self.client.ask(&request, 3).await;
        response.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
    }

    /// Error code and base offset.
    async fn write(&mut self, value: &str) -> (i16, i64) {
        let stamp = Stamp {
            producer_id: self.id,
            producer_epoch: self.epoch,
            sequence: self.sequence,
            transactional: true,
            ..Stamp::default()
        };
        let request = produce(&[("t", 0, stamped(&[value], stamp))]);
        let response = self.client.ask(&request.with_transactional_id(Some(TransactionalId(text("tx")))), 9).await;
        let answer = &response.responses[0].partition_responses[0];
        if answer.error_code == 0 {
            self.sequence += 1;
        }
        (answer.error_code, answer.base_offset)
    }

    /// Ends the transaction and waits for its marker.
    async fn end(&mut self, door: &Door, commit: bool, marker: i64) {
        let request = EndTxnRequest::default()
            .with_transactional_id(TransactionalId(text("tx")))
            .with_producer_id(ProducerId(self.id))
            .with_producer_epoch(self.epoch)
            .with_committed(commit);
        assert_eq!(self.client.ask(&request, 3).await.error_code, 0);
        let mut ends = door.broker.watch("t", 0).unwrap();
        let written = ends.wait_for(|ends| ends.last_stable_offset > marker);
        tokio::time::timeout(Duration::from_secs(10), written).await.unwrap().unwrap();
    }
}

async fn read(client: &mut Client<TcpStream>, committed: bool, offset: i64, max_wait_ms: i32) -> PartitionData {
    let request = fetching::fetch(&[("t", 0, offset)], 1, max_wait_ms).with_isolation_level(i8::from(committed));
    client.ask(&request, 12).await.responses.remove(0).partitions.remove(0)
}

async fn end(client: &mut Client<TcpStream>, committed: bool) -> i64 {
    let partition = ListOffsetsPartition::default().with_timestamp(-1);
    let topic = ListOffsetsTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_isolation_level(i8::from(committed)).with_topics(vec![topic]);
    client.ask(&request, 5).await.topics[0].partitions[0].offset
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_committed_records_wait_for_the_end_and_are_told_what_was_aborted() {
    let door = Door::open().await;
    door.topic("t", 1).await;
    let mut producer = Producer::open(&door).await;
    let mut reader = door.dial().await;
    let refused = producer.write("too early").await;
    assert_eq!(refused, (48, -1), "INVALID_TXN_STATE: the partition is in no transaction");

    assert_eq!(producer.add().await, 0);
    assert_eq!(producer.write("given up").await, (0, 0));
    let open = read(&mut reader, true, 0, 50).await;
    assert_eq!((open.error_code, open.high_watermark, open.last_stable_offset), (0, 1, 0));
    assert_eq!((open.records.map(|r| r.len()), open.aborted_transactions), (Some(0), Some(Vec::new())));
    let open = read(&mut reader, false, 0, 50).await;
    assert_eq!(values(open.records.unwrap()), [(0, "given up".to_owned())]);
    assert_eq!((end(&mut reader, true).await, end(&mut reader, false).await), (0, 1));

    producer.end(&door, false, 1).await;
    assert_eq!(producer.add().await, 0);
    assert_eq!(producer.write("kept").await, (0, 2));
    // The reader waits for a transaction that is open, and is woken by its end.
    let request = fetching::fetch(&[("t", 0, 2)], 1, 60_000).with_isolation_level(1);
    reader.post(&request, 12).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    producer.end(&door, true, 3).await;
    let waited = reader.answer::<FetchRequest>(reader.correlation, 12);
    let waited = tokio::time::timeout(Duration::from_secs(10), waited).await.unwrap();
    assert_eq!(waited.responses[0].partitions[0].last_stable_offset, 4);

    let all = read(&mut reader, true, 0, 50).await;
    let aborted: Vec<_> = all.aborted_transactions.unwrap().iter().map(|a| (a.producer_id.0, a.first_offset)).collect();
    assert_eq!(aborted, [(producer.id, 0)]);
    let sets = RecordBatchDecoder::decode_all(&mut all.records.unwrap()).unwrap();
    let records: Vec<_> =
        sets.iter().flat_map(|set| &set.records).map(|r| (r.offset, r.control, r.transactional)).collect();
    assert_eq!(records, [(0, false, true), (1, true, true), (2, false, true), (3, true, true)]);
    assert_eq!((end(&mut reader, true).await, end(&mut reader, false).await), (4, 4));
}
