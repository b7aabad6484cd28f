//! The key with which this client signs the store paths that it sends to one builder, and the keys that the builder takes.

use std::fs;
use std::io::ErrorKind;

use contract::base64;
use contract::exit::Exit;
use contract::keys::{self, BuilderKeys};
use contract::places::{Container, DAEMON_INIT};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::context::Context;
use crate::error::{CliError, OnPath, Result};
use crate::settings::owner;
use crate::state::{self, State};
use crate::{remote, wake};

/// In the client's state, in Nix's form, so that `nix store sign -k` takes it as well.
const FILE: &str = "signing-key";

/// Both halves.
pub(crate) struct Key {
    pair: Ed25519KeyPair,
    public: String,
}

impl Key {
    /// That of this client and builder, if there is one.
    pub(crate) fn find(state: &State) -> Result<Option<Self>> {
        let path = state.path(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text).map(Some).ok_or_else(|| {
                CliError::new(Exit::Io, format!("{} holds no key", path.display()))
                    .hint("remove it; `trampoline-cli keys add` makes another one and adds it to the builder")
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CliError::io("cannot read", &path, &error)),
        }
    }

    /// The same, or a new one.
    pub(crate) fn find_or_make(context: &Context) -> Result<Self> {
        let state = &context.state;
        if let Some(key) = Self::find(state)? {
            return Ok(key);
        }
        let text = generate(&context.name)?;
        let new = format!("{FILE}.{}", std::process::id());
        state.write_bytes(&new, text.as_bytes(), 0o600)?;
        // Whoever makes one at the same time makes the same one: that of whoever was first.
        let (new, path) = (state.path(&new), state.path(FILE));
        let linked = match fs::hard_link(&new, &path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            linked => linked.on("cannot write", &path),
        };
        state::absent_ok(fs::remove_file(&new)).on("cannot remove", &new)?;
        linked?;
        context.ui.detail(format!("made a key to sign store paths with, {}", path.display()));
        Self::find(state)?
            .ok_or_else(|| CliError::new(Exit::Io, format!("{} was removed just now", path.display())))
    }

    fn parse(text: &str) -> Option<Self> {
        let public = keys::public_half(text)?;
        let bytes = base64::decode(text.trim().split_once(':')?.1)?;
        let (seed, half) = bytes.split_at_checked(32)?;
        let pair = Ed25519KeyPair::from_seed_and_public_key(seed, half).ok()?;
        Some(Self { pair, public })
    }

    /// The half that the builder is given.
    pub(crate) fn public(&self) -> &str {
        &self.public
    }

    /// A signature as Nix writes it.
    pub(crate) fn sign(&self, text: &str) -> String {
        let signature = base64::encode(self.pair.sign(text.as_bytes()).as_ref());
        format!("{}:{signature}", keys::name(&self.public))
    }
}

/// Nix takes one key of each name, so each has a name of its own.
fn generate(builder: &str) -> Result<String> {
    let broken = |what| CliError::new(Exit::Internal, format!("cannot make a key: {what}"));
    let mut seed = [0; 32];
    SystemRandom::new().fill(&mut seed).map_err(|_| broken("the system gives no random bytes"))?;
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| broken("the seed is refused"))?;
    let public = pair.public_key().as_ref();
    let own = |c: char| if c.is_ascii_alphanumeric() || "@._-".contains(c) { c } else { '-' };
    let owner: String = owner().chars().map(own).collect();
    let name = format!("{owner}-{builder}-{}", contract::hex(&public[..4]));
    Ok(format!("{name}:{}\n", base64::encode(&[seed.as_slice(), public].concat())))
}

/// Whether this public key made this signature of the text.
pub(crate) fn verifies(public: &str, text: &str, signature: &str) -> bool {
    let both = public.split_once(':').zip(signature.split_once(':'));
    both.is_some_and(|((name, key), (signer, signature))| {
        let bytes = base64::decode(key).zip(base64::decode(signature));
        name == signer
            && bytes.is_some_and(|(key, signature)| {
                UnparsedPublicKey::new(&ED25519, key).verify(text.as_bytes(), &signature).is_ok()
            })
    })
}

/// Lets a running builder take what this client signs. `known`: what it takes already.
pub(crate) async fn introduce(context: &Context, known: Option<&BuilderKeys>) -> Result<()> {
    // Agents of an earlier version have no such keys, and were warned of.
    let Some(known) = known else { return Ok(()) };
    let key = Key::find_or_make(context)?;
    if !known.knows(key.public()) {
        change(context, Change::Add, &[key.public().to_owned()]).await?;
    }
    context.ui.detail(format!("store paths that you send are signed by {}", keys::name(key.public())));
    Ok(())
}

/// What is done with keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Add,
    Remove,
}

/// Changes what a running builder takes; it is in force when this returns.
pub(crate) async fn change(context: &Context, change: Change, keys: &[String]) -> Result<()> {
    let (word, doing) = match change {
        Change::Add => ("add", "cannot add the key"),
        Change::Remove => ("rm", "cannot remove the key"),
    };
    let input: String = keys.iter().map(|key| format!("{key}\n")).collect();
    let argv = [DAEMON_INIT, "keys", word];
    let output = context.engine.exec(&context.name, Container::Daemon, &argv, input.as_bytes()).await?;
    match output.code {
        0 => Ok(()),
        _ if String::from_utf8_lossy(&output.stderr).contains("cannot make sense of") => {
            Err(CliError::other_version("this builder's image knows nothing of keys"))
        }
        _ => Err(remote::failed(doing, &output)),
    }
}

/// Whose signatures a running builder takes.
pub(crate) async fn known(context: &Context) -> Result<BuilderKeys> {
    let status = wake::status(context).await?;
    status.and_then(|status| status.keys).ok_or_else(|| {
        CliError::other_version(format!("builder {} does not say whose signatures it takes", context.name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_signs_and_nothing_else_does() {
        let made = generate("b").unwrap();
        let key = Key::parse(&made).unwrap();
        assert!(key.public().contains("-b-") && !key.public().contains(char::is_whitespace));
        let signature = key.sign("text");
        assert!(verifies(key.public(), "text", &signature));
        assert!(!verifies(key.public(), "tex", &signature));
        let other = Key::parse(&generate("b").unwrap()).unwrap();
        assert_ne!(key.public(), other.public());
        assert!(!verifies(other.public(), "text", &signature));
        let renamed = signature.replacen(keys::name(key.public()), keys::name(other.public()), 1);
        assert!(!verifies(other.public(), "text", &renamed));
        assert!(!verifies("", "text", &signature) && !verifies(key.public(), "text", ""));
    }

    #[test]
    fn halves_that_do_not_belong_together_are_no_key() {
        let made = generate("b").unwrap();
        let mut bytes = base64::decode(made.trim().split_once(':').unwrap().1).unwrap();
        bytes[40] ^= 1;
        assert!(Key::parse(&format!("n:{}", base64::encode(&bytes))).is_none());
        assert!(Key::parse("").is_none() && Key::parse("n:AAAA").is_none());
    }
}
