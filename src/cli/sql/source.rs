//! Who answers: a server, or an engine of our own over a data directory.

use std::path::Path;
use std::pin::Pin;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::reader::StreamDecoder;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use highwater_sql::{Engine, QueryResult};
use serde_json::json;
use tempfile::TempDir;

use crate::cli::ServerArg;
use crate::client::Client;
use crate::error::Error;

/// Who answers.
pub(in crate::cli) enum Source {
    Server { client: Client, url: String },
    // The directory is for what queries spill, and goes with it.
    Engine { engine: Box<Engine>, tenant: String, place: String, _spill: TempDir },
}

impl Source {
    pub(in crate::cli) fn server(server: &ServerArg) -> Result<Self, Error> {
        Ok(Self::Server { client: Client::new(server)?, url: server.url() })
    }

    /// A data directory, and whose rows of it.
    pub(in crate::cli) async fn data_dir(dir: &Path, tenant: Option<&str>) -> Result<Self, Error> {
        let (engine, spill) = crate::serve::offline::engine(dir).await?;
        let tenant = tenant.unwrap_or(highwater_pipeline::data::Tenant::DEFAULT).to_owned();
        Ok(Self::Engine { engine: Box::new(engine), tenant, place: dir.display().to_string(), _spill: spill })
    }

    /// Where it is, for people.
    pub(in crate::cli) fn place(&self) -> &str {
        match self {
            Self::Server { url, .. } => url,
            Self::Engine { place, .. } => place,
        }
    }

    /// Runs a query. Dropping what it gives, or this, stops it.
    pub(in crate::cli) async fn ask(&self, query: &str) -> Result<Rows, Error> {
        match self {
            Self::Server { client, .. } => {
                let response = client.post("/api/v1/sql", &json!({"query": query, "format": "arrow"})).await?;
                Rows::of_response(Box::pin(response.bytes_stream())).await
            }
            Self::Engine { engine, tenant, .. } => {
                let result = engine.query(tenant, query).await.map_err(|error| Error::Failed(error.to_string()))?;
                Ok(Rows::Here(Box::new(result)))
            }
        }
    }
}

type Body = Pin<Box<dyn Stream<Item = Result<Bytes, reqwest::Error>> + Send>>;

/// Rows as they come.
pub(in crate::cli) enum Rows {
    Here(Box<QueryResult>),
    There { body: Body, decoder: Box<StreamDecoder>, buffer: Buffer, first: Option<RecordBatch>, schema: SchemaRef },
}

impl Rows {
    /// Reads as far as the schema.
    async fn of_response(mut body: Body) -> Result<Self, Error> {
        let (mut decoder, mut buffer) = (StreamDecoder::new(), Buffer::default());
        let mut first = None;
        let schema = loop {
            if first.is_none() {
                first = decode(&mut decoder, &mut buffer)?;
            }
            match decoder.schema() {
                Some(schema) => break schema,
                None => match body.next().await {
                    Some(bytes) => buffer = joined(buffer, bytes.map_err(cut)?),
                    None => break SchemaRef::new(Schema::empty()),
                },
            }
        };
        Ok(Self::There { body, decoder: Box::new(decoder), buffer, first, schema })
    }

    /// The columns.
    pub(in crate::cli) fn schema(&self) -> SchemaRef {
        match self {
            Self::Here(result) => result.schema(),
            Self::There { schema, .. } => SchemaRef::clone(schema),
        }
    }

    /// The next rows; `None` at the end.
    pub(in crate::cli) async fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        match self {
            Self::Here(result) => result.next().await.transpose().map_err(|error| Error::Failed(error.to_string())),
            Self::There { body, decoder, buffer, first, .. } => {
                if let Some(batch) = first.take() {
                    return Ok(Some(batch));
                }
                loop {
                    if let Some(batch) = decode(decoder, buffer)? {
                        return Ok(Some(batch));
                    }
                    match body.next().await {
                        Some(bytes) => *buffer = joined(std::mem::take(buffer), bytes.map_err(cut)?),
                        // An answer that was cut has no end of stream.
                        None => {
                            decoder.finish().map_err(|error| Error::failed("the query failed while it ran", error))?;
                            return Ok(None);
                        }
                    }
                }
            }
        }
    }
}

fn decode(decoder: &mut StreamDecoder, buffer: &mut Buffer) -> Result<Option<RecordBatch>, Error> {
    decoder.decode(buffer).map_err(|error| Error::failed("reading the answer", error))
}

fn joined(left: Buffer, right: Bytes) -> Buffer {
    match left.is_empty() {
        true => Buffer::from(right),
        false => Buffer::from_vec([left.as_slice(), &right].concat()),
    }
}

fn cut(error: reqwest::Error) -> Error {
    Error::failed("the query failed while it ran", error)
}
