//! Heartbeat (12), versions 0-4: a member says that it lives, and hears whether it has to join again. From version 3 it may be static.

use std::ops::RangeInclusive;

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use crate::kafka::Context;
use crate::kafka::errors::group_code;

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 0..=4;

pub(in crate::kafka) async fn handle(cx: &Context, request: HeartbeatRequest, _version: i16) -> HeartbeatResponse {
    let instance_id = request.group_instance_id.as_deref();
    let heard = cx.groups.heartbeat(&request.group_id, &request.member_id, instance_id, request.generation_id);
    HeartbeatResponse::default().with_error_code(heard.map_or_else(group_code, |()| 0))
}
