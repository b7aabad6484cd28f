//! Which settings of nix.conf `[daemon.nix]` passes on.

use super::secret;

/// What a value may be, for messages and docs.
pub(crate) const VALUE_FORM: &str =
    "a string on one line without `#`, a whole number, a boolean, or a list of strings without spaces";

/// Where a setting with a key of its own is set.
const ELSEWHERE: [(&str, &str); 17] = [
    ("max-jobs", "max-jobs"),
    ("build-max-jobs", "max-jobs"),
    ("cores", "cores"),
    ("build-cores", "cores"),
    ("substituters", "substituters"),
    ("binary-caches", "substituters"),
    ("extra-substituters", "extra-substituters"),
    ("extra-binary-caches", "extra-substituters"),
    ("trusted-public-keys", "trusted-public-keys"),
    ("binary-cache-public-keys", "trusted-public-keys"),
    ("extra-trusted-public-keys", "trusted-public-keys"),
    ("extra-binary-cache-public-keys", "trusted-public-keys"),
    ("ssl-cert-file", "ca-bundle"),
    ("trusted-users", "trusted-users"),
    ("extra-trusted-users", "trusted-users"),
    ("fsync-store-paths", "durability"),
    ("sync-before-registering", "durability"),
];

/// Settings that the builder relies on, and why.
const OURS: [(&str, &str); 16] = [
    ("sandbox", "builds are always sandboxed"),
    ("build-use-sandbox", "builds are always sandboxed"),
    ("build-use-chroot", "builds are always sandboxed"),
    ("sandbox-fallback", "a build never runs without its sandbox"),
    ("build-users-group", "running builds are seen by their build users"),
    ("auto-allocate-uids", "running builds are seen by their build users"),
    ("secret-key-files", "the builder signs with a key of its own"),
    ("extra-secret-key-files", "the builder signs with a key of its own"),
    ("require-sigs", "what is neither signed nor content-addressed stays out"),
    ("signed-binary-caches", "what is neither signed nor content-addressed stays out"),
    ("allowed-users", "maintenance and user both speak to the daemon"),
    ("extra-allowed-users", "maintenance and user both speak to the daemon"),
    ("fsync-metadata", "what is registered has to outlive a power cut"),
    ("store", "the store is the builder's volume"),
    ("system", "it is the image's"),
    ("include", "it is no setting, and would read another file"),
];

/// Settings that hold secrets: everybody in the builder reads nix.conf.
const SECRET: [&str; 2] = ["access-tokens", "extra-access-tokens"];

/// Every setting that is not passed on.
pub(crate) fn refused() -> Vec<&'static str> {
    ELSEWHERE.iter().chain(&OURS).map(|(name, _)| *name).chain(SECRET).collect()
}

/// Why a setting is not passed on.
pub(crate) struct Refusal {
    pub(crate) problem: String,
    pub(crate) accepted: String,
}

/// Whether we pass this setting on.
pub(crate) fn check_key(key: &str) -> Result<(), Refusal> {
    let letter = |b: u8| b.is_ascii_lowercase();
    let shape = key.bytes().all(|b| letter(b) || b.is_ascii_digit() || b == b'-');
    if !shape || !key.bytes().next().is_some_and(letter) {
        return Err(Refusal {
            problem: "not the name of a setting of nix.conf".to_owned(),
            accepted: "lower-case letters, digits and hyphens, beginning with a letter".to_owned(),
        });
    }
    if let Some((_, own)) = ELSEWHERE.iter().find(|(name, _)| *name == key) {
        return Err(Refusal {
            problem: "has a key of its own".to_owned(),
            accepted: format!("`{own}` in [daemon]"),
        });
    }
    if let Some((_, why)) = OURS.iter().find(|(name, _)| *name == key) {
        return Err(Refusal {
            problem: format!("is not passed on: {why}"),
            accepted: "any setting of nix.conf that the builder does not rely on".to_owned(),
        });
    }
    if SECRET.contains(&key) {
        return Err(Refusal {
            problem: "is not passed on: everybody in the builder reads its nix.conf".to_owned(),
            accepted: "~/.config/nix/nix.conf in the builder, or a Secret (docs/operating.md)".to_owned(),
        });
    }
    Ok(())
}

/// Whether nix.conf can hold this value.
pub(crate) fn check_value(text: &str) -> Result<(), String> {
    if text.contains('#') {
        return Err("nix.conf takes the rest of the line for a comment".to_owned());
    }
    if let Some(c) = text.chars().find(|c| c.is_control()) {
        return Err(format!("holds the control character U+{:04X}", u32::from(c)));
    }
    secret::refuse(text, "a netrc file can hold it (docs/operating.md)")
}
