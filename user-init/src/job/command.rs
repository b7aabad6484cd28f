//! From a request to the words of `nix build`.

use std::ffi::OsString;
use std::path::Path;

use contract::job::BuildRequest;

use crate::error::{Error, Result};

/// Arguments of `nix`: `tree` is built, links go below `out_link`.
///
/// # Errors
/// When there is nothing to build in the tree; told before a job is made.
pub fn arguments(request: &BuildRequest, tree: &Path, out_link: &Path) -> Result<Vec<OsString>> {
    let mut words: Vec<OsString> =
        ["--extra-experimental-features", "nix-command flakes", "build"].map(Into::into).into();
    words.extend(["--log-format", "internal-json", "--print-out-paths", "--out-link"].map(Into::into));
    words.push(out_link.into());
    words.extend(request.nix_args.iter().map(Into::into));
    match file(request, tree)? {
        Some(file) => {
            words.extend(["-f".into(), file.into()]);
            words.extend(request.attrs.iter().map(Into::into));
        }
        None => {
            // By path and not as the current folder: a tree that is no git repository must not be looked for upwards.
            let flake = format!("path:{}", tree.display());
            if request.attrs.is_empty() {
                words.push(flake.clone().into());
            }
            for attr in &request.attrs {
                let attr = attr.strip_prefix(".#").unwrap_or(attr);
                // A reference of its own, e.g. `nixpkgs#hello`, stays what it is.
                let word = if attr.contains('#') { attr.to_owned() } else { format!("{flake}#{attr}") };
                words.push(word.into());
            }
        }
    }
    Ok(words)
}

/// The file to build, or none for a flake.
fn file(request: &BuildRequest, tree: &Path) -> Result<Option<String>> {
    if let Some(file) = &request.file {
        if !tree.join(file).exists() {
            return Err(Error::NotFound(format!(
                "there is no {file:?} in what was pushed of {:?}",
                request.project
            )));
        }
        // With a leading `./`, as Nix would take a bare `<name>` or a URL for something else.
        let file =
            if file.starts_with('/') || file.starts_with("./") { file.clone() } else { format!("./{file}") };
        return Ok(Some(file));
    }
    if tree.join("flake.nix").exists() {
        return Ok(None);
    }
    if tree.join("default.nix").exists() {
        return Ok(Some("./default.nix".into()));
    }
    Err(Error::NotFound(format!(
        "what was pushed of {:?} has neither flake.nix nor default.nix: name a file with -f",
        request.project
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(file: Option<&str>, attrs: &[&str]) -> BuildRequest {
        BuildRequest {
            project: "p".into(),
            generation: None,
            file: file.map(Into::into),
            attrs: attrs.iter().map(ToString::to_string).collect(),
            nix_args: vec!["--impure".into()],
            from: String::new(),
        }
    }

    fn tail(request: &BuildRequest, tree: &Path) -> String {
        let words = arguments(request, tree, Path::new("/j/result")).unwrap();
        let at = words.iter().position(|w| w == "/j/result").unwrap();
        words[at + 1..].iter().map(|w| w.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_built() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path();
        let missing = arguments(&request(None, &[]), tree, tree).unwrap_err();
        assert!(missing.to_string().contains("neither flake.nix nor default.nix"), "{missing}");
        std::fs::write(tree.join("default.nix"), "").unwrap();
        assert_eq!(tail(&request(None, &["a", "b.c"]), tree), "--impure -f ./default.nix a b.c");
        assert_eq!(tail(&request(Some("default.nix"), &[]), tree), "--impure -f ./default.nix");
        assert!(arguments(&request(Some("hello.nix"), &[]), tree, tree).is_err());
        std::fs::write(tree.join("flake.nix"), "").unwrap();
        let flake = format!("path:{}", tree.display());
        assert_eq!(tail(&request(None, &[]), tree), format!("--impure {flake}"));
        assert_eq!(
            tail(&request(None, &["x", ".#y", "nixpkgs#z"]), tree),
            format!("--impure {flake}#x {flake}#y nixpkgs#z")
        );
        assert_eq!(tail(&request(Some("./default.nix"), &["x"]), tree), "--impure -f ./default.nix x");
    }
}
