//! DescribeConfigs (32), versions 1-4: settings of topics and of the one broker, with where each comes from, and on request what it is
//! called and set to at each level, and what it means.
//!
//! The broker's settings are told under the names that tools ask for and cannot be altered over Kafka. The cluster-wide dynamic defaults
//! (a broker without a name) are empty, and so are the settings of loggers, groups and client metrics: nothing can be set there.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::kafka::Context;
use crate::kafka::broker_settings;
use crate::kafka::config_source::{resource, source_code, type_code};
use crate::kafka::refusal::Refusal;
use crate::topic::check_name;
use crate::topic_config::DescribedSetting;

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 1..=4;

pub(in crate::kafka) async fn handle(
    cx: &Context,
    request: DescribeConfigsRequest,
    _version: i16,
) -> DescribeConfigsResponse {
    let DescribeConfigsRequest { resources, include_synonyms, include_documentation, .. } = request;
    let mut results = Vec::with_capacity(resources.len());
    for asked in resources {
        let result = DescribeConfigsResult::default()
            .with_resource_type(asked.resource_type)
            .with_resource_name(asked.resource_name.clone())
            .with_error_message(None);
        results.push(match settings(cx, &asked) {
            Ok(settings) => {
                let wanted = |setting: &DescribedSetting| match &asked.configuration_keys {
                    Some(keys) if !keys.is_empty() => keys.iter().any(|key| key.as_str() == setting.name),
                    _ => true,
                };
                let described = settings.into_iter().filter(wanted);
                let described = described.map(|setting| describe(setting, include_synonyms, include_documentation));
                result.with_configs(described.collect())
            }
            Err(refusal) => result.with_error_code(refusal.code()).with_error_message(refusal.text()),
        });
    }
    DescribeConfigsResponse::default().with_results(results)
}

fn settings(cx: &Context, asked: &DescribeConfigsResource) -> Result<Vec<DescribedSetting>, Refusal> {
    let name = asked.resource_name.as_str();
    match asked.resource_type {
        resource::TOPIC => {
            check_name(name)?;
            Ok(cx.broker.describe_settings(name)?)
        }
        resource::BROKER if name.is_empty() => Ok(Vec::new()),
        resource::BROKER => {
            broker_settings::check_node(name)?;
            Ok(broker_settings::describe(cx))
        }
        resource::BROKER_LOGGER => {
            broker_settings::check_node(name)?;
            Ok(Vec::new())
        }
        resource::GROUP | resource::CLIENT_METRICS if name.is_empty() => {
            Err(Refusal::new(ResponseError::InvalidRequest, "a name is missing"))
        }
        resource::GROUP | resource::CLIENT_METRICS => Ok(Vec::new()),
        other => Err(Refusal::new(ResponseError::InvalidRequest, format!("resource type {other} is not known"))),
    }
}

fn describe(setting: DescribedSetting, synonyms: bool, documentation: bool) -> DescribeConfigsResourceResult {
    let told = setting.synonyms.into_iter().filter(|_| synonyms).map(|synonym| {
        DescribeConfigsSynonym::default()
            .with_name(StrBytes::from_static_str(synonym.name))
            .with_value(Some(StrBytes::from_string(synonym.value)))
            .with_source(source_code(synonym.source))
    });
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(setting.name))
        .with_value(Some(StrBytes::from_string(setting.value)))
        .with_read_only(setting.read_only)
        .with_config_source(source_code(setting.source))
        .with_is_sensitive(false)
        .with_synonyms(told.collect())
        .with_config_type(type_code(setting.kind))
        .with_documentation(documentation.then(|| StrBytes::from_static_str(setting.doc)))
}
