#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;

use super::*;

fn set(name: &str, value: &str) -> SettingChange {
    SettingChange::set(name, value)
}

fn described(config: &TopicConfig, name: &str) -> DescribedSetting {
    config.describe(&BrokerConfig::default()).into_iter().find(|setting| setting.name == name).unwrap()
}

fn refused(name: &str, value: &str) -> String {
    match TopicConfig::kafka(1).altered(&[set(name, value)]) {
        Err(BrokerError::InvalidConfig { what }) => what,
        other => panic!("{name}={value}: {other:?}"),
    }
}

#[test]
fn what_is_set_is_read_back_in_kafkas_words() {
    // Name, what is given, what is told.
    let values = [
        ("cleanup.policy", "compact", "compact"),
        ("cleanup.policy", " delete , compact ", "compact,delete"),
        ("retention.ms", "-1", "-1"),
        ("retention.ms", "0", "0"),
        ("retention.bytes", "1073741824", "1073741824"),
        ("retention.bytes", "-1", "-1"),
        ("segment.bytes", "1048576", "1048576"),
        ("segment.ms", "100", "100"),
        ("segment.ms", "9223372036854775807", "9223372036854775807"),
        ("max.message.bytes", "2000000", "2000000"),
        ("message.timestamp.type", "LogAppendTime", "LogAppendTime"),
        ("message.timestamp.before.max.ms", "5", "5"),
        ("message.timestamp.after.max.ms", "9223372036854775807", "9223372036854775807"),
        ("compression.type", "uncompressed", "uncompressed"),
        ("compression.type", "zstd", "zstd"),
        ("compression.type", "producer", "producer"),
        ("delete.retention.ms", "100", "100"),
        ("min.cleanable.dirty.ratio", "0.01", "0.01"),
        ("min.cleanable.dirty.ratio", "1", "1.0"),
        ("min.cleanable.dirty.ratio", "0", "0.0"),
        ("min.compaction.lag.ms", "7", "7"),
        ("max.compaction.lag.ms", "7", "7"),
        ("min.insync.replicas", "1", "1"),
        ("flush.ms", "12345678", "12345678"),
        ("message.downconversion.enable", "FALSE", "false"),
    ];
    for (name, given, told) in values {
        let config = TopicConfig::kafka(3).altered(&[set(name, given)]).unwrap();
        let setting = described(&config, name);
        assert_eq!((setting.value.as_str(), setting.source), (told, SettingSource::Topic), "{name}={given}");
        assert_eq!(config.partitions, 3);
        // What is told can be given again, and a reset leaves nothing of it.
        assert_eq!(config.altered(&[set(name, told)]).unwrap(), config, "{name}={given}");
        let reset = config.altered(&[SettingChange::Reset { name: name.into() }]).unwrap();
        assert_eq!(reset, TopicConfig::kafka(3), "{name}={given}");
    }
}

#[test]
fn fields_are_what_the_names_say() {
    let changes = [
        set("cleanup.policy", "compact"),
        set("retention.ms", "-1"),
        set("retention.bytes", "5"),
        set("segment.ms", "6"),
        set("max.message.bytes", "7"),
        set("message.timestamp.type", "LogAppendTime"),
        set("compression.type", "lz4"),
        set("delete.retention.ms", "8"),
        set("min.cleanable.dirty.ratio", "0.25"),
        set("min.compaction.lag.ms", "9"),
        set("max.compaction.lag.ms", "10"),
    ];
    let config = TopicConfig::kafka(1).altered(&changes).unwrap();
    let expected = TopicConfig {
        cleanup: CleanupPolicy::Compact,
        retention_ms: None,
        retention_bytes: Some(5),
        segment_ms: Some(6),
        max_batch_size_bytes: Some(7),
        timestamp_type: TimestampType::LogAppendTime,
        recompression: Some(Compression::Lz4),
        delete_retention_ms: 8,
        min_dirty_ratio_ppm: 250_000,
        min_compaction_lag_ms: 9,
        max_compaction_lag_ms: Some(10),
        explicit: config.explicit.clone(),
        ..TopicConfig::kafka(1)
    };
    assert_eq!(config, expected);
    assert_eq!(config.explicit.len(), changes.len());
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    for (name, value, reason) in [
        ("cleanup.policy", "", "must be delete, compact, or both"),
        ("cleanup.policy", "compact,archive", "must be delete, compact, or both"),
        ("retention.ms", "-2", "must be at least -1"),
        ("retention.ms", "soon", "must be a whole number"),
        ("segment.bytes", "1048575", "must be at least 1048576"),
        ("segment.bytes", "2147483647", "must be at most 1073741824"),
        ("segment.ms", "0", "must be at least 1"),
        ("max.message.bytes", "-1", "must be a whole number"),
        ("message.timestamp.type", "createtime", "must be CreateTime or LogAppendTime"),
        ("compression.type", "brotli", "must be producer"),
        ("min.cleanable.dirty.ratio", "1.1", "must be from 0 to 1"),
        ("min.cleanable.dirty.ratio", "NaN", "must be from 0 to 1"),
        ("min.insync.replicas", "2", "always \"1\" here"),
        ("unclean.leader.election.enable", "true", "always \"false\" here"),
        ("remote.storage.enable", "true", "no tiered storage"),
        ("flush.messages", "0", "must be at least 1"),
    ] {
        let what = refused(name, value);
        assert!(what.contains(reason) && what.contains(name), "{name}={value}: {what}");
    }
    assert!(refused("no.such.setting", "1").contains("no topic setting \"no.such.setting\""));
    let contradiction = [set("min.compaction.lag.ms", "5"), set("max.compaction.lag.ms", "4")];
    assert!(TopicConfig::kafka(1).altered(&contradiction).is_err());
    let too_large = TopicConfig { max_batch_size_bytes: Some(65 << 20), ..TopicConfig::kafka(1) };
    assert!(too_large.validate().is_ok());
    assert!(too_large.validate_for(&BrokerConfig::default()).is_err());
}

#[test]
fn lists_are_added_to_and_taken_from() {
    let append = |value: &str| SettingChange::Append { name: "cleanup.policy".into(), value: value.into() };
    let subtract = |value: &str| SettingChange::Subtract { name: "cleanup.policy".into(), value: value.into() };
    let both = TopicConfig::kafka(1).altered(&[append("compact")]).unwrap();
    assert_eq!(both.cleanup, CleanupPolicy::CompactAndDelete);
    assert_eq!(both.altered(&[append("compact")]).unwrap(), both);
    assert_eq!(both.altered(&[subtract("delete")]).unwrap().cleanup, CleanupPolicy::Compact);
    assert!(both.altered(&[subtract("delete,compact")]).is_err(), "a topic has some policy");
    let number = SettingChange::Append { name: "retention.ms".into(), value: "1".into() };
    assert!(both.altered(&[number]).is_err());
}

#[test]
fn a_setting_says_where_it_comes_from() {
    let kafka = TopicConfig::kafka(1);
    let all = kafka.describe(&BrokerConfig::default());
    assert!(all.iter().all(|setting| setting.source != SettingSource::Topic), "nothing was set");
    assert!(all.is_sorted_by(|a, b| a.name < b.name));
    let own: Vec<&str> = all.iter().filter(|s| s.source == SettingSource::Broker).map(|s| s.name).collect();
    assert_eq!(own, ["segment.bytes"], "where this broker is not like Kafka");
    let fixed: BTreeSet<&str> = all.iter().filter(|s| s.read_only).map(|s| s.name).collect();
    assert!(fixed.contains("min.insync.replicas") && !fixed.contains("retention.ms"));

    // Set to what it is anyway: it is set all the same.
    let same = kafka.altered(&[set("retention.ms", "604800000")]).unwrap();
    let setting = described(&same, "retention.ms");
    assert_eq!(setting.source, SettingSource::Topic);
    let synonym = |name, value: &str, source| SettingSynonym { name, value: value.into(), source };
    assert_eq!(
        setting.synonyms,
        [
            synonym("retention.ms", "604800000", SettingSource::Topic),
            synonym("log.retention.ms", "604800000", SettingSource::Default)
        ]
    );
    let setting = described(&kafka, "segment.bytes");
    assert_eq!(
        setting.synonyms,
        [
            synonym("log.segment.bytes", "134217728", SettingSource::Broker),
            synonym("log.segment.bytes", "1073741824", SettingSource::Default)
        ]
    );
    // A topic of Highwater's own, which nobody set anything on by name.
    let own = described(&TopicConfig { retention_ms: None, ..TopicConfig::default() }, "retention.ms");
    assert_eq!((own.value.as_str(), own.source), ("-1", SettingSource::Topic));
}

#[test]
fn settings_stored_by_earlier_versions_are_read() {
    let stored = r#"{"partitions":4,"retention_ms":null,"retention_bytes":null,"segment_size_bytes":65536,
        "timestamp_type":"LogAppendTime","compression":"none"}"#;
    let config: TopicConfig = serde_json::from_str(stored).unwrap();
    let expected =
        TopicConfig { retention_ms: None, segment_size_bytes: Some(65536), ..TopicConfig::with_partitions(4) };
    assert_eq!(config, expected);
    let altered = config.altered(&[set("cleanup.policy", "compact"), set("flush.ms", "1")]).unwrap();
    let again: TopicConfig = serde_json::from_str(&serde_json::to_string(&altered).unwrap()).unwrap();
    assert_eq!(again, altered);
}
