//! What is refused while the store's volume has too little room.

/// What the client lets Nix run at the other end of ssh, in front of `--stdio`, where it only reads the store: else it could not be told
/// from who brings paths in.
pub const READING: &str = "exec nix-daemon";

/// The program of a command line as ssh hands it over, and its words.
fn words(command: &str) -> (Option<&str>, std::str::SplitWhitespace<'_>) {
    let mut words = command.split_whitespace();
    (words.next().and_then(|path| path.rsplit('/').next()), words)
}

/// Whether this command line, as ssh hands it over, is what Nix runs at the other end.
#[must_use]
pub fn speaks_nix(command: &str) -> bool {
    let (program, mut words) = words(command);
    match program {
        Some("nix-daemon") => words.any(|word| word == "--stdio"),
        Some("nix-store") => words.any(|word| word == "--serve"),
        Some("nix") => words.next() == Some("daemon") && words.any(|word| word == "--stdio"),
        _ => false,
    }
}

/// Whether it is that of a Nix that brings paths into the store, or builds there.
#[must_use]
pub fn brings_paths(command: &str) -> bool {
    let (program, mut words) = words(command);
    speaks_nix(command) && (program != Some("nix-store") || words.any(|word| word == "--write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_is_told_from_who_writes() {
        for command in ["nix-daemon --stdio", "/nix/bin/nix-daemon --stdio", "nix-store --serve --write"] {
            assert!(brings_paths(command), "{command}");
        }
        for command in
            ["", &format!("{READING} --stdio"), "nix-store --serve", "bash -l", "rsync --server", "nix build"]
        {
            assert!(!brings_paths(command), "{command}");
        }
    }
}
