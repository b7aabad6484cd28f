//! The greeting: who are you, how old are you, do you trust me.

use std::io::{Read, Write};

use crate::error::{Error, Result};
use crate::stderr;
use crate::wire::{self, Request};

/// What a client says first.
const CLIENT_MAGIC: u64 = 0x6e69_7863;
/// What a daemon answers.
const DAEMON_MAGIC: u64 = 0x6478_696f;
/// What we announce. From 1.38 on both sides exchange lists of features first; 1.35 has all that is used here, and daemons
/// of all later versions accept it.
pub const OUR_MINOR: u64 = 35;
/// Nix 2.0. Nothing older is met any more.
pub const OLDEST_MINOR: u64 = 20;

/// What the daemon said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// e.g. `2.26.3`; empty from a daemon before protocol 1.33, which does not say.
    pub nix_version: String,
    /// Minor version of the protocol that is spoken from now on: the lower of ours and its.
    pub minor: u64,
    /// Whether we are a trusted user; `None` where it does not say (before 1.35, or not known).
    pub trusted: Option<bool>,
}

/// Greets the daemon at the other end of `stream`. When this returns it has proved to be one, and alive: the answer comes from
/// the process that serves this connection. Never reads further than the greeting.
///
/// The stream's own deadlines bound how long it takes.
///
/// # Errors
/// When it is no daemon, of no supported version, or refuses us.
pub fn handshake(stream: &mut (impl Read + Write)) -> Result<Hello> {
    stream.write_all(Request::new(CLIENT_MAGIC).bytes())?;
    stream.flush()?;
    let magic = wire::read_u64(stream)?;
    if magic != DAEMON_MAGIC {
        return Err(Error::NotADaemon(magic));
    }
    let version = wire::read_u64(stream)?;
    let (major, daemon_minor) = (version >> 8, version & 0xff);
    if major != 1 || daemon_minor < OLDEST_MINOR {
        return Err(Error::Version { major, minor: daemon_minor });
    }
    let minor = daemon_minor.min(OUR_MINOR);
    // Behind our version: no CPU affinity (1.14), no reserved space (1.11), both long without meaning.
    stream.write_all(Request::new(1 << 8 | OUR_MINOR).u64(0).u64(0).bytes())?;
    stream.flush()?;
    let nix_version =
        if minor >= 33 { wire::read_lossy(stream, "the version of Nix")? } else { String::new() };
    let trusted = if minor >= 35 { read_trust(stream)? } else { None };
    stderr::until_last(stream, minor, &mut |_| {})?;
    Ok(Hello { nix_version, minor, trusted })
}

fn read_trust(stream: &mut impl Read) -> Result<Option<bool>> {
    match wire::read_u64(stream)? {
        0 => Ok(None),
        1 => Ok(Some(true)),
        2 => Ok(Some(false)),
        value => Err(Error::Unexpected { what: "its trust in us", value }),
    }
}
