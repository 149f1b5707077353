//! The views in SQL that every Highwater has, over rows in the log, in tables, and in both.

use highwater_pipeline::tables::built_in_tables;
use serde_json::json;

use crate::fixture::Fixture;

/// What is appended, and after which part of it the tables are committed.
async fn filled(committed: &[usize]) -> Fixture {
    let fixture = Fixture::new().await;
    let alert = |minute: u32, fingerprint: &str, state: &str| {
        json!({"timestamp": format!("2026-01-02T03:{minute:02}:00Z"), "fingerprint": fingerprint, "alertname": "Down", "group_name": "g", "state": state,
               "labels": {"service": fingerprint}, "annotations": {}, "value": f64::from(minute), "starts_at": "2026-01-02T03:00:00Z", "tenant": "default"})
    };
    for part in 0..2 {
        match part {
            0 => {
                for transition in [alert(0, "a", "pending"), alert(1, "a", "firing"), alert(1, "b", "pending")] {
                    fixture.append_json("alerts", 0, &transition).await;
                }
                for (ms, ok) in [("10", "true"), ("20", "true"), ("30", "false")] {
                    let attributes = json!({"action": "checkout", "duration_ms": ms, "success": ok});
                    let log = json!({"timestamp": "2026-01-02T03:00:00Z", "message": "m", "labels": attributes});
                    fixture.append_json("logs", 0, &log).await;
                }
            }
            _ => {
                for transition in [alert(6, "a", "resolved"), alert(7, "b", "inactive")] {
                    fixture.append_json("alerts", 0, &transition).await;
                }
                let log = json!({"timestamp": "2026-01-02T03:05:00Z", "message": "m", "level": "ERROR", "labels": {"action": "login"}});
                fixture.append_json("logs", 1, &log).await;
                let sample = |labels: serde_json::Value, minute: u32, value: f64| {
                    json!({"name": "slo:error_budget_remaining:ratio", "value": value, "type": "gauge", "labels": labels,
                           "timestamp": format!("2026-01-02T03:{minute:02}:00Z")})
                };
                for (minute, value) in [(0, 0.9), (1, 0.75)] {
                    fixture.append_json("metrics", 0, &sample(json!({"slo": "checkout"}), minute, value)).await;
                }
            }
        }
        if committed.contains(&part) {
            for table in built_in_tables() {
                fixture.commit(&table).await;
            }
        }
    }
    fixture
}

async fn everywhere() -> Vec<Fixture> {
    vec![filled(&[]).await, filled(&[0]).await, filled(&[0, 1]).await]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_is_in_each_state_for_some_time() {
    for fixture in everywhere().await {
        let sql = "SELECT fingerprint, state, previous_state, until, duration_seconds, labels ->> 'service', value FROM alert_history \
                   ORDER BY fingerprint, timestamp";
        assert_eq!(
            fixture.rows(sql).await.unwrap(),
            [
                "a,pending,,2026-01-02T03:01:00Z,60.0,a,0.0",
                "a,firing,pending,2026-01-02T03:06:00Z,300.0,a,1.0",
                "a,resolved,firing,,,a,6.0",
                "b,pending,,2026-01-02T03:07:00Z,360.0,b,1.0",
                "b,inactive,pending,,,b,7.0"
            ]
        );
        // How long it has fired, of one alert.
        let sql = "SELECT sum(duration_seconds) FROM alert_history WHERE alertname = 'Down' AND state = 'firing'";
        assert_eq!(fixture.one(sql).await, "300.0");
        assert!(fixture.rows_of("other", "SELECT * FROM alert_history").await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_are_counted_and_timed() {
    for fixture in everywhere().await {
        let sql = "SELECT action, count, failures, round(success_rate, 3), avg_ms, p50_ms, p99_ms, last_seen FROM telemetry_summary ORDER BY action";
        assert_eq!(
            fixture.rows(sql).await.unwrap(),
            ["checkout,3,1,0.667,20.0,20.0,30.0,2026-01-02T03:00:00Z", "login,1,1,0.0,,,,2026-01-02T03:05:00Z"]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_slo_has_its_newest_values() {
    for fixture in everywhere().await {
        let sql = "SELECT slo, series, value, timestamp FROM slo_status";
        assert_eq!(
            fixture.rows(sql).await.unwrap(),
            ["checkout,slo:error_budget_remaining:ratio,0.75,2026-01-02T03:01:00Z"]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn views_are_listed_with_their_columns_and_read_what_the_query_reads() {
    let fixture = Fixture::new().await;
    let sql = "SELECT table_name, table_type FROM information_schema.tables WHERE table_type = 'VIEW' AND table_schema = 'public' ORDER BY 1";
    assert_eq!(fixture.rows(sql).await.unwrap(), ["alert_history,VIEW", "slo_status,VIEW", "telemetry_summary,VIEW"]);
    let described = fixture.rows("DESCRIBE telemetry_summary").await.unwrap();
    assert_eq!(described[0], "action,Utf8,YES");
    assert!(described.contains(&"p95_ms,Float64,YES".to_string()), "{described:?}");
    for view in ["alert_history", "slo_status", "telemetry_summary"] {
        assert_eq!(fixture.one(&format!("SELECT count(*) FROM {view}")).await, "0");
    }
    let both = "SELECT count(*) FROM alert_history h FULL JOIN alerts a ON a._offset = 0";
    let result = fixture.engine.query("default", both).await.unwrap();
    let tables: Vec<&str> = result.info().tables.iter().map(|t| t.table.as_str()).collect();
    assert_eq!(tables, ["alerts"], "one look at the table for both");
}
