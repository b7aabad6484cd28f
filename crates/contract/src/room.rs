//! What is refused while the store's volume has too little room.

/// What the client lets Nix run at the other end of ssh, in front of `--stdio`, where it only reads the store: else it could not be told
/// from who brings paths in.
pub const READING: &str = "exec nix-daemon";

/// Whether this command line, as ssh hands it over, is that of a Nix that brings paths into the store, or builds there.
#[must_use]
pub fn brings_paths(command: &str) -> bool {
    let mut words = command.split_whitespace();
    let program = words.next().and_then(|path| path.rsplit('/').next());
    match program {
        Some("nix-daemon") => words.any(|word| word == "--stdio"),
        Some("nix-store") => {
            words.clone().any(|word| word == "--serve") && words.any(|word| word == "--write")
        }
        Some("nix") => words.next() == Some("daemon") && words.any(|word| word == "--stdio"),
        _ => false,
    }
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
