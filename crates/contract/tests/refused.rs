//! Every refused configuration is a file in `refused`, with the message that it must yield beside it.

use std::path::{Path, PathBuf};

use contract::config::Config;

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/refused");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder of fixtures")
        .map(|entry| entry.expect("a fixture").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    files
}

#[test]
fn each_is_refused_with_its_message() {
    let files = fixtures();
    assert!(files.len() >= 110, "only {} fixtures were found", files.len());
    let mut failures = Vec::new();
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let message = match Config::parse(&text, name) {
            Ok(_) => "accepted".to_owned(),
            Err(errors) => errors.to_string(),
        };
        let expected = std::fs::read_to_string(path.with_extension("txt")).unwrap_or_default();
        if message != expected.trim_end() {
            failures.push(format!("{name}: expected\n{expected}but it was\n{message}\n"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn each_error_names_its_line_and_what_is_accepted() {
    for path in fixtures() {
        let text = std::fs::read_to_string(&path).unwrap();
        let errors = Config::parse(&text, "file").unwrap_err().errors;
        let mut last = 1;
        for error in errors {
            assert!(error.line >= last && error.line <= text.lines().count(), "{path:?}: {error:?}");
            assert!(!error.problem.is_empty() && !error.accepted.is_empty(), "{path:?}: {error:?}");
            last = error.line;
            // The last part of the key, or the key that is to blame, stands in the line.
            let line = text.lines().nth(error.line - 1).unwrap();
            let key = error.key.rsplit('.').next().unwrap();
            assert!(line.contains(key) || text.contains("\"\"\""), "{path:?}: {key} is not in {line}");
        }
    }
}

#[test]
fn secrets_are_not_repeated() {
    for (file, secret) in [
        ("trusted-key-secret", "AAAA"),
        ("ssh-key-private", "OPENSSH"),
        ("proxy-with-password", "t0psecret"),
        ("proxy-with-password-and-no-scheme", "t0psecret"),
        ("substituter-with-password", "t0psecret"),
        ("nix-with-password", "t0psecret"),
        ("nix-access-tokens", "t0psecret"),
        ("k8s-env-with-password", "t0psecret"),
        ("k8s-annotation-with-password", "t0psecret"),
        ("k8s-pod-patch-password", "t0psecret"),
    ] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/refused");
        let text = std::fs::read_to_string(folder.join(file).with_extension("toml")).unwrap();
        assert!(text.contains(secret));
        let message = Config::parse(&text, "file").unwrap_err().to_string();
        assert!(!message.contains(secret), "{message}");
    }
}
