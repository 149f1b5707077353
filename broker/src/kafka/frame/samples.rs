//! A good request of every API and version that is served, with something in every list, for tests: as `kafka-protocol` encodes it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use uuid::Uuid;

use crate::kafka::apis::Api;

/// The correlation id of every sample.
pub(in crate::kafka) const CORRELATION: i32 = 77;

/// A request and how its answer is read.
#[derive(Clone)]
pub(in crate::kafka) struct Sample {
    pub(in crate::kafka) key: i16,
    pub(in crate::kafka) version: i16,
    /// Without its size.
    pub(in crate::kafka) frame: Bytes,
    /// Decodes an answer of this version to its last byte, and says whose it is.
    pub(in crate::kafka) decode_answer: fn(Bytes, i16) -> i32,
}

/// One per API and version.
pub(in crate::kafka) fn samples() -> &'static [Sample] {
    static SAMPLES: LazyLock<Vec<Sample>> = LazyLock::new(|| {
        let mut all = Samples(Vec::new());
        all.records();
        all.groups();
        all.transactions();
        all.admin();
        all.sessions();
        all.0
    });
    &SAMPLES
}

struct Samples(Vec<Sample>);

fn decode_answer<R: Request>(mut answer: Bytes, version: i16) -> i32 {
    let header = ResponseHeader::decode(&mut answer, R::Response::header_version(version)).unwrap();
    R::Response::decode(&mut answer, version).unwrap();
    assert!(answer.is_empty(), "{} bytes behind the answer", answer.len());
    header.correlation_id
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn topic() -> TopicName {
    TopicName(text("topic"))
}

fn group() -> GroupId {
    GroupId(text("group"))
}

impl Samples {
    /// A request in every served version, made by version, because `kafka-protocol` refuses to leave out what is set.
    fn add<R: Request>(&mut self, make: impl Fn(i16) -> R) {
        // An API that nobody serves yet has no versions to be tested.
        let Some(api) = Api::of(R::KEY) else { return };
        for version in api.versions.clone() {
            let header = RequestHeader::default()
                .with_request_api_key(R::KEY)
                .with_request_api_version(version)
                .with_correlation_id(CORRELATION)
                .with_client_id(Some(text("sample")));
            let mut frame = BytesMut::new();
            header.encode(&mut frame, R::header_version(version)).unwrap();
            make(version)
                .encode(&mut frame, version)
                .unwrap_or_else(|e| panic!("{:?} version {version}: {e}", api.key));
            let frame = frame.freeze();
            self.0.push(Sample { key: R::KEY, version, frame, decode_answer: decode_answer::<R> });
        }
    }

    fn records(&mut self) {
        self.add(|_| {
            let partition = produce_request::PartitionProduceData::default()
                .with_index(3)
                .with_records(Some(Bytes::from_static(b"not a batch")));
            let data =
                produce_request::TopicProduceData::default().with_name(topic()).with_partition_data(vec![partition]);
            ProduceRequest::default()
                .with_transactional_id(Some(TransactionalId(text("t"))))
                .with_acks(-1)
                .with_topic_data(vec![data.clone(), data])
        });
        self.add(|version| {
            let partition = fetch_request::FetchPartition::default().with_partition(1).with_partition_max_bytes(1000);
            let wanted = fetch_request::FetchTopic::default()
                .with_topic(topic())
                .with_partitions(vec![partition.clone(), partition]);
            let forgotten = fetch_request::ForgottenTopic::default().with_topic(topic()).with_partitions(vec![1, 2]);
            let request = FetchRequest::default()
                .with_max_wait_ms(100)
                .with_topics(vec![wanted])
                .with_forgotten_topics_data(if version >= 7 { vec![forgotten] } else { Vec::new() });
            let request = if version >= 11 { request.with_rack_id(text("rack")) } else { request };
            if version >= 12 { request.with_cluster_id(Some(text("cluster"))) } else { request }
        });
        self.add(|_| {
            let partition = list_offsets_request::ListOffsetsPartition::default().with_timestamp(-1);
            let wanted =
                list_offsets_request::ListOffsetsTopic::default().with_name(topic()).with_partitions(vec![partition]);
            ListOffsetsRequest::default().with_topics(vec![wanted])
        });
        self.add(|version| {
            let wanted = metadata_request::MetadataRequestTopic::default().with_name(Some(topic()));
            let by_id = wanted.clone().with_name(None).with_topic_id(Uuid::from_u128(7));
            let all = version >= 1 && version % 2 == 0 && version < 12;
            let wanted = if version >= 12 { vec![wanted, by_id] } else { vec![wanted] };
            MetadataRequest::default().with_topics((!all).then_some(wanted)).with_allow_auto_topic_creation(true)
        });
        self.add(|_| {
            let partition = offset_for_leader_epoch_request::OffsetForLeaderPartition::default().with_leader_epoch(1);
            let wanted = offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
                .with_topic(topic())
                .with_partitions(vec![partition]);
            OffsetForLeaderEpochRequest::default().with_topics(vec![wanted])
        });
    }

    fn groups(&mut self) {
        self.add(|version| {
            let partition = offset_commit_request::OffsetCommitRequestPartition::default()
                .with_committed_offset(5)
                .with_committed_metadata((version % 2 == 0).then(|| text("note")));
            let topics = offset_commit_request::OffsetCommitRequestTopic::default()
                .with_name(topic())
                .with_partitions(vec![partition.clone(), partition]);
            OffsetCommitRequest::default().with_group_id(group()).with_member_id(text("m")).with_topics(vec![topics])
        });
        self.add(|version| {
            let request = OffsetFetchRequest::default();
            if version >= 8 {
                let topics = offset_fetch_request::OffsetFetchRequestTopics::default()
                    .with_name(topic())
                    .with_partition_indexes(vec![1, 2]);
                let one = offset_fetch_request::OffsetFetchRequestGroup::default().with_group_id(group());
                return request.with_groups(vec![one.clone().with_topics(Some(vec![topics])), one.with_topics(None)]);
            }
            let topics = offset_fetch_request::OffsetFetchRequestTopic::default()
                .with_name(topic())
                .with_partition_indexes(vec![1, 2]);
            request.with_group_id(group()).with_topics((version != 5).then_some(vec![topics]))
        });
        self.add(|version| match version {
            0..=3 => FindCoordinatorRequest::default().with_key(text("group")),
            _ => FindCoordinatorRequest::default().with_coordinator_keys(vec![text("a"), text("b")]),
        });
        self.add(|version| {
            let protocol = join_group_request::JoinGroupRequestProtocol::default()
                .with_name(text("range"))
                .with_metadata(Bytes::from_static(b"metadata"));
            let request = JoinGroupRequest::default()
                .with_group_id(group())
                .with_protocol_type(text("consumer"))
                .with_protocols(vec![protocol]);
            let request = if version >= 5 { request.with_group_instance_id(Some(text("i"))) } else { request };
            if version >= 8 { request.with_reason(Some(text("why"))) } else { request }
        });
        self.add(|version| {
            let request = HeartbeatRequest::default().with_group_id(group()).with_member_id(text("m"));
            if version >= 3 { request.with_group_instance_id(Some(text("i"))) } else { request }
        });
        self.add(|version| {
            let request = LeaveGroupRequest::default().with_group_id(group());
            if version <= 2 {
                return request.with_member_id(text("m"));
            }
            let member = leave_group_request::MemberIdentity::default().with_member_id(text("m"));
            let member = if version >= 5 { member.with_reason(Some(text("why"))) } else { member };
            request.with_members(vec![member])
        });
        self.add(|version| {
            let assignment = sync_group_request::SyncGroupRequestAssignment::default()
                .with_member_id(text("m"))
                .with_assignment(Bytes::from_static(b"partitions"));
            let request = SyncGroupRequest::default().with_group_id(group()).with_assignments(vec![assignment]);
            if version >= 5 { request.with_protocol_name(Some(text("range"))) } else { request }
        });
        self.add(|_| DescribeGroupsRequest::default().with_groups(vec![group(), group()]));
        self.add(|version| {
            let states = if version >= 4 { vec![text("Stable")] } else { Vec::new() };
            let types = if version >= 5 { vec![text("classic")] } else { Vec::new() };
            ListGroupsRequest::default().with_states_filter(states).with_types_filter(types)
        });
        self.add(|_| DeleteGroupsRequest::default().with_groups_names(vec![group()]));
        self.add(|_| {
            let partition = offset_delete_request::OffsetDeleteRequestPartition::default().with_partition_index(1);
            let topics = offset_delete_request::OffsetDeleteRequestTopic::default()
                .with_name(topic())
                .with_partitions(vec![partition]);
            OffsetDeleteRequest::default().with_group_id(group()).with_topics(vec![topics])
        });
    }

    fn transactions(&mut self) {
        let id = || TransactionalId(text("t"));
        self.add(|version| {
            InitProducerIdRequest::default()
                .with_transactional_id((version % 2 == 0).then(id))
                .with_transaction_timeout_ms(5)
        });
        self.add(|version| {
            let topics = add_partitions_to_txn_request::AddPartitionsToTxnTopic::default()
                .with_name(topic())
                .with_partitions(vec![1, 2]);
            if version >= 4 {
                let one = add_partitions_to_txn_request::AddPartitionsToTxnTransaction::default()
                    .with_transactional_id(id())
                    .with_topics(vec![topics]);
                return AddPartitionsToTxnRequest::default().with_transactions(vec![one]);
            }
            AddPartitionsToTxnRequest::default()
                .with_v3_and_below_transactional_id(id())
                .with_v3_and_below_topics(vec![topics])
        });
        self.add(|_| AddOffsetsToTxnRequest::default().with_transactional_id(id()).with_group_id(group()));
        self.add(|_| EndTxnRequest::default().with_transactional_id(id()).with_committed(true));
        self.add(|version| {
            let partition = txn_offset_commit_request::TxnOffsetCommitRequestPartition::default()
                .with_committed_metadata(Some(text("n")));
            let topics = txn_offset_commit_request::TxnOffsetCommitRequestTopic::default()
                .with_name(topic())
                .with_partitions(vec![partition]);
            let request = TxnOffsetCommitRequest::default()
                .with_transactional_id(id())
                .with_group_id(group())
                .with_topics(vec![topics]);
            if version >= 3 { request.with_member_id(text("m")).with_generation_id(3) } else { request }
        });
    }

    fn admin(&mut self) {
        self.add(|_| {
            let assignment =
                create_topics_request::CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(1)]);
            let config = create_topics_request::CreatableTopicConfig::default()
                .with_name(text("cleanup.policy"))
                .with_value(Some(text("compact")));
            let one = create_topics_request::CreatableTopic::default()
                .with_name(topic())
                .with_assignments(vec![assignment])
                .with_configs(vec![config]);
            CreateTopicsRequest::default().with_topics(vec![one.clone(), one])
        });
        self.add(|version| {
            if version <= 5 {
                return DeleteTopicsRequest::default().with_topic_names(vec![topic()]);
            }
            let by_name = delete_topics_request::DeleteTopicState::default().with_name(Some(topic()));
            let by_id =
                delete_topics_request::DeleteTopicState::default().with_name(None).with_topic_id(Uuid::from_u128(3));
            DeleteTopicsRequest::default().with_topics(vec![by_name, by_id])
        });
        self.add(|_| {
            let partition = delete_records_request::DeleteRecordsPartition::default().with_offset(9);
            let topics = delete_records_request::DeleteRecordsTopic::default()
                .with_name(topic())
                .with_partitions(vec![partition]);
            DeleteRecordsRequest::default().with_topics(vec![topics])
        });
        self.add(|version| {
            let assignment =
                create_partitions_request::CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(1)]);
            let topics = create_partitions_request::CreatePartitionsTopic::default()
                .with_name(topic())
                .with_count(4)
                .with_assignments((version % 2 == 0).then_some(vec![assignment]));
            CreatePartitionsRequest::default().with_topics(vec![topics])
        });
        self.add(|version| {
            let resource = describe_configs_request::DescribeConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(text("topic"))
                .with_configuration_keys((version % 2 == 0).then(|| vec![text("retention.ms")]));
            DescribeConfigsRequest::default().with_resources(vec![resource])
        });
        self.add(|_| {
            let config = incremental_alter_configs_request::AlterableConfig::default()
                .with_name(text("retention.ms"))
                .with_value(Some(text("1")));
            let resource = incremental_alter_configs_request::AlterConfigsResource::default()
                .with_resource_name(text("topic"))
                .with_configs(vec![config]);
            IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
        });
    }

    fn sessions(&mut self) {
        self.add(|version| {
            let request = ApiVersionsRequest::default();
            let named = |request: ApiVersionsRequest| {
                request.with_client_software_name(text("tests")).with_client_software_version(text("1"))
            };
            if version >= 3 { named(request) } else { request }
        });
        self.add(|_| DescribeClusterRequest::default());
        self.add(|_| SaslHandshakeRequest::default().with_mechanism(text("PLAIN")));
        self.add(|_| SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from_static(b"\0a\0b")));
    }
}
