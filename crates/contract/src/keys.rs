//! Keys that sign store paths, in Nix's form: `NAME:BASE64`, of 32 bytes the public half, of 64 (that and a seed) both.

use serde::{Deserialize, Serialize};

use crate::base64;
use crate::config::Text;
use crate::handshake::Life;

/// `daemon` publishes it: whose signatures its nix-daemon takes now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuilderKeys {
    /// This life.
    pub life: Life,
    /// Signs what is built there.
    pub own: String,
    /// Besides Nix's own and that of the builder.
    pub trusted: Vec<TrustedKey>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustedKey {
    /// Its public half.
    pub key: String,
    /// Who said so.
    pub from: KeySource,
}

/// See [`TrustedKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeySource {
    /// `[daemon] trusted-public-keys`.
    Config,
    /// `setup` or `keys add`; kept on the store volume.
    Added,
}

impl BuilderKeys {
    /// Whether what this key signs is taken.
    #[must_use]
    pub fn knows(&self, key: &str) -> bool {
        self.all().any(|known| known == key)
    }

    /// The builder's own first.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.own.as_str()).chain(self.trusted.iter().map(|trusted| trusted.key.as_str()))
    }
}

/// What stands before the colon. Nix takes one key of each name.
#[must_use]
pub fn name(key: &str) -> &str {
    key.split_once(':').map_or(key, |(name, _)| name)
}

/// Public keys, one a line; empty lines and comments are skipped.
///
/// # Errors
/// What is wrong with the first that is none, without a secret in it.
pub fn parse_list(text: &str) -> Result<Vec<String>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| match Text::TrustedKey.check(line) {
            Ok(()) => Ok(line.to_owned()),
            Err(problem) => Err(format!("{:?}: {problem}", Text::TrustedKey.presentable(line))),
        })
        .collect()
}

/// The public half of a secret key; `None`: it is none.
#[must_use]
pub fn public_half(secret: &str) -> Option<String> {
    let (name, bytes) = secret.trim().split_once(':')?;
    let bytes = base64::decode(bytes)?;
    let public = bytes.get(32..).filter(|public| public.len() == 32 && !name.is_empty())?;
    Some(format!("{name}:{}", base64::encode(public)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: &str = "k-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";

    #[test]
    fn a_list_is_keys_and_nothing_else() {
        let list = format!("# those of the team\n\n {PUBLIC} \n");
        assert_eq!(parse_list(&list).unwrap(), [PUBLIC]);
        assert_eq!(parse_list("").unwrap(), [""; 0]);
        let secret = format!("k-1:{}", base64::encode(&[7; 64]));
        let refused = parse_list(&format!("{PUBLIC}\n{secret}")).unwrap_err();
        assert!(refused.contains("SECRET") && !refused.contains("Bwc"), "{refused}");
        for bad in ["k-1", ":AAAA", "a b:AAAA", "k-1:AAAA"] {
            assert!(parse_list(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_public_half_is_the_second() {
        let public = base64::decode(PUBLIC.split_once(':').unwrap().1).unwrap();
        let secret = format!("k-1:{}\n", base64::encode(&[&[9; 32], public.as_slice()].concat()));
        assert_eq!(public_half(&secret).as_deref(), Some(PUBLIC));
        for bad in ["", "k-1", PUBLIC, ":AAAA"] {
            assert_eq!(public_half(bad), None, "{bad}");
        }
    }
}
