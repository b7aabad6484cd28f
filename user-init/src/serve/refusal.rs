//! Who was refused, by the id that the client has given the session. An exit code alone does not tell that: it may be the command's
//! own, and a command that has run must not run twice.

use std::fs;
use std::path::Path;

/// Logs it, in the words that the client looks for.
pub(super) fn tell(proc: &Path, pid: i32) {
    // One that has gone is told nothing any more.
    let words = fs::read(proc.join(pid.to_string()).join("cmdline")).unwrap_or_default();
    if let Some(id) = id(&String::from_utf8_lossy(&words)) {
        tracing::info!("{}", contract::session::refusal(id));
    }
}

/// As `--id` gives it, before the command's own dashes.
fn id(cmdline: &str) -> Option<&str> {
    let ours = cmdline.split("\0--\0").next()?;
    let mut words = ours.split('\0').skip_while(|word| *word != "session");
    words.find(|word| *word == "--id").and_then(|_| words.next()).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_ours_and_not_the_commands() {
        let line = "/opt/user-init\0session\0--kind\0exec\0--id\0a-12\0--\0sh\0--id\0other\0";
        assert_eq!(id(line), Some("a-12"));
        assert_eq!(id("/opt/user-init\0session\0--kind\0exec\0--\0session\0--id\0x\0"), None);
        assert_eq!(id("/opt/user-init\0session\0--kind\0ssh\0"), None);
        assert_eq!(id(""), None);
    }
}
