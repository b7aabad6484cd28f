//! Whether something of a job was killed, as far as its log tells.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// What killed a process says nothing, and those who waited for it say it in the end.
const TAIL: u64 = 64 << 10;
/// Nix, shells, compilers, linkers and make.
const WORDS: [&str; 4] = ["Killed", "SIGKILL", "signal 9", "exit code 137"];

/// Of a job that has ended with `code`.
pub(super) fn is_told(code: i32, log: &Path) -> bool {
    code == 137 || tail(log).is_ok_and(|text| WORDS.iter().any(|word| text.contains(word)))
}

fn tail(log: &Path) -> io::Result<String> {
    let mut log = File::open(log)?;
    let length = log.metadata()?.len();
    log.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    log.take(TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_is_seen_at_the_end_of_a_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        assert!(!is_told(1, &log) && is_told(137, &log), "without a log the code counts");
        let noise = "@nix {}\n".repeat(20_000);
        for (end, told) in [
            ("builder for '/nix/store/x.drv' failed due to signal 9 (Killed)", true),
            ("cc: fatal error: Killed signal terminated program cc1plus", true),
            ("builder failed with exit code 1", false),
        ] {
            std::fs::write(&log, format!("{noise}{end}\n")).unwrap();
            assert_eq!(is_told(1, &log), told, "{end}");
        }
        std::fs::write(&log, format!("Killed\n{noise}")).unwrap();
        assert!(!is_told(1, &log), "long before");
    }
}
