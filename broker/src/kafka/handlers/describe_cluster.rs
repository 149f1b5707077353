//! DescribeCluster (60), versions 0-2: one broker, which is its own controller.
//!
//! What a client may do is not told bit by bit (there are no ACLs): the field of authorized operations stays "not asked".

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

use crate::kafka::Context;
use crate::kafka::context::NODE_ID;

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 0..=2;

/// The kind of endpoint that brokers have; controllers are kind 2, and clients cannot dial any here.
const BROKERS: i8 = 1;

pub(in crate::kafka) async fn handle(
    cx: &Context,
    request: DescribeClusterRequest,
    version: i16,
) -> DescribeClusterResponse {
    let response = DescribeClusterResponse::default().with_cluster_id(StrBytes::from_string(cx.cluster_id.to_string()));
    if version >= 1 && request.endpoint_type != BROKERS {
        return response
            .with_error_code(ResponseError::UnsupportedEndpointType.code())
            .with_error_message(Some(StrBytes::from_static_str("only brokers can be asked for (endpoint type 1)")));
    }
    let (host, port) = cx.advertised();
    let broker = DescribeClusterBroker::default()
        .with_broker_id(BrokerId(NODE_ID))
        .with_host(StrBytes::from_string(host))
        .with_port(port);
    response.with_endpoint_type(BROKERS).with_controller_id(BrokerId(NODE_ID)).with_brokers(vec![broker])
}
