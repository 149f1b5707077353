//! IncrementalAlterConfigs (44), versions 0-1: sets, resets, adds to and takes from settings of topics, all that is asked of one topic or
//! nothing. It holds for running partitions, and is durable, before the answer.
//!
//! Settings of the broker are its config file's, so altering them is refused.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use crate::kafka::Context;
use crate::kafka::broker_settings;
use crate::kafka::config_source::resource;
use crate::kafka::refusal::Refusal;
use crate::topic_config::SettingChange;

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 0..=1;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub(in crate::kafka) async fn handle(
    cx: &Context,
    request: IncrementalAlterConfigsRequest,
    _version: i16,
) -> IncrementalAlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    for asked in &request.resources {
        let same = |other: &&AlterConfigsResource| {
            other.resource_type == asked.resource_type && other.resource_name == asked.resource_name
        };
        let altered = if request.resources.iter().filter(same).count() > 1 {
            Err(Refusal::new(ResponseError::InvalidRequest, "each resource may be in a request once"))
        } else {
            alter(cx, asked, request.validate_only).await
        };
        let response = AlterConfigsResourceResponse::default()
            .with_resource_type(asked.resource_type)
            .with_resource_name(asked.resource_name.clone())
            .with_error_message(None);
        responses.push(match altered {
            Ok(()) => response,
            Err(refusal) => response.with_error_code(refusal.code()).with_error_message(refusal.text()),
        });
    }
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

async fn alter(cx: &Context, asked: &AlterConfigsResource, validate_only: bool) -> Result<(), Refusal> {
    let name = asked.resource_name.as_str();
    let changes = changes(&asked.configs)?;
    match asked.resource_type {
        resource::TOPIC => {
            if !cx.may_alter(name) {
                return Err(Refusal::not_writable(name));
            }
            if validate_only {
                cx.broker.check_altered(name, &changes)?;
            } else {
                cx.broker.alter_topic(name, &changes).await?;
            }
            Ok(())
        }
        resource::BROKER | resource::BROKER_LOGGER => {
            if !name.is_empty() || asked.resource_type == resource::BROKER_LOGGER {
                broker_settings::check_node(name)?;
            }
            if changes.is_empty() {
                return Ok(());
            }
            let names: Vec<&str> = changes.iter().map(SettingChange::name).collect();
            Err(Refusal::new(
                ResponseError::InvalidRequest,
                format!(
                    "the broker's settings come from its config file and are not altered here: {}",
                    names.join(", ")
                ),
            ))
        }
        resource::GROUP | resource::CLIENT_METRICS => {
            Err(Refusal::new(ResponseError::InvalidConfig, "groups and client metrics have no settings here"))
        }
        other => Err(Refusal::new(ResponseError::InvalidRequest, format!("resource type {other} is not known"))),
    }
}

fn changes(configs: &[AlterableConfig]) -> Result<Vec<SettingChange>, Refusal> {
    let refuse = |message: String| Err(Refusal::new(ResponseError::InvalidRequest, message));
    let mut seen = BTreeSet::new();
    let mut changes = Vec::with_capacity(configs.len());
    for config in configs {
        let name = config.name.as_str().to_owned();
        if !seen.insert(name.clone()) {
            return refuse(format!("setting {name} is in the request more than once"));
        }
        let value = config.value.as_ref().map(|value| value.as_str().to_owned());
        changes.push(match (config.config_operation, value) {
            (DELETE, _) => SettingChange::Reset { name },
            (SET, Some(value)) => SettingChange::Set { name, value },
            (APPEND, Some(value)) => SettingChange::Append { name, value },
            (SUBTRACT, Some(value)) => SettingChange::Subtract { name, value },
            (SET | APPEND | SUBTRACT, None) => return refuse(format!("setting {name} has no value")),
            (other, _) => return refuse(format!("operation {other} on setting {name} is not known")),
        });
    }
    Ok(changes)
}
