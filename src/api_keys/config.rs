//! Keys as they stand in a config file, or in a file of their own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use highwater_pipeline::data::Tenant;
use serde::Deserialize;

use super::key::ApiKey;
use crate::config::ConfigError;

/// The keys, or the file that has them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(crate) enum ApiKeysConfig {
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

/// One key, as it is written down.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    name: String,
    #[serde(default = "default_tenant")]
    tenant: String,
    sha256: String,
}

fn default_tenant() -> String {
    Tenant::DEFAULT.to_owned()
}

impl ApiKeysConfig {
    /// Where the keys are in a file of their own and it is named from the config file's folder: that file.
    pub(crate) fn resolve(&mut self, folder: &Path) {
        if let Self::File(file) = self {
            *file = folder.join(&*file);
        }
    }

    /// The keys, checked.
    pub(crate) fn read(&self) -> Result<Vec<ApiKey>, ConfigError> {
        match self {
            Self::Listed(entries) => checked("api_keys", entries),
            Self::File(file) => {
                let place = file.display().to_string();
                let text = std::fs::read_to_string(file)
                    .map_err(|error| ConfigError::in_key(&place, format!("cannot read the API keys: {error}")))?;
                let entries: Vec<Entry> =
                    serde_saphyr::from_str(&text).map_err(|error| ConfigError::yaml(&place, &error))?;
                checked(&place, &entries)
            }
        }
    }
}

fn checked(place: &str, entries: &[Entry]) -> Result<Vec<ApiKey>, ConfigError> {
    let mut names = BTreeSet::new();
    let mut keys = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let refuse = |what: String| ConfigError::in_key(format!("{place}[{index}]"), what);
        let name = entry.name.clone();
        // It goes into logs, and through the NUL-separated text of SASL PLAIN.
        if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
            return Err(refuse("a key's name is 1 to 128 bytes of text without control characters".into()));
        }
        if !names.insert(name.clone()) {
            return Err(refuse(format!("there are two keys named `{name}`; give each its own name")));
        }
        let tenant = Tenant::new(&entry.tenant).map_err(|error| refuse(error.to_string()))?;
        let sha256 = unhex(&entry.sha256).ok_or_else(|| {
            refuse(format!(
                "sha256 of `{name}` is not 64 hexadecimal digits: it is the hash of the key, not the key; \
                 `highwater api-key new` makes both"
            ))
        })?;
        keys.push(ApiKey { name, tenant, sha256 });
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
        config.read().map_err(|e| e.to_string())
    }

    #[test]
    fn a_key_is_known_by_the_hash_of_its_secret() {
        let keys =
            read(&format!("[{{ name: a, sha256: {HASH} }}, {{ name: b, tenant: shop, sha256: {HASH} }}]")).unwrap();
        let tenants: Vec<_> = keys.iter().map(|key| (key.name.as_str(), key.tenant.as_str())).collect();
        assert_eq!(tenants, [("a", "default"), ("b", "shop")]);
        assert_eq!((keys[0].sha256[0], keys[0].sha256[31]), (0x9f, 0x08));
        assert!(read("[]").unwrap().is_empty());
    }

    #[test]
    fn a_file_holds_the_same_list() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys.yaml");
        std::fs::write(&file, format!("- name: a\n  sha256: {HASH}\n")).unwrap();
        assert_eq!(read(file.to_str().unwrap()).unwrap()[0].name, "a");
        let mut config: ApiKeysConfig = serde_saphyr::from_str("keys.yaml").unwrap();
        config.resolve(dir.path());
        assert_eq!(config, ApiKeysConfig::File(file.clone()));
        std::fs::write(&file, "- nam: a\n").unwrap();
        assert!(read(file.to_str().unwrap()).unwrap_err().contains("keys.yaml"));
        assert!(read("/nowhere/keys.yaml").unwrap_err().starts_with("/nowhere/keys.yaml: cannot read the API keys"));
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        let two = format!("[{{ name: a, sha256: {HASH} }}, {{ name: a, sha256: {HASH} }}]");
        assert!(read(&two).unwrap_err().contains("api_keys[1]: there are two keys named `a`"));
        for (entry, said) in [
            ("{ name: '', sha256: x }".to_owned(), "1 to 128 bytes"),
            ("{ name: a, sha256: secret }".to_owned(), "64 hexadecimal digits"),
            (format!("{{ name: a, tenant: 'a/b', sha256: {HASH} }}"), "tenant \"a/b\" is not allowed"),
        ] {
            let error = read(&format!("[{entry}]")).unwrap_err();
            assert!(error.starts_with("api_keys[0]: ") && error.contains(said), "{entry}: {error}");
        }
    }
}
