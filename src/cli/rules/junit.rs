//! Results of unit tests as JUnit's XML, for those who show them: a suite per file, a case per test, as promtool writes it.

use std::fmt::Write as _;

use highwater_processors::rules::unit_tests::Case;

/// A file of tests, run.
pub(super) struct Suite {
    pub(super) file: String,
    /// When: `2026-03-01T00:00:00`.
    pub(super) at: String,
    /// Its tests; or why there are none.
    pub(super) tested: Result<Vec<Case>, String>,
}

/// The document.
pub(super) fn document(suites: &[Suite]) -> String {
    let suites: String = suites.iter().map(suite).collect();
    format!("<testsuites>{suites}</testsuites>")
}

fn suite(suite: &Suite) -> String {
    let (mut cases, mut tests, mut failures, mut errors) = (String::new(), 0, 0, 0);
    match &suite.tested {
        Ok(tested) => {
            for case in tested {
                tests += 1;
                failures += case.failures.len();
                let _infallible = write!(cases, "<testcase name=\"{}\">", escaped(&case.name));
                for failure in &case.failures {
                    let _infallible = write!(cases, "<failure>{}</failure>", escaped(failure));
                }
                cases.push_str("</testcase>");
            }
        }
        Err(error) => {
            (tests, errors) = (1, 1);
            cases = format!("<testcase name=\"unknown\"><error>{}</error></testcase>", escaped(error));
        }
    }
    format!(
        "<testsuite name=\"{}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"0\" timestamp=\"{}\">{cases}</testsuite>",
        escaped(&suite.file),
        suite.at
    )
}

/// Text as XML has it, in attributes too. What XML cannot say at all is U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '\n' => out.push_str("&#xA;"),
            '\r' => out.push_str("&#xD;"),
            '\t' => out.push_str("&#x9;"),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_xml_whatever_is_in_it() {
        let case = |name: &str, failures: &[&str]| Case {
            name: name.to_owned(),
            failures: failures.iter().map(|text| (*text).to_owned()).collect(),
        };
        let suites = [
            Suite {
                file: "a&b.yaml".to_owned(),
                at: "2026-03-01T00:00:00".to_owned(),
                tested: Ok(vec![case("<one>", &[]), case("two", &["got:\n\t\"x\" 'y'\u{1}", "z"])]),
            },
            Suite { file: "c".to_owned(), at: String::new(), tested: Err("no such file".to_owned()) },
        ];
        assert_eq!(
            document(&suites),
            "<testsuites><testsuite name=\"a&amp;b.yaml\" tests=\"2\" failures=\"2\" errors=\"0\" skipped=\"0\" timestamp=\"2026-03-01T00:00:00\">\
             <testcase name=\"&lt;one&gt;\"></testcase><testcase name=\"two\"><failure>got:&#xA;&#x9;&#34;x&#34; &#39;y&#39;\u{fffd}</failure>\
             <failure>z</failure></testcase></testsuite><testsuite name=\"c\" tests=\"1\" failures=\"0\" errors=\"1\" skipped=\"0\" timestamp=\"\">\
             <testcase name=\"unknown\"><error>no such file</error></testcase></testsuite></testsuites>"
        );
    }
}
