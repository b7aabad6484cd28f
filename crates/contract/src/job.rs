//! What the client asks of `user-init`, by subcommands run through the engine's exec, one JSON object a
//! line. See `user-init`'s own docs for the exchange.

use serde::{Deserialize, Serialize};

use crate::exit::Exit;

/// First line that `user-init receive` reads; the tree's manifest (see [`crate::tree`]) follows at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushHeader {
    /// Folder name below `projects`.
    pub project: String,
    /// Bytes of the manifest.
    pub manifest: u64,
    /// sha256 of it, hex: as it names the content of every file, it names the tree.
    pub sha256: String,
    /// For a person: `main 1a2b3c4`, with ` + changes` for a dirty tree.
    pub label: String,
    /// `user@host` of the client.
    pub from: String,
    /// The client can send content as a zstd frame.
    #[serde(default)]
    pub zstd: bool,
}

/// Answers of `user-init receive`, a line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum PushAnswer {
    /// Send the content of these files, each behind its [`crate::tree::Frame`], then [`crate::tree::Frame::End`]. Asked
    /// a second time for what was not what its id says.
    Send {
        /// Indices in the manifest; paths with the same content are asked for once.
        files: Vec<u32>,
        /// All of it in one zstd frame, of a window of 2^[`crate::tree::WINDOW_LOG`] bytes at most. Never where the header
        /// does not offer it.
        #[serde(default)]
        zstd: bool,
    },
    /// The tree is there (it was already, or it has now been made current).
    Done(Generation),
}

/// One pushed tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Its project.
    pub project: String,
    /// Grows by one with each push of other content.
    pub generation: u64,
    /// Absolute path in the builder.
    pub path: String,
    /// [`PushHeader::sha256`].
    pub sha256: String,
    /// [`PushHeader::label`].
    pub label: String,
    /// [`PushHeader::from`].
    pub from: String,
    /// Whether `current` leads here.
    pub current: bool,
    /// Nothing had to be sent.
    #[serde(default)]
    pub unchanged: bool,
}

/// `user-init job start` reads it from its standard input and prints a [`JobStarted`]; with `--follow` it goes on with
/// what `job follow` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildRequest {
    /// Project whose tree is built.
    pub project: String,
    /// Its generation; absent: the current one.
    #[serde(default)]
    pub generation: Option<u64>,
    /// `-f FILE`, relative to the tree. Absent: the flake if there is one, else `default.nix`.
    #[serde(default)]
    pub file: Option<String>,
    /// Attributes (or flake outputs); empty: the default.
    #[serde(default)]
    pub attrs: Vec<String>,
    /// Passed to `nix build` as they are.
    #[serde(default)]
    pub nix_args: Vec<String>,
    /// `user@host` of the client.
    pub from: String,
}

impl BuildRequest {
    /// What is built, for people: `hello -f release.nix tests`.
    #[must_use]
    pub fn what(&self) -> String {
        let mut text = self.project.clone();
        if let Some(file) = &self.file {
            text.push_str(" -f ");
            text.push_str(file);
        }
        for attr in &self.attrs {
            text.push(' ');
            text.push_str(attr);
        }
        text
    }
}

/// Answer to a [`BuildRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStarted {
    /// Names its folder below `JOBS`: a number that grows by one with each build.
    pub id: String,
    /// The generation that it builds.
    pub generation: u64,
    /// Working directory, absolute.
    pub dir: String,
    /// What is current of the project, where another generation was asked for: somebody has pushed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Generation>,
    /// Builds that must end before it begins.
    #[serde(default)]
    pub queued: u32,
}

/// `exit.json` of a job, and the last line that `user-init job follow` and `job cancel --wait` print.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEnd {
    /// Nix's own exit code; 128 + the signal's number if one ended it.
    pub code: i32,
    /// Ended by `job cancel`.
    #[serde(default)]
    pub cancelled: bool,
    /// Ended by the builder's end, not by its own or somebody's wish.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
    /// Why, where Nix does not say (builder stopped, pod ended).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Store paths that were built, in the order asked for.
    #[serde(default)]
    pub outputs: Vec<String>,
}

impl JobEnd {
    /// How it ended, in a word.
    #[must_use]
    pub fn state(&self) -> JobState {
        match self {
            Self { interrupted: true, .. } => JobState::Interrupted,
            Self { cancelled: true, .. } => JobState::Cancelled,
            Self { code: 0, .. } => JobState::Finished,
            _ => JobState::Failed,
        }
    }

    /// What a client that waits for the job ends with: Nix's own code, or that the same may be tried again.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.interrupted {
            return Exit::Stopping.code();
        }
        u8::try_from(self.code & 0xff).unwrap_or(Exit::ChildFailed.code())
    }
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// Waits for others to end: see `max-running-jobs`.
    Queued,
    /// Has a process.
    Running,
    /// Has built what was asked for.
    Finished,
    /// Nix has ended with another code than 0.
    Failed,
    /// By `job cancel`.
    Cancelled,
    /// The builder ended before it did.
    Interrupted,
}

impl JobState {
    /// As `--json` has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Lines of `user-init job follow ID [--from BYTE]`. Every byte of the log is in exactly one of them; `next` is the offset
/// behind it, from which a follower that lost its connection goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum FollowEvent {
    /// A piece of the log (Nix's `internal-json`), mostly of whole lines.
    Log {
        /// As it stands there, newlines included.
        text: String,
        /// Byte offset in the log.
        next: u64,
    },
    /// A piece of the log that is not UTF-8.
    Bytes {
        /// See [`crate::base64`].
        base64: String,
        /// Byte offset in the log.
        next: u64,
    },
    /// That was all so far, for whoever does not wait for more (`--now`).
    SoFar,
    /// It has ended; nothing follows.
    End(JobEnd),
}

/// One of the lines of `user-init job list`, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobInfo {
    /// See [`JobStarted::id`].
    pub id: String,
    /// What was asked for.
    pub request: BuildRequest,
    /// The generation that it builds.
    pub generation: u64,
    /// Seconds since the epoch.
    pub started: u64,
    /// Seconds since the epoch; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<u64>,
    /// Bytes of its log so far.
    #[serde(default)]
    pub log: u64,
    /// It has no process yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub queued: bool,
    /// Absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<JobEnd>,
}

impl JobInfo {
    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> JobState {
        match &self.end {
            Some(end) => end.state(),
            None if self.queued => JobState::Queued,
            None => JobState::Running,
        }
    }
}

/// A job that the builder's end interrupted, told by the life that comes after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostJob {
    /// See [`JobStarted::id`].
    pub id: String,
    /// See [`BuildRequest::what`].
    pub what: String,
}

impl std::fmt::Display for LostJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.id, self.what)
    }
}
