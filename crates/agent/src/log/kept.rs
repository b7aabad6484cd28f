//! The last lines of an agent, in two files of which the older one goes when the newer one is full.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use contract::handshake::{LOG_HALF, file};
use nix::libc::{O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// Lines from before the folder is there: under podman daemon-init, which makes it, may start last.
const EARLY: usize = 16 << 10;

/// See the module.
#[derive(Debug)]
pub(super) struct Kept {
    dir: PathBuf,
    /// The newer one, and its size.
    open: Option<(File, u64)>,
    early: Vec<u8>,
}

impl Kept {
    /// Opened with the first line.
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, open: None, early: Vec::new() }
    }

    /// Adds a line. What cannot be written is said on standard error alone.
    pub(super) fn append(&mut self, line: &[u8]) {
        let line = stamped(line);
        if self.open.is_none() {
            self.open = self.reopen().ok();
        }
        if self.write(&line).is_err() {
            // The folder may come, or have room, later.
            self.open = None;
            let room = EARLY.saturating_sub(self.early.len());
            if line.len() <= room {
                self.early.extend_from_slice(&line);
            }
        }
    }

    /// Goes on where another process of this life has ended.
    fn reopen(&mut self) -> io::Result<(File, u64)> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o644)
            .custom_flags(O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
            .open(self.dir.join(file::LOG))?;
        let size = file.metadata()?.len();
        let mut open = (file, size);
        let early = std::mem::take(&mut self.early);
        open.0.write_all(&early)?;
        open.1 += early.len() as u64;
        Ok(open)
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let (file, size) = self.open.as_mut().ok_or(io::ErrorKind::NotFound)?;
        // Nobody logs so much in one line; if somebody does, its beginning is enough.
        let line = &line[..line.len().min(usize::try_from(LOG_HALF).unwrap_or(usize::MAX))];
        if *size + line.len() as u64 > LOG_HALF {
            fs::rename(self.dir.join(file::LOG), self.dir.join(file::LOG_BEFORE))?;
            self.open = Some(self.reopen()?);
            return self.write(line);
        }
        file.write_all(line)?;
        *size += line.len() as u64;
        Ok(())
    }
}

/// Nobody adds the time here. JSON lines have it.
fn stamped(line: &[u8]) -> Vec<u8> {
    let mut stamp = String::new();
    if line.first() != Some(&b'{') && SystemTime.format_time(&mut Writer::new(&mut stamp)).is_ok() {
        stamp.push(' ');
    }
    [stamp.as_bytes(), line].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_there_and_the_first_ones_make_room() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = Kept::new(dir.path().to_owned());
        let count = 4 * LOG_HALF / 100;
        for number in 0..count {
            kept.append(format!("{{{number:098}}}\n").as_bytes());
        }
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        let (before, now) = (read(file::LOG_BEFORE), read(file::LOG));
        assert!(before.len() as u64 <= LOG_HALF && now.len() as u64 <= LOG_HALF);
        assert!((before.len() + now.len()) as u64 > LOG_HALF, "half of it at least is always there");
        let numbers: Vec<u64> =
            (before + &now).lines().map(|line| line.trim_matches(['{', '}']).parse().unwrap()).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "none is missing in between");
        assert_eq!(numbers.last(), Some(&(count - 1)));
    }

    #[test]
    fn what_is_said_before_the_folder_is_there_is_kept_and_a_second_process_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let later = dir.path().join("user");
        let mut kept = Kept::new(later.clone());
        kept.append(b"INFO early\n");
        fs::create_dir(&later).unwrap();
        kept.append(b"INFO there\n");
        Kept::new(later.clone()).append(b"INFO again\n");
        let text = fs::read_to_string(later.join(file::LOG)).unwrap();
        let words: Vec<&str> =
            text.lines().filter_map(|line| line.split_once("Z INFO ")).map(|l| l.1).collect();
        assert_eq!(words, ["early", "there", "again"], "{text}");
    }

    #[test]
    fn a_planted_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, dir.path().join(file::LOG)).unwrap();
        Kept::new(dir.path().to_owned()).append(b"INFO x\n");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    }
}
