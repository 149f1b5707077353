//! Where tables and their files lie.

use std::fmt::Write as _;

use object_store::path::Path;
use url::Url;
use uuid::Uuid;

use super::TableError;

/// Longest encoded partition value in a directory name, bytes; a longer one is cut and told apart by its hash.
const MAX_VALUE_BYTES: usize = 128;
/// What Hive and Delta write where a partition value is NULL.
const NULL_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// The table's directory under the storage root.
pub fn table_path(name: &str) -> Path {
    Path::from_iter(["tables", name])
}

/// The table's URL under the storage root's URL, ending in `/`.
pub fn table_url(root: &Url, name: &str) -> Url {
    let mut url = root.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(["tables", name, ""]);
    }
    url
}

/// A partition value as it appears in a directory name: letters, digits, `_`, `-` and `.` stand for themselves, every
/// other byte is `%XX`; NULL and the empty string (which Delta cannot tell from it) are `__HIVE_DEFAULT_PARTITION__`. A
/// value over 128 bytes is cut and ends in `-` and the xxh64 of the whole. The name is for people and listings only: the
/// value itself is in the Delta log.
pub fn encode_path_value(value: Option<&str>) -> String {
    let Some(value) = value.filter(|v| !v.is_empty()) else { return NULL_VALUE.to_string() };
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _written = write!(encoded, "%{byte:02X}");
        }
    }
    if encoded.len() > MAX_VALUE_BYTES {
        let hash = twox_hash::XxHash64::oneshot(0, value.as_bytes());
        encoded.truncate(MAX_VALUE_BYTES - 17);
        let _written = write!(encoded, "-{hash:016x}");
    }
    encoded
}

/// The path of a data file, relative to the table's directory. `date` as [`super::date_text`] gives it.
pub fn data_file_path(tenant: Option<&str>, date: Option<&str>, id: Uuid) -> String {
    format!("tenant={}/date={}/{id}.parquet", encode_path_value(tenant), encode_path_value(date))
}

/// True where this path (relative to the table's directory) is one that [`data_file_path`] makes. Only such files may be
/// swept away when no commit refers to them.
pub fn is_data_file_path(path: &str) -> bool {
    let mut parts = path.split('/');
    let (Some(tenant), Some(date), Some(file), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    tenant.starts_with("tenant=")
        && date.starts_with("date=")
        && file.strip_suffix(".parquet").is_some_and(|id| id.len() == 36 && Uuid::parse_str(id).is_ok())
}

/// A table's name is a directory, part of a topic's name and a SQL identifier at once.
pub(super) fn check_name(name: &str) -> Result<(), TableError> {
    let first_ok = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let rest_ok = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if first_ok && rest_ok && name.len() <= 200 { Ok(()) } else { Err(TableError::BadName { name: name.to_string() }) }
}
