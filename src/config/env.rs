//! `${NAME}` and `${NAME:-default}` in the config file, replaced before the YAML is parsed so that a value may stand anywhere.
//!
//! `$${` writes a literal `${`. A name that is not set and has no default is an error naming its line: an empty password is
//! worse than a refusal. Comments are left alone.

use super::ConfigError;

/// Replaces every reference in `text`; `lookup` says what a variable holds. Line numbers stay what they were, so that errors of
/// the YAML parser still point at the user's line.
pub(crate) fn substitute(
    text: &str,
    file: &str,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<String, ConfigError> {
    let mut out = String::with_capacity(text.len());
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if line.trim_start().starts_with('#') {
            out.push_str(line);
            continue;
        }
        let mut rest = line;
        while let Some(at) = rest.find("${") {
            let (before, reference) = rest.split_at(at);
            if let Some(literal) = before.strip_suffix('$') {
                out.push_str(literal);
                out.push_str("${");
                rest = &reference[2..];
                continue;
            }
            out.push_str(before);
            let Some(end) = reference.find('}') else {
                return Err(ConfigError::at(file, index + 1, "`${` has no closing `}`"));
            };
            let inner = &reference[2..end];
            let (name, default) = match inner.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (inner, None),
            };
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return Err(ConfigError::at(file, index + 1, format!("`${{{inner}}}` is not a variable name")));
            }
            // As in a shell, `:-` also stands in for a variable that is set but empty.
            match (lookup(name), default) {
                (Some(value), None) => out.push_str(&value),
                (Some(value), Some(_)) if !value.is_empty() => out.push_str(&value),
                (_, Some(default)) => out.push_str(default),
                (None, None) => {
                    return Err(ConfigError::at(
                        file,
                        index + 1,
                        format!("environment variable {name} is not set; set it or write ${{{name}:-default}}"),
                    ));
                }
            }
            rest = &reference[end + 1..];
        }
        out.push_str(rest);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("9".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    fn run(text: &str) -> Result<String, String> {
        substitute(text, "hw.yaml", vars).map_err(|e| e.to_string())
    }

    #[test]
    fn replaces_names_defaults_and_escapes() {
        assert_eq!(run("a: ${PORT}\nb: x${PORT}y${NOPE:-d}\n").unwrap(), "a: 9\nb: x9yd\n");
        assert_eq!(run("a: ${EMPTY:-d} ${EMPTY}|").unwrap(), "a: d |");
        assert_eq!(run("a: $${PORT}").unwrap(), "a: ${PORT}");
        assert_eq!(run("# ${NOPE}\na: 1").unwrap(), "# ${NOPE}\na: 1");
    }

    #[test]
    fn names_the_line_of_what_is_missing() {
        assert!(run("a: 1\nb: ${NOPE}").unwrap_err().contains("hw.yaml:2: environment variable NOPE is not set"));
        assert!(run("a: ${PORT").unwrap_err().contains("hw.yaml:1"));
        assert!(run("a: ${not a name}").unwrap_err().contains("is not a variable name"));
    }
}
