//! What must stand in no log and in no word of the client's. Searched for wherever a run has text in its hands anyway, and told of at
//! its end, whatever else has failed.

use std::sync::{Mutex, PoisonError};

use crate::output::Output;
use crate::setting::setting;

/// How secrets begin, whoever's they are: nobody need know them.
const MARKS: [(&str, &str); 3] = [
    ("a private key", "PRIVATE KEY-----"),
    // The same without the line above it.
    ("a private key of OpenSSH's", "b3BlbnNzaC1rZXktdjE"),
    ("a token of a cluster", "eyJhbGciOi"),
];

static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// One that is known. Messages say what it is, and not how it reads.
#[derive(Debug, Clone)]
pub struct Secret {
    what: String,
    text: String,
}

impl Secret {
    /// Of any text.
    #[must_use]
    pub fn new(what: &str, text: &str) -> Self {
        Self { what: what.to_owned(), text: text.to_owned() }
    }

    /// Those in a file of OpenSSH's or of Nix's: lines of base64, of which only what stands behind a key's name is secret.
    #[must_use]
    pub fn in_file(what: &str, file: &str) -> Vec<Self> {
        let lines = file.lines().map(|line| line.split_once(':').map_or(line, |(_, secret)| secret));
        // Lines that all keys have in common are the marks.
        let common =
            |line: &str| line.starts_with("-----") || MARKS.iter().any(|(_, mark)| line.contains(mark));
        let long = lines.filter(|line| line.len() > 30 && !common(line));
        long.map(|line| Self::new(what, line)).collect()
    }
}

/// What of all that stands in a text, each once: the marks, and these.
#[must_use]
pub fn found(text: &str, secrets: &[Secret]) -> Vec<String> {
    let known = secrets.iter().map(|secret| (secret.what.as_str(), secret.text.as_str()));
    let mut found: Vec<String> = MARKS
        .into_iter()
        .chain(known)
        .filter(|(_, part)| text.contains(part))
        .map(|(what, _)| what.to_owned())
        .collect();
    found.dedup();
    found
}

/// Searches a text, and keeps in mind what it holds.
pub fn search(place: &str, text: &str, secrets: &[Secret]) {
    let found = found(text, secrets);
    if !found.is_empty() {
        tell(format!("{} in {}", found.join(", "), place.chars().take(300).collect::<String>()));
    }
}

/// Searches what the containers of a builder have said, as far as the engine still has it.
pub fn search_logs(builder: &str, secrets: &[Secret]) -> Output {
    let logs = setting().engine.logs(builder);
    for text in [&logs.stdout, &logs.stderr] {
        search(&format!("the logs of {builder}"), text, secrets);
    }
    logs
}

/// Keeps in mind a line for the end.
pub fn tell(line: String) {
    TOLD.lock().unwrap_or_else(PoisonError::into_inner).push(line);
}

/// All that was found in this run.
#[must_use]
pub fn told() -> Vec<String> {
    TOLD.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_known_secrets_are_found_and_public_halves_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        let made =
            crate::call::Call::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&file);
        made.run().ok();
        let (private, public) = (
            std::fs::read_to_string(&file).unwrap(),
            std::fs::read_to_string(file.with_extension("pub")).unwrap(),
        );
        let known = Secret::in_file("the key", &private);
        assert!(known.len() > 2);
        assert_eq!(found(&private, &[]), ["a private key", "a private key of OpenSSH's"]);
        assert_eq!(found(&format!("x{}x", private.lines().nth(3).unwrap()), &known), ["the key"]);
        assert!(found(&public, &known).is_empty());

        let signing = Secret::in_file("signing", &format!("name-1:{}==\n", "A".repeat(86)));
        assert_eq!(found(&"A".repeat(86), &signing), [""; 0]);
        assert_eq!(found(&format!("{}==", "A".repeat(86)), &signing), ["signing"]);
        assert!(found("name-1", &signing).is_empty());
    }
}
