//! Shapes of what a connection begins with: what is served, by whom, and who asks.

use kafka_protocol::messages::ApiKey;

use super::Kind::{Blob, Text};
use super::{BOOL, I8, NEVER, Shape, always, since};

pub(super) fn shape(key: ApiKey) -> Option<&'static Shape> {
    match key {
        ApiKey::ApiVersions => Some(&API_VERSIONS),
        ApiKey::DescribeCluster => Some(&DESCRIBE_CLUSTER),
        ApiKey::SaslHandshake => Some(&SASL_HANDSHAKE),
        ApiKey::SaslAuthenticate => Some(&SASL_AUTHENTICATE),
        _ => None,
    }
}

const API_VERSIONS: Shape = Shape {
    flexible: 3,
    fields: &[
        since(3, Text), // client's name
        since(3, Text), // client's version
    ],
};

const DESCRIBE_CLUSTER: Shape = Shape {
    flexible: 0,
    fields: &[
        always(BOOL),   // authorized operations
        since(1, I8),   // kind of endpoint
        since(2, BOOL), // fenced brokers
    ],
};

const SASL_HANDSHAKE: Shape = Shape {
    flexible: NEVER,
    fields: &[
        always(Text), // mechanism
    ],
};

const SASL_AUTHENTICATE: Shape = Shape {
    flexible: 2,
    fields: &[
        always(Blob), // token
    ],
};
