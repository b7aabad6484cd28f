//! Building what is described in the conversation itself: a derivation of which the store need not hold a file.

use std::io::{Read, Write};

use crate::connection::{Connection, done};
use crate::error::Result;
use crate::stderr;
use crate::wire::{self, Request};

/// By the protocol's numbers.
const BUILD_DERIVATION: u64 = 36;
const BUILD_PATHS: u64 = 9;
/// Of the modes: put what is fetched in the place of what lies there.
const REPAIR: u64 = 1;

/// What is to be built. Only trusted clients may name the output of anything that is not known by its content.
#[derive(Debug, Clone, Copy)]
pub struct Derivation<'a> {
    /// Its own store path, which need not be valid.
    pub path: &'a str,
    /// Names and store paths.
    pub outputs: &'a [(&'a str, &'a str)],
    /// Valid store paths.
    pub inputs: &'a [&'a str],
    /// e.g. `x86_64-linux`.
    pub system: &'a str,
    /// A program, or `builtin:NAME`.
    pub builder: &'a str,
    /// The program's.
    pub arguments: &'a [&'a str],
    /// Names and values.
    pub environment: &'a [(&'a str, &'a str)],
}

/// What to do about outputs that are valid already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildMode {
    /// Nothing.
    Normal,
    /// Build once more, and compare; they must be valid.
    Check,
}

/// How a build ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOutcome {
    /// By Nix's numbers: 0 built, 1 fetched, 2 valid already; anything else is a failure.
    pub status: u64,
    /// Why it failed, without colours.
    pub message: String,
    /// Seconds since the epoch; 0: nothing was built, or the daemon does not say.
    pub started: u64,
}

impl BuildOutcome {
    /// Whether the outputs are valid.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.status <= 2
    }

    /// Whether somebody has built them just now.
    #[must_use]
    pub fn was_built(&self) -> bool {
        self.status == 0 || (self.succeeded() && self.started > 0)
    }
}

impl<S: Read + Write> Connection<S> {
    /// Fetches a valid path from the substituters once more, and puts it in the place of what lies there. Only trusted clients may.
    ///
    /// # Errors
    /// See [`crate::Error`]; also where no substituter has it.
    pub fn repair(&mut self, path: &str) -> Result<()> {
        let request = Request::new(BUILD_PATHS).strs(std::iter::once(path)).u64(REPAIR);
        self.ask(&request, &mut |_| {}, done)
    }

    /// Builds, which may take as long as it takes.
    ///
    /// # Errors
    /// See [`crate::Error`]. That the build failed is none.
    pub fn build(&mut self, derivation: &Derivation<'_>, mode: BuildMode) -> Result<BuildOutcome> {
        let pairs = |request: Request, pairs: &[(&str, &str)], more: &[&str]| {
            let request = request.u64(pairs.len() as u64);
            pairs.iter().fold(request, |request, (name, value)| {
                more.iter().fold(request.str(name).str(value), |request, text| request.str(text))
            })
        };
        let request = Request::new(BUILD_DERIVATION).str(derivation.path);
        // Neither a kind of hash nor a hash: the output is named by what goes in.
        let request = pairs(request, derivation.outputs, &["", ""])
            .strs(derivation.inputs.iter().copied())
            .str(derivation.system)
            .str(derivation.builder)
            .strs(derivation.arguments.iter().copied());
        let request = pairs(request, derivation.environment, &[]).u64(match mode {
            BuildMode::Normal => 0,
            BuildMode::Check => 2,
        });
        let minor = self.hello().minor;
        self.ask(&request, &mut |_| {}, |from| {
            let status = wire::read_u64(from)?;
            let message = stderr::plain(&wire::read_lossy(from, "why a build failed")?);
            let mut started = 0;
            if minor >= 29 {
                // How often, whether each time the same.
                wire::read_u64(from)?;
                wire::read_u64(from)?;
                started = wire::read_u64(from)?;
                wire::read_u64(from)?;
            }
            if minor >= 28 {
                // Of outputs that are known by their content: what each has become.
                let mut buffer = Vec::new();
                for _ in 0..wire::read_count(from, "outputs", wire::MAX_LIST)? {
                    wire::read_bytes(from, "an output", &mut buffer)?;
                    wire::read_bytes(from, "what an output is", &mut buffer)?;
                }
            }
            Ok(BuildOutcome { status, message, started })
        })
    }
}
