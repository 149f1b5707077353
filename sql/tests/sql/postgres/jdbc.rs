//! pgjdbc: what Java's tools ask through it. `Clients.java` has what is done, and checks it.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::{Door, run, skipped};

const DRIVER: &str = "org.postgresql:postgresql:42.7.4";
const JAR: &str = ".m2/repository/org/postgresql/postgresql/42.7.4/postgresql-42.7.4.jar";

/// The driver; brought by Maven where it is not there yet.
async fn driver() -> Result<PathBuf, String> {
    let jar = Path::new(&std::env::var("HOME").unwrap_or_default()).join(JAR);
    if !jar.exists() {
        run(Command::new("mvn").args(["-q", "dependency:get", "-Dtransitive=false", &format!("-Dartifact={DRIVER}")]))
            .await?;
    }
    if jar.exists() { Ok(jar) } else { Err(format!("{} is not there", jar.display())) }
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_and_metadata() {
    let jar = match driver().await {
        Ok(jar) => jar,
        Err(why) => return skipped("pgjdbc", "HIGHWATER_REQUIRE_PGJDBC", &why),
    };
    let door = Door::new().await;
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sql/postgres/Clients.java");
    let ran = run(Command::new("java").arg("-cp").arg(jar).arg(source).arg(door.port().to_string())).await;
    assert_eq!(ran.as_deref(), Ok("done\n"), "{}", ran.clone().unwrap_or_else(|e| e));
}
