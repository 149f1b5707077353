//! DescribeCluster (60), versions 0-2: one broker, which is its own controller.
//!
//! Controllers (endpoint type 2) cannot be dialled, so asking for them is UNSUPPORTED_ENDPOINT_TYPE.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

use crate::kafka::Context;
use crate::kafka::context::{NODE_ID, operations};

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 0..=2;

/// The kind of endpoint that brokers are.
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
    let response = response.with_controller_id(BrokerId(NODE_ID)).with_brokers(vec![broker]);
    if request.include_cluster_authorized_operations {
        return response.with_cluster_authorized_operations(operations::CLUSTER);
    }
    response
}
