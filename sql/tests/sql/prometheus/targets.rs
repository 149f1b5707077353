//! What scraping tells through the API.

use std::sync::Arc;

use highwater_promql::Labels;
use highwater_sql::prometheus::{PromqlConfig, TargetMetadata, Targets, TargetsView, ViewError};
use serde_json::json;

use super::server::Server;

/// Two targets, one of them with two families.
struct TwoTargets;

#[async_trait::async_trait]
impl TargetsView for TwoTargets {
    async fn targets(&self, _: &str) -> Result<Targets, ViewError> {
        Ok(Targets::default())
    }

    async fn metadata(&self, tenant: &str) -> Result<Vec<TargetMetadata>, ViewError> {
        let told = |instance: &str, metric: &str, kind: &str, help: &str| TargetMetadata {
            target: Labels::from_pairs([("instance", instance), ("job", "j")]),
            metric: metric.to_owned(),
            kind: kind.to_owned(),
            help: help.to_owned(),
            unit: String::new(),
        };
        let all =
            vec![told("a", "up", "gauge", "is it"), told("a", "x", "counter", ""), told("b", "x", "counter", "y")];
        Ok(if tenant == "default" { all } else { Vec::new() })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_targets_can_be_asked_for_by_target_and_metric() {
    let server = Server::made(&[], PromqlConfig::default(), |api| api.with_targets(Arc::new(TwoTargets))).await;
    let told = |instance: &str, metric: &str, kind: &str, help: &str| {
        let mut told =
            json!({ "target": { "instance": instance, "job": "j" }, "type": kind, "help": help, "unit": "" });
        if !metric.is_empty() {
            told["metric"] = json!(metric);
        }
        told
    };
    let (up, x, y) = (told("a", "up", "gauge", "is it"), told("a", "x", "counter", ""), told("b", "x", "counter", "y"));
    for (pairs, wanted) in [
        (vec![], json!([up, x, y])),
        (vec![("match_target", "{}")], json!([up, x, y])),
        (vec![("match_target", "{instance=\"b\"}")], json!([y])),
        (vec![("match_target", "{instance!~\"a|b\"}")], json!([])),
        (vec![("metric", "x")], json!([told("a", "", "counter", ""), told("b", "", "counter", "y")])),
        (vec![("metric", "up"), ("match_target", "{job=\"j\"}")], json!([told("a", "", "gauge", "is it")])),
        // It is targets that are left out.
        (vec![("limit", "1")], json!([up, x])),
        (vec![("limit", "0")], json!([])),
        (vec![("limit", "-1")], json!([up, x, y])),
    ] {
        assert_eq!(server.data("targets/metadata", &pairs).await, wanted, "{pairs:?}");
    }
    let refused = server.refusal("targets/metadata", &[("match_target", "{")]).await;
    assert_eq!((refused.0, refused.1.as_str()), (400, "bad_data"));
    assert!(refused.2.starts_with("invalid parameter \"match_target\": 1:2: parse error"), "{}", refused.2);
    let refused = server.refusal("targets/metadata", &[("limit", "x")]).await;
    assert_eq!(refused, (400, "bad_data".to_owned(), "limit must be a number".to_owned()));
}
