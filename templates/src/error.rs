//! What can be wrong with a template.

/// Why a template cannot be read or executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template: {name}:{line}: {reason}")]
pub struct TemplateError {
    /// The template's name.
    pub name: String,
    /// Line of the text, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
    /// True where the text is no template; false where it could not be executed with these values.
    pub is_syntax: bool,
}
