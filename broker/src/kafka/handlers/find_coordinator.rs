//! FindCoordinator (10), versions 0-4: who minds a group or a transactional id. There is one broker, so it is this one. From version 4 for
//! several at once.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::text::theirs;
use crate::kafka::Context;
use crate::kafka::context::NODE_ID;

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 0..=4;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// The node that stands for none.
const NOBODY: BrokerId = BrokerId(-1);

pub(in crate::kafka) async fn handle(
    cx: &Context,
    request: FindCoordinatorRequest,
    version: i16,
) -> FindCoordinatorResponse {
    let kind = if version == 0 { GROUP } else { request.key_type };
    if version < 4 {
        let Coordinator { error_code, error_message, node_id, host, port, .. } = coordinator(cx, kind);
        // Kafka's answers of these versions have the name of the error here, also where there is none.
        let nothing = StrBytes::from_static_str("NONE");
        let error_message = if error_code == 0 { Some(nothing) } else { error_message }.filter(|_| version >= 1);
        return FindCoordinatorResponse::default()
            .with_error_code(error_code)
            .with_error_message(error_message)
            .with_node_id(node_id)
            .with_host(host)
            .with_port(port);
    }
    let coordinators = request.coordinator_keys.into_iter().map(|key| coordinator(cx, kind).with_key(key));
    FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
}

fn coordinator(cx: &Context, kind: i8) -> Coordinator {
    if kind != GROUP && kind != TRANSACTION {
        return Coordinator::default()
            .with_node_id(NOBODY)
            .with_port(-1)
            .with_error_code(ResponseError::InvalidRequest.code())
            .with_error_message(Some(StrBytes::from_static_str(
                "coordinators are of groups (key type 0) or transactions (key type 1)",
            )));
    }
    let (host, port) = cx.advertised();
    Coordinator::default().with_node_id(BrokerId(NODE_ID)).with_host(theirs(&host)).with_port(port)
}
