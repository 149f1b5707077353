//! Attributes that are columns, too: no answer depends on when they were promoted, or whether they still are.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_broker::ManualClock;
use highwater_pipeline::tables::{TableSpec, built_in_tables};
use highwater_sinks::tables::TablesConfig;
use highwater_sinks::tables::maintenance::{Eagerness, Maintainer, Upkeep};
use serde_json::json;

use crate::fixture::{APPENDED_MS, Fixture};

/// Rows of each commit.
const ROWS: usize = 60;

/// The tables with these attributes of logs promoted.
fn tables(promoted: &[&str]) -> Vec<TableSpec> {
    let mut tables = built_in_tables();
    let logs = tables.iter_mut().find(|table| table.name == "logs").unwrap();
    logs.promote(promoted.iter().copied()).unwrap();
    tables
}

fn logs(promoted: &[&str]) -> TableSpec {
    tables(promoted).into_iter().find(|table| table.name == "logs").unwrap()
}

/// Appends rows `first..first + ROWS`: each third has a route, each fifth a tier, a few an empty one, the rest nothing.
async fn append(fixture: &Fixture, first: usize) {
    let rows: Vec<_> = (first..first + ROWS)
        .map(|n| {
            let mut labels = BTreeMap::from([("n", n.to_string())]);
            if n % 3 == 0 {
                labels.insert("http.route", format!("/route/{n:05}"));
            }
            if n % 5 == 0 {
                labels.insert("tier", if n % 10 == 0 { "gold" } else { "" }.to_owned());
            }
            json!({"timestamp": format!("2026-01-02T03:{:02}:00Z", n % 60), "service": "web", "message": format!("row {n}"), "labels": labels})
        })
        .collect();
    fixture.append_json("logs", i32::try_from(first / ROWS % 4).unwrap(), &json!(rows)).await;
}

async fn compact(fixture: &Fixture, spec: TableSpec) {
    let clock = Arc::new(ManualClock::new(APPENDED_MS));
    let config = Arc::new(TablesConfig::default());
    let opened = Maintainer::open(Arc::new(spec), &fixture.storage, config, clock, Upkeep::new(0)).await;
    let compacted = opened.unwrap().compact(Eagerness::Everything).await.unwrap();
    assert_eq!(compacted.files, 1, "{compacted:?}");
}

/// Queries, each in words of the map; what stands for the column is replaced.
const QUERIES: [&str; 12] = [
    "SELECT count(*), count({route}), count(DISTINCT {tier}) FROM logs",
    "SELECT message FROM logs WHERE {route} = '/route/00063' ORDER BY message",
    "SELECT message FROM logs WHERE {route} IN ('/route/00003', '/route/00123', '/nowhere') ORDER BY message",
    "SELECT count(*) FROM logs WHERE {route} IS NULL AND {tier} IS NOT NULL",
    "SELECT count(*) FROM logs WHERE {route} IS DISTINCT FROM '/route/00006' AND {tier} <> 'gold'",
    "SELECT {tier}, count(*) FROM logs GROUP BY {tier} ORDER BY 1 NULLS FIRST",
    "SELECT {route} AS r, {tier} AS t, message FROM logs WHERE {route} > '/route/00030' ORDER BY r DESC, message LIMIT 7",
    "SELECT max({route}), min({tier}) FROM logs WHERE timestamp >= '2026-01-02T03:20:00Z'",
    "SELECT count(*) FROM logs a JOIN logs b ON {a.route} = {b.route} AND {a.tier} = 'gold'",
    "SELECT count(*) FROM logs a LEFT JOIN (SELECT * FROM logs WHERE {tier} = 'gold') b ON a.message = b.message WHERE {b.route} IS NULL",
    "WITH x AS (SELECT * FROM logs WHERE service = 'web') SELECT count(*) FROM x WHERE {x.route} LIKE '/route/0001%' OR {x.tier} = ''",
    "SELECT rank, message FROM (SELECT *, row_number() OVER (ORDER BY message) AS rank FROM logs) o WHERE {o.route} = '/route/00009'",
];

/// A query with the attributes taken from the map, by either spelling, or from the columns.
fn spelt(query: &str, spelling: &str) -> String {
    let mut text = query.to_owned();
    for table in ["", "a.", "b.", "x.", "o."] {
        for (name, attribute) in [("route", "http.route"), ("tier", "tier")] {
            let by = match spelling {
                "column" => format!("{table}\"{attribute}\""),
                "arrow" => format!("({table}attributes ->> '{attribute}')"),
                _ => format!("{table}attributes['{attribute}']"),
            };
            text = text.replace(&format!("{{{table}{name}}}"), &by);
        }
    }
    text
}

async fn answers(fixture: &Fixture, spelling: &str) -> Vec<Vec<String>> {
    let mut answers = Vec::new();
    for query in QUERIES {
        let query = spelt(query, spelling);
        answers.push(fixture.rows(&query).await.unwrap_or_else(|error| panic!("{query}: {error}")));
    }
    answers
}

/// Asks with and without the promotion, in all spellings; every answer has to be that of the map.
async fn same(fixture: &Fixture, at: &str) -> Vec<Vec<String>> {
    fixture.engine.set_tables(tables(&[]));
    let plain = answers(fixture, "map").await;
    fixture.engine.set_tables(tables(&["http.route", "tier"]));
    assert_eq!(answers(fixture, "map").await, plain, "{at}, both promoted");
    assert_eq!(answers(fixture, "column").await, plain, "{at}, by the columns");
    // Once is enough for the other spelling: it is the same by the time it is planned.
    if at == "merged" {
        fixture.engine.set_tables(tables(&["tier"]));
        assert_eq!(answers(fixture, "arrow").await, plain, "{at}, one of two promoted");
    }
    plain
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_those_of_the_map() {
    let both = &["http.route", "tier"];
    let fixture = Fixture::new().await;
    append(&fixture, 0).await;
    let first = same(&fixture, "in the log").await;
    assert_eq!(first[0], ["60,20,2"]);
    assert_eq!(first[5], [",48", ",6", "gold,6"], "no tier, an empty one, gold");
    assert_eq!(first[11], ["60,row 9"]);
    fixture.commit(&logs(&[])).await;
    append(&fixture, ROWS).await;
    assert_eq!(same(&fixture, "stored before").await[1], ["row 63"]);
    fixture.commit(&logs(both)).await;
    append(&fixture, 2 * ROWS).await;
    same(&fixture, "stored before and after").await;
    fixture.commit(&logs(&["tier"])).await;
    same(&fixture, "one of two no longer promoted").await;
    // Whoever merges without knowing of it has the column made all the same.
    compact(&fixture, logs(&[])).await;
    same(&fixture, "merged").await;
    append(&fixture, 3 * ROWS).await;
    fixture.commit(&logs(&[])).await;
    assert_eq!(same(&fixture, "stored without").await[0], ["240,80,2"]);
    compact(&fixture, logs(both)).await;
    let last = same(&fixture, "merged again").await;
    assert_eq!(last[0], ["240,80,2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_and_maps_leave_files_and_row_groups_out() {
    let promoted = &["http.route"];
    let fixture = Fixture::new().await;
    fixture.engine.set_tables(tables(promoted));
    for commit in 0..4 {
        append(&fixture, commit * ROWS).await;
        fixture.commit(&logs(promoted)).await;
    }
    for by in ["\"http.route\"", "attributes['http.route']", "attributes ->> 'http.route'"] {
        let of_one = format!("SELECT message FROM logs WHERE {by} = '/route/00123'");
        assert_eq!(fixture.rows(&of_one).await.unwrap(), ["row 123"], "{by}");
        let plan = fixture.rows(&format!("EXPLAIN {of_one}")).await.unwrap().join("\n");
        assert!(
            plan.contains("1 group") && plan.contains("http.route@"),
            "{by}: the other three files' bounds\n{plan}"
        );
        assert!(!plan.contains("attributes"), "{by}: the map is not read\n{plan}");
        // Within the bounds of a file, and not there: its Bloom filter says so.
        let nowhere = format!("SELECT message FROM logs WHERE {by} = '/route/00122'");
        assert_eq!(fixture.rows(&nowhere).await.unwrap(), Vec::<String>::new(), "{by}");
        let plan = fixture.rows(&format!("EXPLAIN ANALYZE {nowhere}")).await.unwrap().join("\n");
        assert!(plan.contains("row_groups_pruned_bloom_filter=1 total → 0 matched"), "{by}\n{plan}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_another_writer_left_empty_is_not_believed() {
    let promoted = &["http.route"];
    let fixture = Fixture::new().await;
    fixture.engine.set_tables(tables(promoted));
    append(&fixture, 0).await;
    fixture.commit(&logs(promoted)).await;
    // The file, as a writer that knows nothing of promotions could have written it: a name that is not ours, and statistics that say there is nothing.
    let table = fixture.directory.path().join("storage/tables/logs");
    let commit = table.join("_delta_log/00000000000000000001.json");
    let text = std::fs::read_to_string(&commit).unwrap();
    let from = text.find("tenant=").unwrap();
    let path = &text[from..from + text[from..].find(".parquet").unwrap() + ".parquet".len()];
    let theirs = format!("{}/part-00000.parquet", path.rsplit_once('/').unwrap().0);
    std::fs::rename(table.join(path), table.join(&theirs)).unwrap();
    let bounds = |word: &str| format!("\\\"http.route\\\":\\\"/route/{word}\\\"");
    assert!(text.contains(&bounds("00000")) && text.contains(&bounds("00057")), "{text}");
    let text = text
        .replace(path, &theirs)
        .replace(&bounds("00000"), &bounds("99999"))
        .replace(&bounds("00057"), &bounds("99999"));
    std::fs::write(&commit, text).unwrap();
    assert_eq!(same(&fixture, "written by another").await[0], ["60,20,2"]);
}
