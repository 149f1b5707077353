//! psql: what it asks of the catalog for its commands, and a session in a pipe.

use tokio::process::Command;

use super::{Door, run, skipped};

async fn psql(door: &Door, commands: &[&str]) -> Result<String, String> {
    let mut psql = Command::new("psql");
    psql.args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "reader", "-d", "highwater"]);
    psql.args(["-p", &door.port().to_string()]);
    for command in commands {
        psql.args(["-c", command]);
    }
    run(&mut psql).await
}

async fn is_missing() -> bool {
    match run(Command::new("psql").arg("--version")).await {
        Ok(_) => false,
        Err(why) => {
            skipped("psql", "HIGHWATER_REQUIRE_PSQL", &why);
            true
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_commands_show_what_there_is() {
    if is_missing().await {
        return;
    }
    let door = Door::new().await;
    let names = ["alerts", "dead_letter", "logs", "metric_metadata", "metrics", "requests_1m", "spans"];
    let tables: String = names.iter().map(|name| format!("public|{name}|table|highwater\n")).collect();
    assert_eq!(psql(&door, &["\\dt"]).await.unwrap(), tables);
    assert_eq!(psql(&door, &["\\dt public.*"]).await.unwrap(), tables);
    let columns = psql(&door, &["\\d requests_1m"]).await.unwrap();
    for line in [
        "service|text|||",
        "requests|bigint|||",
        "window_start|timestamp with time zone|||",
        "_offset|bigint||not null|",
    ] {
        assert!(columns.lines().any(|l| l == line), "{line} is not in\n{columns}");
    }
    let logs = psql(&door, &["\\d+ logs"]).await.unwrap();
    assert!(logs.contains("attributes|jsonb|"), "{logs}");
    let databases = psql(&door, &["\\l"]).await.unwrap();
    assert!(databases.starts_with("highwater|highwater|UTF8|"), "{databases}");
    assert_eq!(psql(&door, &["\\dn"]).await.unwrap(), "public|highwater\n");
    assert!(psql(&door, &["\\du"]).await.unwrap().contains("reader|"));
    let mut refused = Vec::new();
    for quiet in [
        "\\d",
        "\\d+",
        "\\dS pg_class",
        "\\dt+ logs",
        "\\dv+",
        "\\d+ alert_history",
        "\\sv alert_history",
        "\\di+",
        "\\dm",
        "\\ds",
        "\\dE",
        "\\df",
        "\\df+ *rate*",
        "\\da",
        "\\dn+",
        "\\l+",
        "\\du+",
        "\\drds",
        "\\dT+",
        "\\dD",
        "\\dC",
        "\\dc",
        "\\do",
        "\\dO",
        "\\dd",
        "\\ddp",
        "\\dp",
        "\\z logs",
        "\\db+",
        "\\dF",
        "\\dFd",
        "\\dFp",
        "\\dFt",
        "\\dL",
        "\\dP",
        "\\dX",
        "\\dx+",
        "\\dy",
        "\\dA+",
        "\\dAc",
        "\\dAf",
        "\\dAo",
        "\\dAp",
        "\\des",
        "\\det",
        "\\deu",
        "\\dew",
        "\\dRp",
        "\\dRs",
        "\\lo_list",
        "\\conninfo",
        "\\encoding",
    ] {
        if let Err(error) = psql(&door, &[quiet]).await {
            refused.push(format!("{quiet}: {error}"));
        }
    }
    assert_eq!(refused, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_in_a_pipe() {
    if is_missing().await {
        return;
    }
    let door = Door::new().await;
    let said = psql(
        &door,
        &[
            "SELECT count(*), min(timestamp) FROM logs",
            "BEGIN; SELECT service, count(*) FROM logs GROUP BY 1 ORDER BY 1; COMMIT",
            "SELECT attributes ->> 'path' FROM logs WHERE message = 'GET /x 500'",
            "SET statement_timeout = '5s'",
            "SHOW server_version",
        ],
    )
    .await
    .unwrap();
    assert_eq!(said, "6|2026-01-02 03:00:00+00\nBEGIN\ndb|2\nweb|4\nCOMMIT\n/x\nSET\n15.10\n");
    let error = psql(&door, &["SELECT * FROM logs\nWHERE nosuch = 1"]).await.unwrap_err();
    assert!(error.contains("LINE 2: WHERE nosuch = 1") && error.contains("      ^"), "{error}");
    // Times in the zone of the session, and rows into a file of the client.
    let said = psql(
        &door,
        &[
            "SET TimeZone = 'America/New_York'",
            "SELECT min(timestamp) FROM logs",
            "\\copy (SELECT service, message FROM logs WHERE attributes ->> 'path' = '/x' OR host = 'c' ORDER BY 2) TO STDOUT CSV HEADER",
            "COPY (SELECT 1, NULL, E'a\tb') TO STDOUT",
        ],
    )
    .await
    .unwrap();
    assert_eq!(
        said,
        "SET\n2026-01-01 22:00:00-05\nservice,message\nweb,GET /x 500\nweb,\"naïve ✓ \"\"quoted\"\", comma\"\nweb,out of memory\n1\t\\N\ta\\tb\n"
    );
    // Rows in parts, by a cursor.
    let rows = psql(&door, &["\\set FETCH_COUNT 100", "SELECT * FROM generate_series(1, 1000)"]).await.unwrap();
    assert_eq!(rows.lines().count(), 1000);
}
