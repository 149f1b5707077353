//! psycopg 3, psycopg2, asyncpg and SQLAlchemy: `clients.py` has what they do, and checks it.

use tokio::process::Command;

use super::{Door, run, skipped};

#[tokio::test(flavor = "multi_thread")]
async fn drivers_and_an_orm() {
    let python = std::env::var("HIGHWATER_PYTHON").unwrap_or_else(|_| "python3".to_string());
    for module in ["psycopg", "psycopg2", "asyncpg", "sqlalchemy"] {
        if let Err(why) = run(Command::new(&python).args(["-c", &format!("import {module}")])).await {
            skipped(module, "HIGHWATER_REQUIRE_PSYCOPG", &why);
            continue;
        }
        let door = Door::new().await;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sql/postgres/clients.py");
        let ran = run(Command::new(&python).arg(script).arg(module).arg(door.port().to_string())).await;
        assert_eq!(ran.as_deref(), Ok("done\n"), "{module}: {}", ran.clone().unwrap_or_else(|e| e));
    }
}
