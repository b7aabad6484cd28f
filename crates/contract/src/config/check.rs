//! Strings with a form of their own.

use super::calendar;
use super::egress;
use super::listen;
use super::secret;
use super::share::Share;
use super::window;
use crate::base64;

/// The form of a string. Each has its words for messages and docs, its pattern for the JSON schema (never
/// stricter than the check) and its check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// Names pod, volumes and SSH alias.
    Name,
    /// A container image.
    Image,
    /// Nix's name of a platform.
    System,
    /// Names a folder below `projects`.
    Project,
    /// A binary cache.
    Substituter,
    /// A key that signs paths.
    TrustedKey,
    /// A user or group of the daemon container.
    NixUser,
    /// A proxy.
    Proxy,
    /// A host that is reached without the proxy.
    NoProxy,
    /// A file on the client's machine.
    Path,
    /// A line of `authorized_keys`.
    SshKey,
    /// Of a namespace.
    Namespace,
    /// Of a context of kubeconfig.
    Context,
    /// Of an object in a cluster.
    ObjectName,
    /// A port of the pod, by number or name.
    Port,
    /// Whom the pod may speak to.
    Egress,
    /// A seccomp profile.
    Seccomp,
    /// What a derivation may ask for by `requiredSystemFeatures`.
    Feature,
    /// Of a cluster's, as a device plugin offers it.
    Resource,
    /// An address with a port, at which the pod listens.
    Listen,
    /// Hours of the week.
    Hours,
    /// A time zone by its name.
    TimeZone,
    /// A share of a file system.
    Share,
    /// A time of the week.
    Calendar,
}

/// No seccomp profile of our own choice.
pub(super) const SECCOMP_UNSET: &str = "unset";
/// Before the path of one that is on the nodes.
pub(super) const SECCOMP_LOCALHOST: &str = "localhost/";

/// The longest name: Kubernetes allows labels of 63 letters, and we append to it.
pub const NAME_MAX: usize = 40;

const SSH_KEY_TYPES: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];
const SUBSTITUTER_SCHEMES: [&str; 7] = ["https", "http", "s3", "file", "ssh", "ssh-ng", "unix"];
const PROXY_SCHEMES: [&str; 6] = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];

impl Text {
    /// What is accepted, in words.
    #[must_use]
    pub fn form(self) -> &'static str {
        match self {
            Self::Name => {
                "a string of 1 to 40 lower-case letters, digits and hyphens that begins with a letter and does not end with a hyphen"
            }
            Self::Image => "the name of an image such as \"localhost/nix-trampoline:1.0\"",
            Self::System => "Nix's name of a Linux platform such as \"x86_64-linux\"",
            Self::Project => {
                "a string of 1 to 64 letters, digits, dots, hyphens and underscores that begins with a letter or digit"
            }
            Self::Substituter => {
                "the URL of a binary cache (https, http, s3, file, ssh, ssh-ng, unix) or an absolute path, without spaces and without a password"
            }
            Self::TrustedKey => {
                "a public key of the form \"NAME:BASE64\" (32 bytes), as `nix key convert-secret-to-public` prints it"
            }
            Self::NixUser => {
                "the name of a user of the builder such as \"nix\", or \"@\" and the name of a group"
            }
            Self::Proxy => {
                "a URL without a password such as \"http://proxy.example:3128\" (http, https, socks4, socks4a, socks5, socks5h)"
            }
            Self::NoProxy => "a host, domain or address without spaces and commas",
            Self::Path => "the path of a file",
            Self::SshKey => {
                "a public key as in ~/.ssh/id_ed25519.pub, without options in front: \"ssh-ed25519 AAAA… comment\""
            }
            Self::Namespace => {
                "1 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends"
            }
            Self::Context => "the name of a context, as `kubectl config get-contexts` lists them",
            Self::ObjectName => {
                "1 to 253 lower-case letters, digits, hyphens and dots, with a letter or digit at both ends"
            }
            Self::Port => "a port from 1 to 65535, or the name of one",
            Self::Egress => {
                "a network such as \"10.0.0.0/8\", an address, the name of a host such as \"cache.example.org\", or \"substituters\""
            }
            Self::Calendar => {
                "\"daily\", \"weekly\", or a time with the days on which it counts such as \"Sun 03:00\" or \"Mon-Fri 22:30\""
            }
            Self::Share => "a percentage from \"0%\" to \"90%\", or a size such as \"2Gi\"",
            Self::Feature => "a word of letters, digits, dots, hyphens, plus signs and underscores",
            Self::Hours => {
                "days and hours such as \"Mon-Fri 08:00-19:00\" or \"Mon,Wed 22:00-06:00; Sat 10:00-24:00\""
            }
            Self::Listen => "an address and a port from 1024 on, such as \"0.0.0.0:9464\"",
            Self::TimeZone => {
                "the name of a time zone in the tz database such as \"UTC\" or \"Europe/Berlin\""
            }
            Self::Resource => "the name of a device plugin's resource such as \"devices.kubevirt.io/kvm\"",
            Self::Seccomp => {
                "\"unset\", or \"localhost/\" and the path of a profile below the kubelet's folder of profiles, without \"..\""
            }
        }
    }

    /// For the JSON schema.
    pub(crate) fn pattern(self) -> &'static str {
        match self {
            Self::Name => "^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$",
            Self::Image => "^[A-Za-z0-9][A-Za-z0-9._:/@-]*$",
            Self::System => "^[a-z0-9_]+-linux$",
            Self::Project => "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
            Self::Substituter => r"^((https?|s3|file|ssh|ssh-ng|unix)://|/)\S+$",
            Self::TrustedKey => "^[^:\\s]+:[A-Za-z0-9+/]{43}=$",
            Self::NixUser => "^@?[a-z_][a-z0-9_-]{0,31}$",
            Self::Proxy => r"^(https?|socks4a?|socks5h?)://\S+$",
            Self::NoProxy => r"^[^\s,]+$",
            Self::Path => r"^\S(.*\S)?$",
            Self::SshKey => r"^(ssh-|ecdsa-sha2-|sk-)\S+ AAAA\S+( .*)?$",
            Self::Namespace => "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
            Self::Context => r"^\S(.*\S)?$",
            Self::ObjectName => "^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$",
            Self::Port => "^([1-9][0-9]{0,4}|[a-z0-9-]{1,15})$",
            Self::Egress => "^([0-9A-Fa-f.:]+/[0-9]{1,3}|[0-9A-Fa-f.:]+|[a-z0-9.-]+)$",
            Self::Feature => "^[A-Za-z0-9][A-Za-z0-9._+-]*$",
            Self::Resource => "^[a-z0-9][a-z0-9.-]{0,252}/[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
            Self::Calendar => r"^(daily|weekly|([A-Za-z,\- ]+ )?[0-9]{2}:[0-9]{2})$",
            Self::Share => r"^([0-9]+%|[0-9]+(\.[0-9]{1,6})?([KMGT]i?|B))$",
            Self::Hours => r"^[A-Za-z0-9:,;\- ]*[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}$",
            Self::Listen => r"^(([0-9]{1,3}\.){3}[0-9]{1,3}|\[[0-9A-Fa-f:.]+\]):[0-9]{4,5}$",
            Self::TimeZone => "^[A-Za-z0-9][A-Za-z0-9/_+-]*$",
            Self::Seccomp => r"^(unset|localhost/[^/\s]\S*)$",
        }
    }

    /// What may be shown of a refused string: messages end up in logs, and somebody may have pasted a secret.
    pub(crate) fn presentable(self, text: &str) -> String {
        match self {
            Self::TrustedKey => format!("{}:…", text.split_once(':').map_or("", |(name, _)| name)),
            Self::SshKey if text.contains("PRIVATE") => "…".to_owned(),
            // As curl takes it, which is no URL.
            Self::Proxy => match text.rfind('@') {
                Some(end) if !text.contains("://") => format!("…{}", &text[end..]),
                _ => text.to_owned(),
            },
            _ => text.to_owned(),
        }
    }

    /// Whether the string has this form.
    ///
    /// # Errors
    /// What is wrong with it, in few words; [`Self::form`] tells what would be accepted.
    pub fn check(self, text: &str) -> Result<(), String> {
        if text.is_empty() {
            return Err("empty".to_owned());
        }
        if let Some(c) = text.chars().find(|c| c.is_control()) {
            return Err(format!("holds the control character U+{:04X}", u32::from(c)));
        }
        match self {
            Self::Name => name(text),
            Self::Image => {
                starts(text, |c| c.is_ascii_alphanumeric())?;
                only(text, |c| c.is_ascii_alphanumeric() || "._:/@-".contains(c))
            }
            Self::System => match text.strip_suffix("-linux") {
                Some(arch) if !arch.is_empty() => {
                    only(arch, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
                }
                _ => Err("not a Linux platform".to_owned()),
            },
            Self::Project => {
                if text.len() > 64 {
                    return Err(format!("{} letters long", text.len()));
                }
                starts(text, |c| c.is_ascii_alphanumeric())?;
                only(text, |c| c.is_ascii_alphanumeric() || "._-".contains(c))
            }
            Self::Substituter if text.starts_with('/') => only(text, |c| !c.is_whitespace() && c != '#'),
            Self::Substituter => url(text, &SUBSTITUTER_SCHEMES)
                .and_then(|()| secret::refuse(text, "a netrc file of the daemon's can hold it (docs/operating.md)")),
            Self::TrustedKey => trusted_key(text),
            Self::NixUser => nix_user(text),
            Self::Proxy => url(text, &PROXY_SCHEMES).and_then(|()| {
                secret::refuse(
                    text,
                    "let a forwarder that asks for none hold it, or the proxy admit the pod by its address (docs/operating.md)",
                )
            }),
            Self::NoProxy => only(text, |c| !c.is_whitespace() && c != ','),
            Self::Path | Self::Context if text.trim() != text => {
                Err("begins or ends with a space".to_owned())
            }
            Self::Path | Self::Context => Ok(()),
            Self::SshKey => ssh_key(text),
            Self::Namespace => dns_name(text, 63, false),
            Self::ObjectName => dns_name(text, 253, true),
            Self::Port => port(text),
            Self::Egress => text.parse::<egress::Entry>().map(drop),
            Self::Seccomp => seccomp(text),
            Self::Feature => {
                starts(text, |c| c.is_ascii_alphanumeric())?;
                only(text, |c| c.is_ascii_alphanumeric() || "._+-".contains(c))
            }
            Self::Resource => resource(text),
            Self::Listen => listen::check(text),
            Self::Hours => window::check(text),
            Self::TimeZone => window::zone(text).map(drop),
            Self::Calendar => calendar::check(text),
            Self::Share if Share::parse(text).is_none() => Err("neither a percentage nor a size".to_owned()),
            Self::Share => Ok(()),
        }
    }
}

pub(super) fn only(text: &str, accepted: impl Fn(char) -> bool) -> Result<(), String> {
    match text.chars().find(|c| !accepted(*c)) {
        Some(c) => Err(format!("holds {c:?}")),
        None => Ok(()),
    }
}

pub(super) fn starts(text: &str, accepted: impl Fn(char) -> bool) -> Result<(), String> {
    match text.chars().next() {
        Some(c) if !accepted(c) => Err(format!("begins with {c:?}")),
        _ => Ok(()),
    }
}

/// A label or, with dots, a subdomain.
pub(super) fn dns_name(text: &str, longest: usize, dots: bool) -> Result<(), String> {
    if text.len() > longest {
        return Err(format!("{} letters long", text.len()));
    }
    let end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    only(text, |c| end(c) || c == '-' || (dots && c == '.'))?;
    for part in text.split('.') {
        starts(part, end)?;
        if !part.ends_with(end) {
            return Err(format!("{part:?} ends with a hyphen or is empty"));
        }
    }
    Ok(())
}

fn port(text: &str) -> Result<(), String> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return match text.parse::<u16>() {
            Ok(1..) if !text.starts_with('0') => Ok(()),
            _ => Err("not from 1 to 65535".to_owned()),
        };
    }
    dns_name(text, 15, false)
}

fn resource(text: &str) -> Result<(), String> {
    let Some((domain, name)) = text.split_once('/') else {
        return Err("no slash between domain and name".to_owned());
    };
    dns_name(domain, 253, true)?;
    if name.is_empty() || name.len() > 63 {
        return Err(format!("its name {name:?} is {} letters long", name.len()));
    }
    starts(name, |c| c.is_ascii_alphanumeric())?;
    only(name, |c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

fn seccomp(text: &str) -> Result<(), String> {
    if text == SECCOMP_UNSET {
        return Ok(());
    }
    let Some(path) = text.strip_prefix(SECCOMP_LOCALHOST) else {
        return Err(format!("neither {SECCOMP_UNSET:?} nor a path behind {SECCOMP_LOCALHOST:?}"));
    };
    only(path, |c| !c.is_whitespace())?;
    // As the API server checks it.
    match path.split('/').find(|part| part.is_empty() || *part == "..") {
        Some(part) => Err(format!("its path {path:?} holds the part {part:?}")),
        None => Ok(()),
    }
}

fn name(text: &str) -> Result<(), String> {
    if text.len() > NAME_MAX {
        return Err(format!("{} letters long", text.len()));
    }
    only(text, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')?;
    starts(text, |c| c.is_ascii_lowercase())?;
    if text.ends_with('-') { Err("ends with a hyphen".to_owned()) } else { Ok(()) }
}

fn url(text: &str, schemes: &[&str]) -> Result<(), String> {
    // nix.conf cuts a line at `#` and a list at spaces; a proxy has no use for either.
    only(text, |c| !c.is_whitespace() && c != '#')?;
    match text.split_once("://") {
        Some((scheme, _)) if !schemes.contains(&scheme) => Err(format!("scheme {scheme:?} is not known")),
        Some((_, "")) => Err("nothing after \"://\"".to_owned()),
        Some(_) => Ok(()),
        None => Err("no scheme such as \"https://\"".to_owned()),
    }
}

fn trusted_key(text: &str) -> Result<(), String> {
    only(text, |c| !c.is_whitespace())?;
    let Some((name, key)) = text.split_once(':') else {
        return Err("no colon between name and key".to_owned());
    };
    if name.is_empty() {
        return Err("no name before the colon".to_owned());
    }
    match base64::decode(key) {
        None => Err("what follows the colon is not base64".to_owned()),
        Some(bytes) if bytes.len() == 64 => Err("64 bytes long: that is a SECRET key".to_owned()),
        Some(bytes) if bytes.len() != 32 => Err(format!("{} bytes long, not 32", bytes.len())),
        Some(_) => Ok(()),
    }
}

/// Not `*`: who trusts everybody has to say whom that is.
fn nix_user(text: &str) -> Result<(), String> {
    let name = text.strip_prefix('@').unwrap_or(text);
    if name.is_empty() || name.len() > 32 {
        return Err(format!("a name of {} letters", name.len()));
    }
    starts(name, |c| c.is_ascii_lowercase() || c == '_')?;
    only(name, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c))
}

fn ssh_key(text: &str) -> Result<(), String> {
    if text.contains("PRIVATE KEY") {
        return Err("a PRIVATE key".to_owned());
    }
    let mut words = text.split_ascii_whitespace();
    let kind = words.next().unwrap_or_default();
    if !SSH_KEY_TYPES.contains(&kind) {
        return Err(format!("{kind:?} is not a type of key"));
    }
    let Some(bytes) = words.next().and_then(base64::decode) else {
        return Err("no base64 after the type".to_owned());
    };
    // The key itself begins with the length and name of its type.
    let inner = bytes.get(4..4 + kind.len());
    if bytes.len() < kind.len() + 4 + 32 || inner != Some(kind.as_bytes()) {
        return Err(format!("cut off, or not a key of type {kind}"));
    }
    Ok(())
}
