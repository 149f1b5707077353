//! The same promises on every way to run Highwater: one process on the embedded log, and a gateway, three workers and a query node on a
//! real Apache Kafka with their tables in a shared directory or on an S3 server.
//!
//! Kafka and the S3 server are started by `tests/kafka/start` and `tests/s3/start`. Where they cannot be had the tests say so and pass;
//! with `HIGHWATER_REQUIRE_KAFKA=1`, `HIGHWATER_REQUIRE_S3=1` they fail.

mod chaos;
mod cluster;
#[path = "../../kafka/fixture.rs"]
pub(crate) mod kafka;
#[path = "../../s3/server.rs"]
mod s3;
#[path = "../../s3/proxy.rs"]
mod s3_proxy;
mod scenarios;

use cluster::Cluster;

use crate::support::{Server, Site};

/// Somewhere to send to and to ask.
pub enum Deployment {
    /// One process that is everything.
    Alone { site: Site, server: Box<Server> },
    /// Several, by roles.
    Together(Box<Cluster>),
}

impl Deployment {
    /// One process on the embedded log.
    pub async fn alone(config: &str, files: &[(&str, &str)]) -> Self {
        let site = Site::with_config(config);
        for (name, content) in files {
            site.write(name, content);
        }
        let server = Box::new(site.start().await);
        Self::Alone { site, server }
    }

    /// A gateway, three workers, a query node. `None` where there is no Kafka (said by then), or `on_s3` and no S3 server.
    pub async fn together(config: &str, files: &[(&str, &str)], on_s3: bool) -> Option<Self> {
        Some(Self::Together(Box::new(Cluster::start(config, files, on_s3).await?)))
    }

    pub fn gateway(&self) -> &Server {
        match self {
            Self::Alone { server, .. } => server,
            Self::Together(cluster) => cluster.gateway(),
        }
    }

    pub fn query(&self) -> &Server {
        match self {
            Self::Alone { server, .. } => server,
            Self::Together(cluster) => cluster.query(),
        }
    }

    /// Kills every process with -9 and starts it again.
    pub async fn crash(&mut self) {
        match self {
            Self::Alone { site, server } => {
                server.kill_in_place().await;
                **server = site.start().await;
            }
            Self::Together(cluster) => cluster.crash().await,
        }
    }

    /// Stops every process with SIGTERM, asserts that each ends well, and that what they leave behind is whole.
    pub async fn finish(self) {
        match self {
            Self::Alone { site, server } => {
                server.stop().await;
                site.verify().await;
            }
            Self::Together(cluster) => cluster.finish().await,
        }
    }
}
