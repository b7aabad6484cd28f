//! An agent's own status file.

use std::path::PathBuf;

use contract::config::Reader;
use contract::exit::Exit;
use contract::handshake::{AgentStatus, Life, Phase, file};
use contract::places::Container;

use crate::files;
use crate::paths::Paths;

/// Writes `status.json`. A status that cannot be written is logged and never stops the agent: its folder may not be there yet.
#[derive(Debug, Clone)]
pub struct Reporter {
    dir: PathBuf,
    reader: Reader,
    status: AgentStatus,
}

impl Reporter {
    /// For the agent of `container`; nothing is written yet.
    #[must_use]
    pub fn new(paths: &Paths, life: &Life, container: Container, version: &str) -> Self {
        let status = AgentStatus {
            life: life.clone(),
            agent: container.agent().to_owned(),
            version: version.to_owned(),
            phase: Phase::Starting,
            message: String::new(),
            exit: None,
            progress: None,
            config: String::new(),
            config_note: None,
            at: 0,
        };
        let reader = match container {
            Container::Daemon => Reader::Daemon,
            Container::User => Reader::User,
            Container::Maintenance => Reader::Maintenance,
            Container::ShutdownMonitor => Reader::ShutdownMonitor,
        };
        Self { dir: paths.run_dir(container), reader, status }
    }

    /// Whose it is: which settings concern it.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader
    }

    /// Where it stands now.
    pub fn phase(&mut self, phase: Phase, message: impl Into<String>) {
        self.status.phase = phase;
        self.status.message = message.into();
        self.status.progress = None;
        self.status.exit = None;
        self.write();
    }

    /// Bytes done of bytes known.
    pub fn progress(&mut self, done: u64, total: u64) {
        self.status.progress = Some((done, total));
        self.write();
    }

    /// Last words.
    pub fn failed(&mut self, exit: Exit, message: impl Into<String>) {
        self.status.exit = Some(exit);
        self.status.phase = Phase::Failed;
        self.status.message = message.into();
        self.write();
    }

    /// The configuration in force, and what stands against a newer one.
    pub fn config(&mut self, digest: &str, note: Option<String>) {
        digest.clone_into(&mut self.status.config);
        self.status.config_note = note;
        self.write();
    }

    /// What was written last.
    #[must_use]
    pub fn status(&self) -> &AgentStatus {
        &self.status
    }

    fn write(&mut self) {
        self.status.at = crate::unix_now();
        if let Err(error) = files::write_json(&self.dir, file::STATUS, &self.status) {
            tracing::debug!(error = %chain(&error), "status not written");
        }
    }
}

/// An error with its causes, a line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
