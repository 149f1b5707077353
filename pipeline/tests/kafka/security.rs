//! TLS, SASL, and what is said where they fail.

use std::collections::BTreeMap;

use highwater_broker::TopicConfig;
use highwater_pipeline::log::Log;
use highwater_pipeline::log::kafka::{KafkaConfig, Property};

use crate::fixture::Kafka;
use crate::world::{assert_values, commit, effects, open, write};

fn config(kafka: &Kafka, mechanism: &str, password: &str, certificate: bool) -> KafkaConfig {
    let mut security: BTreeMap<String, Property> = [
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", mechanism),
        ("sasl.username", "highwater"),
        ("sasl.password", password),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.into()))
    .collect();
    if certificate {
        security.insert("ssl.ca.location".into(), kafka.certificate().to_str().unwrap().into());
    }
    KafkaConfig { security, ..KafkaConfig::new(kafka.brokers()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_open_the_door_and_wrong_ones_are_named() {
    let Some(kafka) = Kafka::start_secure() else { return };
    for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
        let log = open(&config(&kafka, mechanism, "highwater-secret", true));
        let name = mechanism.to_lowercase();
        let (topic, output) = (
            log.ensure_topic(&name, TopicConfig::default()).await.unwrap().name,
            log.ensure_topic(&format!("{name}-out"), TopicConfig::default()).await.unwrap().name,
        );
        write(&log, &topic, &["over TLS"]).await.unwrap();
        assert_values(&log, &topic, &["over TLS"]).await;
        let task: std::sync::Arc<str> = format!("{topic}/0").into();
        let epoch = log.begin_task(&task).await.unwrap();
        log.commit_task(commit(&task, epoch, vec![effects(&task, epoch, &output, 0, &["effect"])], 1)).await.unwrap();
        assert_values(&log, &output, &["effect"]).await;

        let log = open(&config(&kafka, mechanism, "wrong", true));
        let (topics, begun) = tokio::join!(log.topics(), log.begin_task("plain/0"));
        for error in [topics.unwrap_err(), begun.unwrap_err()] {
            assert!(!error.is_retryable(), "{error}");
            assert!(error.to_string().contains("sasl.password") && !error.to_string().contains("wrong"), "{error}");
        }
    }
    let log = open(&config(&kafka, "PLAIN", "highwater-secret", false));
    let error = log.topics().await.unwrap_err();
    assert!(!error.is_retryable() && error.to_string().contains("ssl.ca.location"), "an unknown certificate: {error}");
}
