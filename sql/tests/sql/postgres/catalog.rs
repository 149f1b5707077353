//! What tools ask of the catalog beside what they are made for: Grafana's data source, and BI tools that speak no JDBC.

use tokio_postgres::SimpleQueryMessage;

use super::Door;

async fn rows(client: &tokio_postgres::Client, sql: &str) -> Vec<String> {
    let messages = client
        .simple_query(sql)
        .await
        .unwrap_or_else(|e| panic!("{sql}: {}", e.as_db_error().map_or_else(|| e.to_string(), ToString::to_string)));
    messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                let values: Vec<&str> = (0..row.len()).map(|i| row.get(i).unwrap_or("NULL")).collect();
                Some(values.join("|"))
            }
            _ => None,
        })
        .collect()
}

/// The schemas of the session's search path, as Grafana works them out.
const SEARCH_PATH: &str = "SELECT CASE WHEN trim(s[i]) = '\"$user\"' THEN user ELSE trim(s[i]) END \
    FROM generate_series(array_lower(string_to_array(current_setting('search_path'),','),1), \
    array_upper(string_to_array(current_setting('search_path'),','),1)) as i, \
    string_to_array(current_setting('search_path'),',') s";

#[tokio::test(flavor = "multi_thread")]
async fn grafana_finds_tables_and_columns() {
    let door = Door::new().await;
    let client = door.client().await;
    assert_eq!(rows(&client, "SELECT current_setting('server_version_num')::int/100 as version").await, ["1500"]);
    assert!(rows(&client, "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'").await.is_empty());
    let tables = ["alerts", "dead_letter", "logs", "metric_metadata", "metrics", "requests_1m", "spans"];
    let hidden = "quote_ident(table_schema) NOT IN ('information_schema', 'pg_catalog', '_timescaledb_cache')";
    let old = format!(
        "select quote_ident(table_name) as \"table\" from information_schema.tables where {hidden} and table_type = 'BASE TABLE' \
         and quote_ident(table_schema) IN ({SEARCH_PATH}) ORDER BY 1"
    );
    assert_eq!(rows(&client, &old).await, tables);
    let new = format!(
        "SELECT CASE WHEN quote_ident(table_schema) IN ({SEARCH_PATH}) THEN quote_ident(table_name) \
         ELSE quote_ident(table_schema) || '.' || quote_ident(table_name) END AS \"table\" \
         FROM information_schema.tables WHERE {hidden} ORDER BY 1"
    );
    let found = rows(&client, &new).await;
    assert!(tables.iter().all(|table| found.contains(&table.to_string())), "{found:?}");
    let columns = format!(
        "SELECT quote_ident(column_name) AS \"column\", data_type AS \"type\" FROM information_schema.columns \
         WHERE CASE WHEN array_length(parse_ident('logs'),1) = 2 THEN quote_ident(table_schema) = (parse_ident('logs'))[1] \
         AND quote_ident(table_name) = (parse_ident('logs'))[2] \
         ELSE quote_ident(table_name) = 'logs' AND quote_ident(table_schema) IN ({SEARCH_PATH}) END"
    );
    let columns = rows(&client, &columns).await;
    for column in ["timestamp|timestamp with time zone", "message|text", "_offset|bigint", "attributes|jsonb"] {
        assert!(columns.contains(&column.to_string()), "{column}: {columns:?}");
    }
}

/// What Npgsql (Power BI, .NET) asks as it connects.
const NPGSQL: &str = "SELECT ns.nspname, t.oid, t.typname, t.typtype, t.typnotnull, t.elemtypoid FROM ( \
    SELECT typ.oid, typ.typnamespace, typ.typname, typ.typtype, typ.typrelid, typ.typnotnull, typ.relkind, elemtyp.oid AS elemtypoid, \
      elemtyp.typname AS elemtypname, elemcls.relkind AS elemrelkind, \
      CASE WHEN elemproc.proname='array_recv' THEN 'a' ELSE elemtyp.typtype END AS elemtyptype, typ.typcategory \
    FROM (SELECT typ.oid, typnamespace, typname, typrelid, typnotnull, relkind, typelem AS elemoid, \
        CASE WHEN proc.proname='array_recv' THEN 'a' ELSE typ.typtype END AS typtype, \
        CASE WHEN proc.proname='array_recv' THEN typ.typelem WHEN typ.typtype='r' THEN rngsubtype \
          WHEN typ.typtype='m' THEN (SELECT rngtypid FROM pg_range WHERE rngmultitypid = typ.oid) \
          WHEN typ.typtype='d' THEN typ.typbasetype END AS elemtypoid, typ.typcategory \
      FROM pg_type AS typ LEFT JOIN pg_class AS cls ON (cls.oid = typ.typrelid) LEFT JOIN pg_proc AS proc ON proc.oid = typ.typreceive \
      LEFT JOIN pg_range ON (pg_range.rngtypid = typ.oid)) AS typ \
    LEFT JOIN pg_type AS elemtyp ON elemtyp.oid = elemtypoid LEFT JOIN pg_class AS elemcls ON (elemcls.oid = elemtyp.typrelid) \
    LEFT JOIN pg_proc AS elemproc ON elemproc.oid = elemtyp.typreceive) AS t JOIN pg_namespace AS ns ON (ns.oid = typnamespace) \
    WHERE (typtype IN ('b', 'r', 'm', 'e', 'd') OR (typtype = 'c' AND relkind='c') \
      OR (typtype = 'p' AND typname IN ('record', 'void', 'unknown')) OR (typtype = 'a' AND (elemtyptype IN ('b', 'r', 'm', 'e', 'd') \
        OR (elemtyptype = 'p' AND elemtypname IN ('record', 'void')) OR (elemtyptype = 'c' AND elemrelkind='c')))) \
    ORDER BY CASE WHEN typtype IN ('b', 'e', 'p') THEN 0 WHEN typtype = 'c' THEN 1 WHEN typtype = 'r' THEN 2 WHEN typtype = 'm' THEN 3 \
      WHEN typtype = 'd' AND elemtyptype <> 'a' THEN 4 WHEN typtype = 'a' THEN 5 WHEN typtype = 'd' AND elemtyptype = 'a' THEN 6 END";

#[tokio::test(flavor = "multi_thread")]
async fn npgsql_metabase_and_dbeaver_come_in() {
    let door = Door::new().await;
    let client = door.client().await;
    let types = rows(&client, NPGSQL).await;
    for known in ["pg_catalog|25|text|b|f|NULL", "pg_catalog|1184|timestamptz|b|f|NULL", "pg_catalog|1009|_text|a|f|25"]
    {
        assert!(types.contains(&known.to_string()), "{known} is not among {} types: {:?}", types.len(), &types[..3]);
    }
    // Metabase: columns, with their comments, and how many rows there may be.
    let columns = "SELECT c.column_name AS name, CASE WHEN c.udt_schema IN ('public', 'pg_catalog') THEN format('%s', c.udt_name) \
        ELSE format('\"%s\".\"%s\"', c.udt_schema, c.udt_name) END AS \"database-type\", c.ordinal_position - 1 AS \"database-position\", \
        pk.column_name IS NOT NULL AS \"pk?\" FROM information_schema.columns AS c LEFT JOIN (SELECT tc.table_schema, tc.table_name, kc.column_name \
        FROM information_schema.table_constraints AS tc INNER JOIN information_schema.key_column_usage AS kc \
        ON (tc.constraint_name = kc.constraint_name) AND (tc.table_schema = kc.table_schema) AND (tc.table_name = kc.table_name) \
        WHERE tc.constraint_type = 'PRIMARY KEY') AS pk ON (c.table_schema = pk.table_schema) AND (c.table_name = pk.table_name) \
        AND (c.column_name = pk.column_name) WHERE c.table_schema = 'public' AND c.table_name = 'logs' ORDER BY 3 LIMIT 2";
    assert_eq!(rows(&client, columns).await, ["timestamp|timestamptz|0|f", "observed_timestamp|timestamptz|1|f"]);
    // DBeaver: extensions with the tables that configure them.
    let extensions = "SELECT e.oid, cfg.tbl, e.extname, n.nspname AS schema_name FROM pg_catalog.pg_extension e \
        LEFT JOIN pg_namespace n ON n.oid = e.extnamespace LEFT JOIN (SELECT extname, string_agg(ns.nspname || '.' || cl.relname, ',') tbl \
        FROM (SELECT extname, unnest(extconfig) conf FROM pg_catalog.pg_extension) e1 LEFT OUTER JOIN pg_catalog.pg_class cl ON cl.oid = conf \
        LEFT OUTER JOIN pg_catalog.pg_namespace ns ON cl.relnamespace = ns.oid GROUP BY extname) AS cfg ON e.extname = cfg.extname";
    for extension in rows(&client, extensions).await {
        assert!(extension.contains("plpgsql"), "{extension}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grafana_draws() {
    let door = Door::new().await;
    let client = door.client().await;
    let filter = "timestamp BETWEEN '2026-01-02T03:00:00Z' AND '2026-01-02T03:05:00Z'";
    for (sql, expected) in [
        // $__timeGroupAlias(timestamp, 1m)
        (format!("SELECT floor(extract(epoch from timestamp)/60)*60 AS \"time\", count(*) AS \"n\" FROM logs WHERE {filter} GROUP BY 1 ORDER BY 1"),
            vec!["1767322800|3", "1767322860|1", "1767322920|1"]),
        // The same with TimescaleDB switched on.
        (format!("SELECT time_bucket('60.000s',timestamp) AS \"time\", count(*) FROM logs WHERE {filter} GROUP BY 1 ORDER BY 1"),
            vec!["2026-01-02 03:00:00+00|3", "2026-01-02 03:01:00+00|1", "2026-01-02 03:02:00+00|1"]),
        // $__unixEpochFilter
        ("SELECT count(*) FROM logs WHERE extract(epoch from timestamp) >= 1767322800 AND extract(epoch from timestamp) <= 1767322860".into(),
            vec!["4"]),
        (format!("SELECT date_trunc('hour', timestamp) AS time, service AS metric, count(*) AS value FROM logs WHERE {filter} GROUP BY 1, 2 ORDER BY 2"),
            vec!["2026-01-02 03:00:00+00|db|1", "2026-01-02 03:00:00+00|web|4"]),
        (format!("SELECT timestamp AS \"time\", message AS body, level, attributes FROM logs WHERE {filter} AND service IN ('web','db') AND message ~* 'slow' LIMIT 50"),
            vec!["2026-01-02 03:01:00+00|slow query|WARNING|{\"ms\":\"1200\"}"]),
        // A variable's values.
        ("SELECT DISTINCT service AS __text, service AS __value FROM logs ORDER BY 1".into(), vec!["db|db", "web|web"]),
    ] {
        assert_eq!(rows(&client, &sql).await, expected, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn identifiers_are_the_same_on_every_connection() {
    let door = Door::new().await;
    let sql = "SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.relname = 'logs' AND c.relkind = 'r'";
    let (first, second) = (rows(&door.client().await, sql).await, rows(&door.client().await, sql).await);
    assert_eq!(first.len(), 1);
    assert_eq!(first, second);
    let client = door.client().await;
    assert_eq!(
        rows(&client, "SELECT 'logs'::regclass::oid = to_regclass('public.logs'), to_regclass('nosuch') IS NULL").await,
        ["t|t"]
    );
    let types = "SELECT a.attname, t.typname, pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
                 WHERE a.attrelid = 'public.logs'::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attname IN ('timestamp', 'attributes') ORDER BY a.attnum";
    assert_eq!(
        rows(&client, types).await,
        ["timestamp|timestamptz|timestamp with time zone", "attributes|jsonb|jsonb"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_tools_ask_when_they_come_in() {
    let door = Door::new().await;
    let client = door.client().await;
    for sql in [
        "SELECT version()",
        "SELECT current_schema(), session_user, current_schemas(true)",
        "select current_setting('is_superuser'), current_setting('nosuch', true)",
        "SELECT db.oid, db.* FROM pg_catalog.pg_database db WHERE datallowconn AND NOT datistemplate ORDER BY db.datname",
        "SELECT n.oid,n.*,d.description FROM pg_catalog.pg_namespace n LEFT OUTER JOIN pg_catalog.pg_description d \
         ON d.objoid=n.oid AND d.objsubid=0 AND d.classoid='pg_namespace'::regclass ORDER BY nspname",
        "SELECT c.oid,c.*,pg_catalog.pg_get_expr(c.relpartbound, c.oid) as partition_expr FROM pg_catalog.pg_class c \
         WHERE c.relnamespace = 2200 AND c.relkind not in ('i','I','c')",
        "SELECT t.oid,t.*,c.relkind FROM pg_catalog.pg_type t LEFT OUTER JOIN pg_class c ON c.oid=t.typrelid WHERE typnamespace = 11 ORDER BY t.oid",
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
        "SELECT table_name, column_name, ordinal_position, is_nullable, udt_name FROM information_schema.columns WHERE table_schema = 'public'",
        "SELECT tc.constraint_name, kcu.column_name FROM information_schema.table_constraints tc JOIN information_schema.key_column_usage kcu \
         ON tc.constraint_name = kcu.constraint_name WHERE tc.constraint_type = 'PRIMARY KEY'",
        "SELECT has_table_privilege('logs', 'SELECT'), has_schema_privilege('public', 'USAGE')",
        "SELECT pid, usename, application_name, state FROM pg_stat_activity WHERE pid = pg_backend_pid()",
        "SELECT name, setting FROM pg_settings WHERE name = 'server_version'",
        "SELECT pg_typeof(timestamp), pg_typeof(attributes), pg_typeof(1) FROM logs LIMIT 1",
        "SELECT rolname, rolsuper FROM pg_roles",
        "SELECT * FROM pg_catalog.pg_get_keywords() LIMIT 5",
        "SHOW ALL",
        "SELECT EXISTS (SELECT 1 FROM information_schema.tables WHERE table_name = 'logs')",
        "SELECT table_name FROM information_schema.views WHERE table_schema = 'public' AND view_definition LIKE '%alerts%'",
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1 FETCH FIRST 2 ROWS ONLY",
        "SELECT every(true), clock_timestamp() > now() - INTERVAL '01:00:00', '{\"a\":1}'::jsonb ->> 'a'",
    ] {
        assert!(!rows(&client, sql).await.is_empty() || sql.contains("PRIMARY KEY"), "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_postgres_says() {
    let door = Door::new().await;
    let client = door.client().await;
    for (sql, expected) in [
        // As Postgres prints them.
        (
            "SELECT timestamp::text, timestamp || '' FROM logs WHERE message = 'GET /x 500'",
            "2026-01-02 03:00:30.5+00|2026-01-02 03:00:30.5+00",
        ),
        (
            "SELECT TIMESTAMP '2026-01-02T03:04:05.120'::text, DATE '2026-01-02'::varchar, 1.0::float8::text, 1e20::float8::text",
            "2026-01-02 03:04:05.12|2026-01-02|1|1e+20",
        ),
        (
            "SELECT (INTERVAL '1 day 2 hours')::text, true::text, NULL::timestamp::text, count(*)::text FROM logs",
            "1 day 02:00:00|true|NULL|6",
        ),
        (
            "SELECT max(timestamp)::text FROM logs GROUP BY service HAVING max(timestamp)::text LIKE '2026-01-03 %'",
            "2026-01-03 00:00:00+00",
        ),
        // Rows and values as JSON.
        (
            "SELECT json_agg(t ORDER BY service) FROM (SELECT service, count(*) AS n FROM logs GROUP BY 1) t",
            r#"[{"service":"db","n":2},{"service":"web","n":4}]"#,
        ),
        (
            "SELECT row_to_json(t) FROM (SELECT 1 AS a, 'x\"y' AS \"B\", NULL::text AS c) AS t",
            r#"{"a":1,"B":"x\"y","c":null}"#,
        ),
        ("SELECT json_agg(host ORDER BY host DESC) FROM (SELECT DISTINCT host FROM logs) AS h", r#"["c","b","a"]"#),
        (
            "SELECT to_json(attributes), to_jsonb(ARRAY[1, 2]) FROM logs WHERE attributes ->> 'ms' = '1200'",
            r#"{"ms":"1200"}|[1,2]"#,
        ),
        (
            "SELECT json_build_object('n', count(*), 'first', min(timestamp)), json_build_array(1, NULL, 'a') FROM logs",
            r#"{"n" : 6, "first" : "2026-01-02T03:00:00Z"}|[1, null, "a"]"#,
        ),
        // What pgjdbc makes of {call upper(?)} and of its other escapes.
        ("select * from upper('abc') as result", "ABC"),
        (
            "SELECT (CAST(1 || ' day' AS interval) + TIMESTAMP '2026-01-02 00:00:00')::date, substring('abc' for 2), pow(2, 3), ln(1)",
            "2026-01-03|ab|8|0",
        ),
        (
            "SELECT extract(day from TIMESTAMP '2026-01-02'), position('b' in 'abc'), trunc(1.55, 1), length(trim(trailing from 'a '))",
            "2|2|1.5|1",
        ),
        (
            "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY host), mode() WITHIN GROUP (ORDER BY host) FROM logs",
            "a|a",
        ),
    ] {
        assert_eq!(rows(&client, sql).await, [expected], "{sql}");
    }
    assert_eq!(rows(&client, "SET TimeZone = 'America/New_York'").await, Vec::<String>::new());
    let local = "SELECT min(timestamp)::text FROM logs";
    assert_eq!(rows(&client, local).await, ["2026-01-01 22:00:00-05"]);
    let row = client.query_one("SELECT json_agg(t) AS all FROM (SELECT 1 AS a) t", &[]).await.unwrap();
    assert_eq!(row.columns()[0].type_(), &tokio_postgres::types::Type::JSON);
    let plans =
        client.query("EXPLAIN (FORMAT JSON) SELECT count(*) FROM logs WHERE service = 'web'", &[]).await.unwrap();
    assert_eq!((plans.len(), plans[0].columns()[0].name()), (1, "QUERY PLAN"));
    assert_eq!(plans[0].columns()[0].type_(), &tokio_postgres::types::Type::JSON);
    let plan = rows(&client, "explain (format json, costs off) SELECT count(*) FROM logs").await;
    let plan: serde_json::Value = serde_json::from_str(&plan[0]).unwrap();
    assert!(plan[0]["Plan"]["Node Type"].is_string(), "{plan}");
    let plan = rows(&client, "EXPLAIN (ANALYZE, VERBOSE, BUFFERS, FORMAT JSON) SELECT count(*) FROM logs").await;
    assert!(serde_json::from_str::<serde_json::Value>(&plan[0]).unwrap()[0]["Plan"].is_object(), "{plan:?}");
    assert!(rows(&client, "EXPLAIN (ANALYZE, VERBOSE) SELECT 1").await.join("").contains("ProjectionExec"));
    let null_key =
        client.simple_query("SELECT json_build_object(host, 1) FROM logs WHERE false OR host IS NOT NULL").await;
    assert!(null_key.is_ok(), "{null_key:?}");
    let error = client.simple_query("SELECT json_build_object(NULL::text, 1)").await.unwrap_err();
    assert!(error.as_db_error().unwrap().message().contains("a key cannot be"), "{error:?}");
    let error = client.simple_query("SELECT * FROM read_csv('/etc/passwd')").await.unwrap_err();
    assert!(error.as_db_error().is_some(), "{error:?}");
}
