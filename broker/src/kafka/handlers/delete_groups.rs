//! DeleteGroups (42), versions 0-2: groups without members go, and their offsets with them; answered when that is durable.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use crate::kafka::Context;
use crate::kafka::errors::group_code;

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 0..=2;

pub(in crate::kafka) async fn handle(
    cx: &Context,
    request: DeleteGroupsRequest,
    _version: i16,
) -> DeleteGroupsResponse {
    let mut seen = BTreeSet::new();
    let ids: Vec<_> = request.groups_names.into_iter().filter(|id| seen.insert(id.clone())).collect();
    if !cx.may().admin {
        let refused = ResponseError::GroupAuthorizationFailed.code();
        let results =
            ids.into_iter().map(|id| DeletableGroupResult::default().with_group_id(id).with_error_code(refused));
        return DeleteGroupsResponse::default().with_results(results.collect());
    }
    let names: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
    let outcomes = cx.groups.delete_all(&names).await;
    let results = ids.iter().zip(outcomes).map(|(id, outcome)| {
        DeletableGroupResult::default()
            .with_group_id(id.clone())
            .with_error_code(outcome.map_or_else(group_code, |()| 0))
    });
    DeleteGroupsResponse::default().with_results(results.collect())
}
