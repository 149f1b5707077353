//! OTLP's own ports, for a process that takes data in.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use highwater_broker::tls::Tls;
use highwater_pipeline::access::{Access, Need, guard};
use highwater_pipeline::server::HttpServer;
use highwater_pipeline::sources::Ingest;
use highwater_pipeline::sources::otlp::{grpc, http};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, OtlpPort, TlsSection};
use crate::error::Error;

/// The ports that are open.
#[derive(Default)]
pub(crate) struct OtlpDoors {
    grpc: Option<SocketAddr>,
    http: Option<SocketAddr>,
    tls: Vec<Arc<Tls>>,
    serving: Vec<JoinHandle<()>>,
}

impl OtlpDoors {
    /// Opens those that the configuration has. They close with `closing`.
    pub(crate) async fn open(
        config: &Config,
        access: &Access,
        ingest: &Arc<Ingest>,
        closing: &CancellationToken,
    ) -> Result<Self, Error> {
        let mut doors = Self::default();
        let section = &config.otlp;
        if let Some(listen) = section.grpc_address() {
            let router = guard(grpc::router(Arc::clone(ingest)), access, Need::Ingest);
            doors.grpc =
                Some(doors.serve("otlp_grpc", "--otlp-grpc-listen", listen, &section.grpc, router, closing).await?);
        }
        if let Some(listen) = section.http_address() {
            let router = guard(http::router(Arc::clone(ingest)), access, Need::Ingest);
            doors.http =
                Some(doors.serve("otlp_http", "--otlp-http-listen", listen, &section.http, router, closing).await?);
        }
        Ok(doors)
    }

    async fn serve(
        &mut self,
        door: &'static str,
        flag: &str,
        listen: SocketAddr,
        port: &OtlpPort,
        router: Router,
        closing: &CancellationToken,
    ) -> Result<SocketAddr, Error> {
        let tls = port.tls.as_ref().map(TlsSection::files);
        let server = HttpServer::bind(door, listen, tls, port.limits.clone()).await;
        let server =
            server.map_err(|error| Error::Failed(format!("{error}, with {flag}, or do without: {flag} off")))?;
        let address = server.address();
        self.tls.extend(server.tls());
        self.serving.push(tokio::spawn(server.serve(router, closing.clone())));
        tracing::info!(door, %address, "OTLP may come in");
        Ok(address)
    }

    /// Where gRPC is, its port never 0.
    pub(crate) fn grpc(&self) -> Option<SocketAddr> {
        self.grpc
    }

    /// Where HTTP is, its port never 0.
    pub(crate) fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Certificates of the ports: to read them again.
    pub(crate) fn tls(&self) -> &[Arc<Tls>] {
        &self.tls
    }

    /// Waits until requests under way are answered; the ports have been told to close.
    pub(crate) async fn closed(self) {
        for serving in self.serving {
            // A panic is one connection's, and has been counted.
            drop(serving.await);
        }
    }
}
