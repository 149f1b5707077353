//! S3 and what speaks like it as a storage root: `s3://bucket/prefix`.
//!
//! Settings come from three places, the later ones first in rank: defaults, `AWS_*` variables of the environment, `storage.options`. Keys are those of
//! object_store, with or without `aws_`: `endpoint`, `region`, `access_key_id`, `secret_access_key`, `token`,
//! `allow_http`, `virtual_hosted_style_request`, `timeout`, `connect_timeout`, ... What is ours:
//!
//! | | default | why |
//! |---|---|---|
//! | conditional put | by ETag, always | commits rest on it |
//! | retries of one request: `max_retries`, `retry_timeout` | 8 within 60 s, waits from 100 ms to 5 s | a query rides out a throttled minute; a table's writer has its own retries above these |
//! | connecting: `connect_timeout` | 5 s | |
//! | one request: `timeout` | 60 s | a commit's file on a slow line |
//!
//! Times are written `500ms`, `30s`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::client::ClientConfigKey;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use url::Url;

use super::{Storage, StorageError};

const SCHEME: &str = "s3";
const MAX_RETRIES: usize = 8;
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// True where a location is meant for this store.
pub fn is_location(location: &str) -> bool {
    location.split_once("://").is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME))
}

/// A bucket and what lies below it, as a URL names them.
#[derive(Debug, Clone)]
pub struct Bucket {
    url: Url,
    name: String,
}

impl Bucket {
    /// Reads `s3://bucket/prefix`.
    ///
    /// # Errors
    /// Where it is not of that form.
    pub fn parse(location: &str) -> Result<Self, StorageError> {
        let bad = |reason: &str| StorageError::BadLocation {
            location: location.to_string(),
            reason: format!("{reason}; the form is s3://bucket/prefix"),
        };
        let url = Url::parse(location).map_err(|e| bad(&e.to_string()))?;
        let name = url.host_str().filter(|name| !name.is_empty()).ok_or_else(|| bad("it names no bucket"))?.to_string();
        if !url.username().is_empty() || url.password().is_some() || url.port().is_some() {
            return Err(bad("keys and ports do not belong in it: they are storage.options or AWS_* variables"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("it has a query or a fragment"));
        }
        Ok(Self { url, name })
    }

    /// Makes the client. Nothing is sent yet. `environment` is where `AWS_*` variables are looked up.
    ///
    /// # Errors
    /// Where an option is unknown or does not fit.
    pub fn open(
        &self,
        options: &BTreeMap<String, String>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Storage, StorageError> {
        let builder = self.builder(options, environment)?;
        let endpoint = endpoint(&builder);
        let allow_http = builder.get_config_value(&AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp));
        if endpoint.is_some_and(|e| e.starts_with("http://")) && !allow_http.is_some_and(|allow| is_true(&allow)) {
            return Err(self.bad_option(
                "endpoint",
                "it is http://, so keys and data would travel in the clear; set allow_http: true if that is meant",
            ));
        }
        let place = self.place(&builder);
        let origin = builder.build().map_err(|source| StorageError::Client { place, source })?;
        Storage::new(Arc::new(origin), self.url.clone())
    }

    /// Bucket and endpoint, for messages.
    pub fn describe(
        &self,
        options: &BTreeMap<String, String>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> String {
        self.builder(options, environment).map_or_else(|_| self.url.to_string(), |builder| self.place(&builder))
    }

    fn builder(
        &self,
        options: &BTreeMap<String, String>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<AmazonS3Builder, StorageError> {
        let client = ClientOptions::new().with_connect_timeout(CONNECT_TIMEOUT).with_timeout(REQUEST_TIMEOUT);
        let backoff = BackoffConfig { init_backoff: FIRST_BACKOFF, max_backoff: MAX_BACKOFF, base: 2.0 };
        let mut retry = RetryConfig { backoff, max_retries: MAX_RETRIES, retry_timeout: RETRY_TIMEOUT };
        let mut builder = AmazonS3Builder::new().with_client_options(client);
        for (name, value) in environment {
            let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else { continue };
            // The environment is shared with other programs: what is unknown here is theirs.
            if name.starts_with("AWS_")
                && let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>()
            {
                builder = builder.with_config(key, value);
            }
        }
        for (name, value) in options {
            match name.as_str() {
                "max_retries" => {
                    retry.max_retries = value.parse().map_err(|_| self.bad_option(name, "it is not a number"))?;
                    continue;
                }
                "retry_timeout" => {
                    retry.retry_timeout = humantime::parse_duration(value)
                        .map_err(|_| self.bad_option(name, "it is not a time such as 30s"))?;
                    continue;
                }
                _ => {}
            }
            let key: AmazonS3ConfigKey =
                name.to_ascii_lowercase().parse().map_err(|_| self.bad_option(name, "there is no such option"))?;
            match key {
                AmazonS3ConfigKey::Bucket => return Err(self.bad_option(name, "the bucket is the one in storage.url")),
                AmazonS3ConfigKey::ConditionalPut => {
                    return Err(self.bad_option(name, "conditional puts are always on: tables rest on them"));
                }
                key => builder = builder.with_config(key, value),
            }
        }
        Ok(builder.with_retry(retry).with_bucket_name(&self.name).with_conditional_put(S3ConditionalPut::ETagMatch))
    }

    fn place(&self, builder: &AmazonS3Builder) -> String {
        let region = builder.get_config_value(&AmazonS3ConfigKey::Region);
        match endpoint(builder) {
            Some(endpoint) => format!("{} at {endpoint}", self.url),
            None => format!("{} at Amazon S3, region {}", self.url, region.as_deref().unwrap_or("us-east-1")),
        }
    }

    fn bad_option(&self, key: &str, reason: &str) -> StorageError {
        StorageError::BadOption { location: self.url.to_string(), key: key.to_string(), reason: reason.to_string() }
    }
}

fn endpoint(builder: &AmazonS3Builder) -> Option<String> {
    let value = |key| builder.get_config_value(&key);
    value(AmazonS3ConfigKey::S3Endpoint).or_else(|| value(AmazonS3ConfigKey::Endpoint))
}

fn is_true(value: &str) -> bool {
    ["1", "true", "on", "yes", "y"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect()
    }

    fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(k, v)| (OsString::from(k), OsString::from(v))).collect()
    }

    #[test]
    fn locations_are_told_apart() {
        assert!(is_location("s3://b/p") && is_location("S3://b"));
        assert!(!is_location("file:///s3") && !is_location("s3/b") && !is_location("s3:b"));
        for bad in
            ["s3://", "s3:///prefix", "s3://key:secret@bucket/p", "s3://bucket:9000/p", "s3://bucket/p?versionId=1"]
        {
            let error = Bucket::parse(bad).unwrap_err().to_string();
            assert!(error.contains("s3://bucket/prefix"), "{bad}: {error}");
        }
    }

    #[test]
    fn options_outrank_the_environment_and_the_url_names_the_bucket() {
        let bucket = Bucket::parse("s3://lake/high/water").unwrap();
        let environment = environment(&[
            ("AWS_ENDPOINT_URL", "https://env.example"),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_BUCKET", "other"),
            ("AWS_EXECUTION_ENV", "not ours"),
            ("ENDPOINT", "https://not.aws"),
        ]);
        assert_eq!(bucket.describe(&options(&[]), environment.clone()), "s3://lake/high/water at https://env.example");
        let given = options(&[("endpoint", "https://minio.example")]);
        assert_eq!(bucket.describe(&given, environment.clone()), "s3://lake/high/water at https://minio.example");
        let builder = bucket.builder(&given, environment).unwrap();
        assert_eq!(builder.get_config_value(&AmazonS3ConfigKey::Bucket).as_deref(), Some("lake"));
        assert_eq!(builder.get_config_value(&AmazonS3ConfigKey::Region).as_deref(), Some("eu-central-1"));
        assert_eq!(bucket.describe(&options(&[]), None), "s3://lake/high/water at Amazon S3, region us-east-1");
    }

    #[test]
    fn options_that_cannot_work_are_named() {
        let bucket = Bucket::parse("s3://lake").unwrap();
        for (key, value, says) in [
            ("endpiont", "https://x", "no such option"),
            ("bucket", "other", "storage.url"),
            ("max_retries", "many", "number"),
            ("retry_timeout", "60", "30s"),
            ("conditional_put", "disabled", "always on"),
            ("endpoint", "http://127.0.0.1:9000", "allow_http"),
        ] {
            let error = bucket.open(&options(&[(key, value)]), None).unwrap_err();
            assert!(matches!(&error, StorageError::BadOption { key: named, .. } if named == key), "{error}");
            assert!(error.to_string().contains(says), "{error}");
        }
        let plain = options(&[("endpoint", "http://127.0.0.1:9000"), ("allow_http", "true")]);
        assert_eq!(bucket.open(&plain, None).unwrap().url().as_str(), "s3://lake/");
        let half = options(&[("access_key_id", "k")]);
        assert!(matches!(bucket.open(&half, None).unwrap_err(), StorageError::Client { .. }));
    }

    #[test]
    fn keys_show_in_no_message() {
        let bucket = Bucket::parse("s3://lake").unwrap();
        let given = options(&[("access_key_id", "AKIA-public"), ("secret_access_key", "very-secret")]);
        let storage = bucket.open(&given, None).unwrap();
        assert!(!format!("{storage:?}").contains("very-secret"));
        assert!(!bucket.describe(&given, None).contains("AKIA"));
    }
}
