//! The table of what is served: one line per API, and its handler's file. ApiVersions is made from it, requests are dispatched by it.
//!
//! To serve an API, write `handlers/<name>.rs` with
//! `pub(in crate::kafka) const VERSIONS: RangeInclusive<i16>` and
//! `pub(in crate::kafka) async fn handle(cx: &Context, request: XRequest, version: i16) -> XResponse`, name it in `handlers/mod.rs`, and
//! add its line below.

use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};
use tokio::sync::OwnedSemaphorePermit;

use super::Context;
use super::frame::{FrameError, RequestHead, check_body};
use super::handlers;

macro_rules! apis {
    ($($key:ident => $handler:ident $(answered by $reply:path)?,)*) => {
        /// What is served, in order of key.
        pub(in crate::kafka) const APIS: &[Api] = &[$(Api { key: ApiKey::$key, versions: handlers::$handler::VERSIONS },)*];

        /// Decodes a request whose shape was checked, handles it, and encodes the answer.
        async fn handle(cx: &Context, api: &Api, head: &RequestHead, body: Bytes) -> Result<Reply, FrameError> {
            match api.key {
                $(ApiKey::$key => {
                    let request = decode(handlers::$handler::handle, head, body)?;
                    let response = handlers::$handler::handle(cx, request, head.version).await;
                    apis!(@reply $($reply)?)(head, response)
                })*
                _ => Err(FrameError::unserved(head)),
            }
        }

        /// Decodes a request whose shape was checked, and forgets it.
        fn decode_only(api: &Api, head: &RequestHead, body: Bytes) -> Result<(), FrameError> {
            match api.key {
                $(ApiKey::$key => decode(handlers::$handler::handle, head, body).map(drop),)*
                _ => Err(FrameError::unserved(head)),
            }
        }
    };
    (@reply) => { encode };
    (@reply $reply:path) => { $reply };
}

apis! {
    Produce => produce answered by handlers::produce::reply,
    Fetch => fetch answered by handlers::fetch::reply,
    ListOffsets => list_offsets,
    Metadata => metadata,
    OffsetCommit => offset_commit,
    OffsetFetch => offset_fetch,
    FindCoordinator => find_coordinator,
    JoinGroup => join_group,
    Heartbeat => heartbeat,
    LeaveGroup => leave_group,
    SyncGroup => sync_group,
    DescribeGroups => describe_groups,
    ListGroups => list_groups,
    SaslHandshake => sasl_handshake,
    ApiVersions => api_versions,
    CreateTopics => create_topics,
    DeleteTopics => delete_topics,
    DeleteRecords => delete_records,
    InitProducerId => init_producer_id,
    OffsetForLeaderEpoch => offset_for_leader_epoch,
    AddPartitionsToTxn => add_partitions_to_txn,
    AddOffsetsToTxn => add_offsets_to_txn,
    EndTxn => end_txn,
    TxnOffsetCommit => txn_offset_commit,
    DescribeConfigs => describe_configs,
    SaslAuthenticate => sasl_authenticate,
    CreatePartitions => create_partitions,
    DeleteGroups => delete_groups,
    IncrementalAlterConfigs => incremental_alter_configs,
    OffsetDelete => offset_delete,
    DescribeCluster => describe_cluster,
}

/// An API that is served.
#[derive(Debug)]
pub(in crate::kafka) struct Api {
    /// Its key.
    pub(in crate::kafka) key: ApiKey,
    /// The versions that work.
    pub(in crate::kafka) versions: RangeInclusive<i16>,
}

impl Api {
    /// The served API of a key.
    pub(in crate::kafka) fn of(key: i16) -> Option<&'static Self> {
        APIS.iter().find(|api| api.key as i16 == key)
    }

    /// The versions that clients are told. librdkafka takes a broker whose Produce begins above 0 for one that knows no compression
    /// (librdkafka #4956), so that one is told to begin at 0.
    pub(in crate::kafka) fn advertised(&self) -> RangeInclusive<i16> {
        if self.key == ApiKey::Produce { 0..=*self.versions.end() } else { self.versions.clone() }
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub(in crate::kafka) enum Reply {
    /// These bytes go out, without the size in front.
    Send {
        /// The bytes.
        pieces: Vec<Bytes>,
        /// What they take of the room for answers, until they are sent.
        room: Option<OwnedSemaphorePermit>,
    },
    /// Nothing: the client does not wait for an answer.
    Silence,
    /// Nothing, and the connection is closed: the client does not wait for an answer, and should know that something is wrong.
    HangUp,
}

impl Reply {
    /// What goes out; `None` where the connection is closed instead.
    pub(in crate::kafka) fn size_bytes(&self) -> Option<usize> {
        match self {
            Self::Send { pieces, .. } => Some(pieces.iter().map(Bytes::len).sum()),
            Self::Silence => Some(0),
            Self::HangUp => None,
        }
    }
}

/// Handles a request: `frame` is all of it but its size.
pub(in crate::kafka) async fn dispatch(cx: &Context, head: &RequestHead, frame: Bytes) -> Result<Reply, FrameError> {
    let Some(api) = Api::of(head.key) else { return Err(FrameError::unserved(head)) };
    if !api.versions.contains(&head.version) {
        if api.key == ApiKey::ApiVersions {
            let head = RequestHead { version: 0, ..head.clone() };
            return encode(&head, handlers::api_versions::unsupported());
        }
        return Err(FrameError::unserved(head));
    }
    let body = check_body(api.key, head, &frame)?;
    handle(cx, api, head, body).await
}

/// Reads a frame as [`dispatch`] does, as far as its decoded request.
pub(in crate::kafka) fn probe(frame: &Bytes) -> Result<(), FrameError> {
    let head = RequestHead::read(frame)?;
    let api = Api::of(head.key).filter(|api| api.versions.contains(&head.version));
    let api = api.ok_or_else(|| FrameError::unserved(&head))?;
    let body = check_body(api.key, &head, frame)?;
    decode_only(api, &head, body)
}

/// Decodes the request that a handler takes.
fn decode<Q: Decodable, A>(
    _: impl FnOnce(&'static Context, Q, i16) -> A,
    head: &RequestHead,
    mut body: Bytes,
) -> Result<Q, FrameError> {
    Q::decode(&mut body, head.version).map_err(|error| FrameError::undecodable(head, &error))
}

/// Encodes an answer behind its header.
pub(in crate::kafka) fn encode<R: Encodable + HeaderVersion>(
    head: &RequestHead,
    response: R,
) -> Result<Reply, FrameError> {
    let mut buffer = BytesMut::new();
    ResponseHeader::default()
        .with_correlation_id(head.correlation)
        .encode(&mut buffer, R::header_version(head.version))
        .and_then(|()| response.encode(&mut buffer, head.version))
        .map_err(|error| FrameError::unencodable(head, &error))?;
    Ok(Reply::Send { pieces: vec![buffer.freeze()], room: None })
}
