//! Keys as they stand in a config file, in a file of their own, or in the environment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use highwater_broker::access::{ApiKey, May, Principal, hash_of};
use serde::{Deserialize, Deserializer, de};

use crate::data::Tenant;

/// Something is wrong with the keys; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct AccessError {
    /// Where: a file, or a key of the configuration.
    pub place: String,
    /// What, and what to do.
    pub message: String,
}

impl AccessError {
    fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into() }
    }
}

/// The keys, or the file that has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiKeysConfig {
    /// Here.
    Listed(Vec<Entry>),
    /// In this YAML file, as the same list.
    File(PathBuf),
}

impl Default for ApiKeysConfig {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

/// A list or a path: told apart by hand, so that a mistake in a list is named and not "matches no variant".
impl<'de> Deserialize<'de> for ApiKeysConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> de::Visitor<'de> for Either {
            type Value = ApiKeysConfig;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of API keys, or the path of a file with that list")
            }

            fn visit_str<E: de::Error>(self, path: &str) -> Result<ApiKeysConfig, E> {
                Ok(ApiKeysConfig::File(path.into()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<ApiKeysConfig, A::Error> {
                Deserialize::deserialize(de::value::SeqAccessDeserializer::new(list)).map(ApiKeysConfig::Listed)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// One key, as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    name: String,
    #[serde(default)]
    tenant: Option<String>,
    #[serde(default)]
    any_tenant: bool,
    #[serde(default = "default_may")]
    may: BTreeSet<Right>,
    #[serde(default)]
    sha256: Option<String>,
    #[serde(default)]
    secret_env: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Right {
    Ingest,
    Query,
    Admin,
}

fn default_may() -> BTreeSet<Right> {
    BTreeSet::from([Right::Ingest, Right::Query])
}

impl ApiKeysConfig {
    /// Reads the value of a flag or an environment variable: a list in YAML (or JSON), or the path of a file.
    ///
    /// # Errors
    /// What is wrong with the list.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.trim_start().starts_with(['[', '-']) {
            return Ok(Self::File(text.into()));
        }
        let listed: Result<Vec<Entry>, _> = serde_saphyr::from_str(text);
        listed.map(Self::Listed).map_err(|error| error.without_snippet().to_string())
    }

    /// Where the keys are in a file of their own and it is named from the config file's folder: that file.
    pub fn resolve(&mut self, folder: &Path) {
        if let Self::File(file) = self {
            *file = folder.join(&*file);
        }
    }

    /// The keys, checked. `lookup` says what an environment variable holds.
    ///
    /// # Errors
    /// [`AccessError`], naming the key or the file.
    pub fn read(&self, lookup: impl Fn(&str) -> Option<String>) -> Result<Vec<ApiKey>, AccessError> {
        match self {
            Self::Listed(entries) => checked("api_keys", entries, &lookup),
            Self::File(file) => {
                let place = file.display().to_string();
                let text = std::fs::read_to_string(file)
                    .map_err(|error| AccessError::new(&place, format!("cannot read the API keys: {error}")))?;
                if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
                    return Err(AccessError::new(&place, "there is no API key in it"));
                }
                let entries: Vec<Entry> = serde_saphyr::from_str(&text).map_err(|error| {
                    let plain = error.without_snippet();
                    let line = plain.location().map(|at| format!(":{}", at.line())).unwrap_or_default();
                    AccessError::new(format!("{place}{line}"), plain.to_string())
                })?;
                checked(&place, &entries, &lookup)
            }
        }
    }
}

fn checked(
    place: &str,
    entries: &[Entry],
    lookup: &impl Fn(&str) -> Option<String>,
) -> Result<Vec<ApiKey>, AccessError> {
    let mut names = BTreeSet::new();
    let mut owners: BTreeMap<[u8; 32], &str> = BTreeMap::new();
    let mut keys = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let refuse = |what: String| AccessError::new(format!("{place}[{index}]"), what);
        let name = entry.name.as_str();
        // It goes into logs, and through the NUL-separated text of SASL PLAIN.
        if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
            return Err(refuse("a key's name is 1 to 128 bytes of text without control characters".into()));
        }
        if !names.insert(name) {
            return Err(refuse(format!("there are two keys named `{name}`; give each its own name")));
        }
        let tenant = Tenant::new(entry.tenant.as_deref().unwrap_or(Tenant::DEFAULT))
            .map_err(|error| refuse(error.to_string()))?;
        if entry.may.is_empty() {
            return Err(refuse(format!("`{name}` may do nothing: name some of ingest, query and admin")));
        }
        let sha256 = match (&entry.sha256, &entry.secret_env) {
            (Some(digits), None) => unhex(digits).ok_or_else(|| {
                refuse(format!(
                    "sha256 of `{name}` is not 64 hexadecimal digits: it is the hash of the key, not the key; \
                     `highwater api-key new` makes both"
                ))
            })?,
            (None, Some(variable)) => {
                let secret = lookup(variable).filter(|secret| !secret.is_empty()).ok_or_else(|| {
                    refuse(format!("environment variable {variable}, the secret of `{name}`, is not set"))
                })?;
                hash_of(secret.as_bytes())
            }
            _ => return Err(refuse(format!("`{name}` takes one of sha256 and secret_env"))),
        };
        if let Some(other) = owners.insert(sha256, name) {
            return Err(refuse(format!("`{name}` has the secret of `{other}`; give each key its own")));
        }
        let has = |right| entry.may.contains(&right);
        let may = May { ingest: has(Right::Ingest), query: has(Right::Query), admin: has(Right::Admin) };
        let principal =
            Principal { name: name.to_owned(), tenant: tenant.to_string(), may, any_tenant: entry.any_tenant };
        keys.push(ApiKey { principal, sha256 });
    }
    Ok(keys)
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn read(yaml: &str) -> Result<Vec<ApiKey>, String> {
        let config: ApiKeysConfig = serde_saphyr::from_str(yaml).map_err(|e| e.to_string())?;
        config.read(|name| (name == "SET").then(|| "test".to_owned())).map_err(|e| e.to_string())
    }

    #[test]
    fn a_key_is_known_by_the_hash_of_its_secret() {
        let keys = read(&format!(
            "[{{ name: a, sha256: {HASH} }}, {{ name: b, tenant: shop, may: [admin], sha256: {} }}]",
            HASH.replace('9', "8")
        ))
        .unwrap();
        let tenants: Vec<_> =
            keys.iter().map(|key| (key.principal.name.as_str(), key.principal.tenant.as_str())).collect();
        assert_eq!(tenants, [("a", "default"), ("b", "shop")]);
        assert_eq!((keys[0].sha256[0], keys[0].sha256[31]), (0x9f, 0x08));
        assert_eq!(keys[0].principal.may, May { ingest: true, query: true, admin: false });
        assert_eq!(keys[1].principal.may, May { ingest: false, query: false, admin: true });
        assert!(read("[]").unwrap().is_empty());
    }

    #[test]
    fn a_secret_may_be_in_the_environment() {
        let keys = read("[{ name: a, any_tenant: true, secret_env: SET }]").unwrap();
        assert_eq!(keys[0].sha256[..2], [0x9f, 0x86]);
        assert!(keys[0].principal.any_tenant);
        assert!(read("[{ name: a, secret_env: UNSET }]").unwrap_err().contains("UNSET, the secret of `a`, is not set"));
        let listed = ApiKeysConfig::parse(&format!("[{{ name: a, sha256: {HASH} }}]")).unwrap();
        assert_eq!(listed.read(|_| None).unwrap().len(), 1);
        assert_eq!(ApiKeysConfig::parse("/etc/keys.yaml"), Ok(ApiKeysConfig::File("/etc/keys.yaml".into())));
        assert!(ApiKeysConfig::parse("[{ nam: a }]").unwrap_err().contains("nam"));
    }

    #[test]
    fn a_file_holds_the_same_list() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys.yaml");
        std::fs::write(&file, format!("- name: a\n  sha256: {HASH}\n")).unwrap();
        assert_eq!(read(file.to_str().unwrap()).unwrap()[0].principal.name, "a");
        let mut config: ApiKeysConfig = serde_saphyr::from_str("keys.yaml").unwrap();
        config.resolve(dir.path());
        assert_eq!(config, ApiKeysConfig::File(file.clone()));
        std::fs::write(&file, "- nam: a\n").unwrap();
        let error = read(file.to_str().unwrap()).unwrap_err();
        assert!(error.contains("keys.yaml:1") && error.contains("nam"), "{error}");
        // Emptied by mistake, it does not open every door.
        std::fs::write(&file, "# none\n").unwrap();
        assert!(read(file.to_str().unwrap()).unwrap_err().contains("there is no API key in it"));
        assert!(read("/nowhere/keys.yaml").unwrap_err().starts_with("/nowhere/keys.yaml: cannot read the API keys"));
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        let two = format!("[{{ name: a, sha256: {HASH} }}, {{ name: a, sha256: {HASH} }}]");
        assert!(read(&two).unwrap_err().contains("api_keys[1]: there are two keys named `a`"));
        let same = format!("[{{ name: a, sha256: {HASH} }}, {{ name: b, sha256: {HASH} }}]");
        assert!(read(&same).unwrap_err().contains("api_keys[1]: `b` has the secret of `a`"));
        for (entry, said) in [
            ("{ name: '', sha256: x }".to_owned(), "1 to 128 bytes"),
            ("{ name: a, sha256: secret }".to_owned(), "64 hexadecimal digits"),
            ("{ name: a }".to_owned(), "one of sha256 and secret_env"),
            (format!("{{ name: a, may: [], sha256: {HASH} }}"), "may do nothing"),
            (format!("{{ name: a, tenant: 'a/b', sha256: {HASH} }}"), "tenant \"a/b\" is not allowed"),
        ] {
            let error = read(&format!("[{entry}]")).unwrap_err();
            assert!(error.starts_with("api_keys[0]: ") && error.contains(said), "{entry}: {error}");
        }
        assert!(read(&format!("[{{ name: a, may: [fly], sha256: {HASH} }}]")).unwrap_err().contains("fly"));
    }
}
