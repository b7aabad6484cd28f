//! Refusals, with all that is needed to put them right.

use std::fmt;

/// Everything that is wrong with one file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ConfigErrors {
    /// As it was given to [`super::Config::parse`] or [`super::Config::give`].
    pub file: String,
    /// In the order of the lines; never empty.
    pub errors: Vec<ConfigError>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ConfigError {
    /// Counted from 1; 0 where it was no file.
    pub line: usize,
    /// Path of the key or table, e.g. `builder.store-size`; empty for broken syntax.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// What would be accepted.
    pub accepted: String,
    /// The valid key, table or word that is closest to what was written, or the key that does the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.problem)?;
        if let Some(nearest) = &self.nearest {
            write!(f, " (did you mean {nearest}?)")?;
        }
        write!(f, "; accepted: {}", self.accepted)
    }
}

/// One line for each: `FILE:LINE: KEY: problem (did you mean X?); accepted: …`.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            f.write_str(newline)?;
            match error.line {
                0 => write!(f, "{}: {error}", self.file)?,
                line => write!(f, "{}:{line}: {error}", self.file)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
