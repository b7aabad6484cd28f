//! Why nothing of ours runs in a container, by the words of API server, kubelet and runtime.

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The container, or its pod, is not there or does not run.
    NotRunning,
    /// There is no such program.
    NotFound,
    /// It is there, but cannot be run.
    NotRunnable,
    /// The API server does not reach the node.
    NodeAway,
    Unknown,
}

impl Cause {
    pub(super) fn of(words: &str) -> Self {
        const KNOWN: [(&str, Cause); 21] = [
            // It ended while it was entered; a file of `/proc` is then not found.
            ("unable to create new parent process", Cause::NotRunning),
            ("executable file not found", Cause::NotFound),
            ("no such file or directory", Cause::NotFound),
            ("permission denied", Cause::NotRunnable),
            ("exec format error", Cause::NotRunnable),
            ("is a directory", Cause::NotRunnable),
            ("error dialing backend", Cause::NodeAway),
            // A log that it did not get.
            ("/containerLogs/", Cause::NodeAway),
            ("container not found", Cause::NotRunning),
            ("container is not created or running", Cause::NotRunning),
            ("is not in running state", Cause::NotRunning),
            ("cannot exec in a stopped", Cause::NotRunning),
            ("pod does not exist", Cause::NotRunning),
            ("does not have a host assigned", Cause::NotRunning),
            ("container is in CONTAINER_EXITED state", Cause::NotRunning),
            ("process already finished", Cause::NotRunning),
            ("no running task found", Cause::NotRunning),
            ("init process is not running", Cause::NotRunning),
            ("cannot start a stopped process", Cause::NotRunning),
            ("failed to find container", Cause::NotRunning),
            // It ended just now: before any program is looked for.
            ("failed to create exec", Cause::NotRunning),
        ];
        let known = KNOWN.iter().find(|(text, _)| words.contains(text));
        known.map_or(Cause::Unknown, |(_, cause)| *cause)
    }
}
