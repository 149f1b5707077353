//! The values of a request: those of the body first, those of the URL after them, as Go's `Request.Form` has them.

use std::borrow::Cow;

use axum::http::{HeaderMap, Uri, header};

use super::{Instant, parse_duration};
use crate::prometheus::error::ApiError;

/// Name and value of each parameter, in order.
#[derive(Debug, Default)]
pub(in crate::prometheus) struct Form {
    values: Vec<(String, String)>,
    /// Those of the URL alone begin here.
    url_from: usize,
}

impl Form {
    /// The form of a request.
    pub(in crate::prometheus) fn new(uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Self {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let is_form = content_type
            .split(';')
            .next()
            .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"));
        let mut values = Vec::new();
        if is_form {
            values.extend(decoded(body));
        }
        let url_from = values.len();
        values.extend(decoded(uri.query().unwrap_or("").as_bytes()));
        Self { values, url_from }
    }

    /// The first value of this name; `""` where there is none.
    pub(in crate::prometheus) fn value(&self, name: &str) -> &str {
        self.values.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// The first value of this name in the URL; `""` where there is none.
    pub(in crate::prometheus) fn url_value(&self, name: &str) -> &str {
        self.values[self.url_from..].iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// All values of this name.
    pub(in crate::prometheus) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.values.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A time that must be there.
    ///
    /// # Errors
    /// `bad_data`.
    pub(in crate::prometheus) fn time(&self, name: &str) -> Result<Instant, ApiError> {
        Instant::parse(self.value(name)).map_err(|why| ApiError::invalid_parameter(name, &why))
    }

    /// A time that may be missing.
    ///
    /// # Errors
    /// `bad_data`.
    pub(in crate::prometheus) fn time_or(&self, name: &str, otherwise: Instant) -> Result<Instant, ApiError> {
        match self.value(name) {
            "" => Ok(otherwise),
            text => Instant::parse(text)
                .map_err(|why| ApiError::invalid_parameter(name, &format!("invalid time value for '{name}': {why}"))),
        }
    }

    /// A duration that must be there, nanoseconds.
    ///
    /// # Errors
    /// `bad_data`.
    pub(in crate::prometheus) fn duration_ns(&self, name: &str) -> Result<i64, ApiError> {
        parse_duration(self.value(name)).map_err(|why| ApiError::invalid_parameter(name, &why))
    }

    /// How many results at most; 0 is all.
    ///
    /// # Errors
    /// `bad_data`.
    pub(in crate::prometheus) fn limit(&self) -> Result<usize, ApiError> {
        let text = self.value("limit");
        if text.is_empty() {
            return Ok(0);
        }
        let refused = |why: &str| ApiError::invalid_parameter("limit", why);
        let number = parse_int(text).map_err(|why| refused(&why))?;
        usize::try_from(number).map_err(|_| refused("limit must be non-negative"))
    }

    /// Whether there is no parameter at all.
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// A whole number, refused in the words of Go's `strconv.Atoi`.
///
/// # Errors
/// What is wrong with it.
pub(in crate::prometheus) fn parse_int(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let why = if is_number { "value out of range" } else { "invalid syntax" };
    text.parse::<i64>().map_err(|_| format!("strconv.Atoi: parsing {}: {why}", highwater_promql::Quoted(text)))
}

fn decoded(text: &[u8]) -> impl Iterator<Item = (String, String)> + '_ {
    // A pair with a semicolon in it is none, as Go has it.
    text.split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty() && !pair.contains(&b';'))
        .flat_map(url::form_urlencoded::parse)
        .map(|(name, value): (Cow<'_, str>, Cow<'_, str>)| (name.into_owned(), value.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(uri: &str, content_type: &str, body: &str) -> Form {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        Form::new(&uri.parse().unwrap(), &headers, body.as_bytes())
    }

    #[test]
    fn the_body_goes_before_the_url() {
        let form = form(
            "/x?query=url&match%5B%5D=a&only=1",
            "application/x-www-form-urlencoded; charset=utf-8",
            "query=sum%28x%29+%2B+1&match[]=b",
        );
        assert_eq!(form.value("query"), "sum(x) + 1");
        assert_eq!(form.url_value("query"), "url");
        assert_eq!(form.all("match[]").collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(form.value("only"), "1");
        assert_eq!(form.value("missing"), "");
    }

    #[test]
    fn a_body_of_another_kind_is_no_form() {
        assert!(form("/x", "application/json", "query=1").is_empty());
    }

    #[test]
    fn limits_are_whole_numbers() {
        let limit = |text: &str| form(&format!("/x?limit={text}"), "", "").limit();
        assert_eq!(limit("").unwrap(), 0);
        assert_eq!(limit("5").unwrap(), 5);
        for (text, why) in [
            ("abc", "invalid parameter \"limit\": strconv.Atoi: parsing \"abc\": invalid syntax"),
            ("-1", "invalid parameter \"limit\": limit must be non-negative"),
            (
                "99999999999999999999",
                "invalid parameter \"limit\": strconv.Atoi: parsing \"99999999999999999999\": value out of range",
            ),
        ] {
            assert_eq!(limit(text).unwrap_err().message, why);
        }
    }
}
