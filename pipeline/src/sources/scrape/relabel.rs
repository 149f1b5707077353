//! Relabelling, as Prometheus does it: rules one after the other over a set of labels.

use md5::{Digest, Md5};
use regex::Regex;

use super::config::{Action, RelabelConfig};
use super::labels::Labels;

/// Rules, compiled.
#[derive(Debug, Clone, Default)]
pub struct Relabelling {
    rules: Vec<Rule>,
    written: Vec<RelabelConfig>,
}

impl PartialEq for Relabelling {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

#[derive(Debug, Clone)]
struct Rule {
    action: Action,
    source_labels: Vec<String>,
    separator: String,
    regex: Regex,
    /// True where the regex takes anything whole as its first group: it need not run.
    matches_all: bool,
    modulus: u64,
    target_label: String,
    replacement: String,
}

/// A regex may grow to this, compiled.
const REGEX_SIZE_BYTES: usize = 4 << 20;
const ALL: &str = "(.*)";

impl Relabelling {
    /// Compiles rules.
    ///
    /// # Errors
    /// What is wrong, beginning with the number of the rule in brackets.
    pub fn new(configs: &[RelabelConfig]) -> Result<Self, String> {
        let rules = configs.iter().enumerate();
        let rules = rules.map(|(at, config)| Rule::new(config).map_err(|error| format!("[{at}]: {error}")));
        Ok(Self { rules: rules.collect::<Result<_, _>>()?, written: configs.to_vec() })
    }

    /// True where nothing is done.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Applies all rules; false where one of them drops what the labels are of.
    #[must_use]
    pub fn apply(&self, labels: &mut Labels) -> bool {
        self.rules.iter().all(|rule| rule.apply(labels))
    }
}

impl Rule {
    fn new(config: &RelabelConfig) -> Result<Self, String> {
        let action = config.action;
        let source = config.regex.as_ref().map_or(ALL, |regex| regex.0.as_str());
        let regex = regex::RegexBuilder::new(&format!("^(?s:{source})$"))
            .size_limit(REGEX_SIZE_BYTES)
            .build()
            .map_err(|error| format!("regex {source:?}: {error}"))?;
        let target_label = config.target_label.clone().unwrap_or_default();
        let name = format!("{action:?}").to_lowercase();
        let wants_target = matches!(
            action,
            Action::Replace
                | Action::HashMod
                | Action::Lowercase
                | Action::Uppercase
                | Action::KeepEqual
                | Action::DropEqual
        );
        if wants_target && target_label.is_empty() {
            return Err(format!("action {name} needs a target_label"));
        }
        if action == Action::HashMod && config.modulus.unwrap_or(0) == 0 {
            return Err("action hashmod needs a modulus above 0".into());
        }
        let only_names = matches!(action, Action::LabelDrop | Action::LabelKeep);
        let has_more = config.source_labels.is_some()
            || config.target_label.is_some()
            || config.modulus.is_some()
            || config.separator.is_some()
            || config.replacement.is_some();
        if only_names && has_more {
            return Err(format!("action {name} takes a regex and nothing else"));
        }
        let equal = matches!(action, Action::KeepEqual | Action::DropEqual);
        if equal
            && (config.regex.is_some()
                || config.modulus.is_some()
                || config.separator.is_some()
                || config.replacement.is_some())
        {
            return Err(format!("action {name} takes source_labels and target_label, and nothing else"));
        }
        if matches!(action, Action::Lowercase | Action::Uppercase) && config.replacement.is_some() {
            return Err(format!("action {name} takes no replacement"));
        }
        Ok(Self {
            action,
            source_labels: config.source_labels.clone().unwrap_or_default(),
            separator: config.separator.as_ref().map_or(";", |text| text.0.as_str()).to_owned(),
            regex,
            matches_all: source == ALL,
            modulus: config.modulus.unwrap_or(0),
            target_label,
            replacement: config.replacement.as_ref().map_or("$1", |text| text.0.as_str()).to_owned(),
        })
    }

    fn apply(&self, labels: &mut Labels) -> bool {
        match self.action {
            Action::Keep => return self.matches_all || self.regex.is_match(&self.source(labels)),
            Action::Drop => return !self.matches_all && !self.regex.is_match(&self.source(labels)),
            Action::KeepEqual => return labels.get(&self.target_label).unwrap_or_default() == self.source(labels),
            Action::DropEqual => return labels.get(&self.target_label).unwrap_or_default() != self.source(labels),
            Action::Replace => self.replace(labels),
            Action::Lowercase => labels.set(&self.target_label, &self.source(labels).to_lowercase()),
            Action::Uppercase => labels.set(&self.target_label, &self.source(labels).to_uppercase()),
            Action::HashMod => {
                let hash = Md5::digest(self.source(labels).as_bytes());
                let low = hash[8..].iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
                labels.set(&self.target_label, &(low % self.modulus).to_string());
            }
            Action::LabelMap => {
                let matching: Vec<_> = labels.iter().filter(|(name, _)| self.regex.is_match(name)).collect();
                let copies: Vec<_> = matching
                    .into_iter()
                    .map(|(name, value)| {
                        (self.regex.replace_all(name, self.replacement.as_str()).into_owned(), value.to_owned())
                    })
                    .collect();
                for (name, value) in copies {
                    if !name.is_empty() {
                        labels.set(&name, &value);
                    }
                }
            }
            Action::LabelDrop => labels.retain(|name| !self.regex.is_match(name)),
            Action::LabelKeep => labels.retain(|name| self.regex.is_match(name)),
        }
        true
    }

    fn source(&self, labels: &Labels) -> String {
        let mut source = String::new();
        for (at, name) in self.source_labels.iter().enumerate() {
            if at > 0 {
                source.push_str(&self.separator);
            }
            source.push_str(labels.get(name).unwrap_or_default());
        }
        source
    }

    fn replace(&self, labels: &mut Labels) {
        let source = self.source(labels);
        let Some(captures) = self.regex.captures(&source) else { return };
        let expand = |template: &str| {
            if !template.contains('$') {
                return template.to_owned();
            }
            let mut text = String::new();
            captures.expand(template, &mut text);
            text
        };
        let target = expand(&self.target_label);
        if target.is_empty() {
            return;
        }
        let value = expand(&self.replacement);
        if value.is_empty() { labels.remove(&target) } else { labels.set(&target, &value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rules over labels; what comes out as `name=value` pairs, or `dropped`.
    fn run(labels: &[(&str, &str)], rules: &str) -> String {
        let configs: Vec<RelabelConfig> = serde_saphyr::from_str(rules).unwrap();
        let mut labels: Labels = labels.iter().map(|(name, value)| (*name, *value)).collect();
        if !Relabelling::new(&configs).unwrap().apply(&mut labels) {
            return "dropped".into();
        }
        labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    }

    const ABC: [(&str, &str); 3] = [("a", "foo"), ("b", "bar"), ("c", "baz")];

    #[test]
    fn every_action_does_what_prometheus_does() {
        for (rules, expected) in [
            (
                "[{ source_labels: [a], regex: 'f(.*)', target_label: d, separator: ';', replacement: 'ch${1}-ch${1}' }]",
                "a=foo b=bar c=baz d=choo-choo",
            ),
            (
                "[{ source_labels: [a, b], regex: 'f(.*);(.*)r', target_label: a, replacement: 'b${1}${2}m' }]",
                "a=boobam b=bar c=baz",
            ),
            ("[{ source_labels: [a], regex: '.*o.*', action: drop }]", "dropped"),
            ("[{ source_labels: [a], regex: 'o', action: drop }]", "a=foo b=bar c=baz"),
            ("[{ source_labels: [a], regex: 'no', action: keep }]", "dropped"),
            ("[{ source_labels: [a], regex: 'f|foo', action: keep }]", "a=foo b=bar c=baz"),
            ("[{ source_labels: [a], regex: 'x(.*)', target_label: a, replacement: y }]", "a=foo b=bar c=baz"),
            ("[{ source_labels: [a], regex: '(f).*', target_label: a, replacement: '$2' }]", "b=bar c=baz"),
            (
                "[{ source_labels: [a], regex: '(.*)', target_label: '${1}_x', replacement: v }]",
                "a=foo b=bar c=baz foo_x=v",
            ),
            ("[{ source_labels: [c], target_label: d, action: hashmod, modulus: 1000 }]", "a=foo b=bar c=baz d=976"),
            ("[{ regex: '(b.*)', replacement: 'x_${1}', action: labelmap }]", "a=foo b=bar c=baz x_b=bar"),
            ("[{ regex: '(a|b)', action: labeldrop }]", "c=baz"),
            ("[{ regex: 'a', action: labelkeep }]", "a=foo"),
            ("[{ source_labels: [a], target_label: A, action: uppercase }]", "A=FOO a=foo b=bar c=baz"),
            ("[{ source_labels: [a], target_label: b, action: keepequal }]", "dropped"),
            ("[{ source_labels: [a], target_label: b, action: dropequal }]", "a=foo b=bar c=baz"),
            ("[{ target_label: a, replacement: '' }]", "b=bar c=baz"),
            (
                "[{ target_label: team, replacement: core }, { source_labels: [team], regex: core, action: drop }]",
                "dropped",
            ),
            ("[{ action: Replace, target_label: n, replacement: 1 }]", "a=foo b=bar c=baz n=1"),
        ] {
            assert_eq!(run(&ABC, rules), expected, "{rules}");
        }
        assert_eq!(run(&[("a", "x\ny")], "[{ source_labels: [a], regex: 'x.y', action: keep }]"), "a=x\ny");
        assert_eq!(run(&[("a", "FoO")], "[{ source_labels: [a], target_label: a, action: lowercase }]"), "a=foo");
        // An absent label is an empty one.
        assert_eq!(run(&ABC, "[{ source_labels: [nope], regex: '', action: keep }]"), "a=foo b=bar c=baz");
        assert_eq!(
            run(&ABC, "[{ source_labels: [nope], target_label: other, action: keepequal }]"),
            "a=foo b=bar c=baz"
        );
    }

    #[test]
    fn a_rule_that_makes_no_sense_is_refused() {
        for (rule, said) in [
            ("{ source_labels: [a] }", "needs a target_label"),
            ("{ action: hashmod, target_label: a }", "modulus above 0"),
            ("{ action: labeldrop, source_labels: [a] }", "a regex and nothing else"),
            ("{ action: keepequal, target_label: a, regex: b }", "nothing else"),
            ("{ action: keep, regex: '[' }", "regex \"[\""),
            ("{ action: keep, regex: '(a{1000}){1000}' }", "regex"),
        ] {
            let config: RelabelConfig = serde_saphyr::from_str(rule).unwrap();
            let error = Relabelling::new(&[config]).unwrap_err();
            assert!(error.starts_with("[0]: ") && error.contains(said), "{rule}: {error}");
        }
    }
}
