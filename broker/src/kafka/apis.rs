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

use super::Context;
use super::frame::{FrameError, RequestHead};
use super::handlers;

macro_rules! apis {
    ($($key:ident => $handler:ident,)*) => {
        /// What is served, in order of key.
        pub(in crate::kafka) const APIS: &[Api] = &[$(Api { key: ApiKey::$key, versions: handlers::$handler::VERSIONS },)*];

        /// Decodes a request whose shape was checked, handles it, and encodes the answer.
        async fn handle(cx: &Context, api: &Api, head: &RequestHead, mut body: Bytes) -> Result<Reply, FrameError> {
            match api.key {
                $(ApiKey::$key => {
                    let request = Decodable::decode(&mut body, head.version).map_err(|e| FrameError::undecodable(head, &e))?;
                    let response = handlers::$handler::handle(cx, request, head.version).await;
                    encode(head, &response, head.version)
                })*
                _ => Err(FrameError::unserved(head)),
            }
        }
    };
}

apis! {
    OffsetCommit => offset_commit,
    OffsetFetch => offset_fetch,
    FindCoordinator => find_coordinator,
    JoinGroup => join_group,
    Heartbeat => heartbeat,
    LeaveGroup => leave_group,
    SyncGroup => sync_group,
    DescribeGroups => describe_groups,
    ListGroups => list_groups,
    ApiVersions => api_versions,
    CreateTopics => create_topics,
    DeleteTopics => delete_topics,
    DeleteRecords => delete_records,
    DescribeConfigs => describe_configs,
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
    Send(Vec<Bytes>),
}

/// Handles a request: `frame` is all of it but its size.
pub(in crate::kafka) async fn dispatch(cx: &Context, head: &RequestHead, frame: Bytes) -> Result<Reply, FrameError> {
    let api = Api::of(head.key).ok_or_else(|| FrameError::unserved(head))?;
    if !api.versions.contains(&head.version) {
        if api.key == ApiKey::ApiVersions {
            return encode(head, &handlers::api_versions::unsupported(), 0);
        }
        return Err(FrameError::unserved(head));
    }
    let body = super::frame::check_body(head, &frame)?;
    handle(cx, api, head, body).await
}

/// Encodes an answer behind its header.
fn encode<R: Encodable + HeaderVersion>(head: &RequestHead, response: &R, version: i16) -> Result<Reply, FrameError> {
    let mut buffer = BytesMut::new();
    ResponseHeader::default()
        .with_correlation_id(head.correlation)
        .encode(&mut buffer, R::header_version(version))
        .and_then(|()| response.encode(&mut buffer, version))
        .map_err(|error| FrameError::unencodable(head, &error))?;
    Ok(Reply::Send(vec![buffer.freeze()]))
}
