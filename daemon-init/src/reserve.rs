//! Files that are kept for a volume on which no more can be made: a collection needs a few of its own before it can delete any. Of
//! room, Nix itself keeps some.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use nix::sys::statvfs::statvfs;

/// A folder, a socket, and a list of roots for whoever asks at once.
const FILES: u32 = 16;
/// So few are as good as none.
const SHORT: u64 = 64;

/// Gives them free if the volume is short of files, else makes those that are missing.
///
/// # Errors
/// When neither can be done.
pub fn keep(mark_dir: &Path) -> io::Result<()> {
    let folder = mark_dir.join("reserve");
    let volume = statvfs(mark_dir)?;
    // Where inodes are made as they are needed there is no count of them.
    let short = volume.files() > 0 && volume.files_available() < SHORT;
    match fs::create_dir(&folder) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists || short => {}
        made => made?,
    }
    for number in 0..FILES {
        let file = folder.join(number.to_string());
        let done = if short {
            fs::remove_file(&file)
        } else {
            OpenOptions::new().write(true).create_new(true).open(&file).map(drop)
        };
        match done {
            Err(e) if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {}
            done => done?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn files_are_kept_until_there_are_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let kept = || fs::read_dir(dir.path().join("reserve")).unwrap().count();
        keep(dir.path()).unwrap();
        keep(dir.path()).unwrap();
        assert_eq!(kept(), 16);
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let mount =
            |args: &[&str]| Command::new("mount").args(args).arg(dir.path()).status().unwrap().success();
        assert!(mount(&["-t", "tmpfs", "-o", "nr_inodes=100", "tmpfs"]));
        keep(dir.path()).unwrap();
        let (before, filled) =
            (kept(), (0..).take_while(|n| fs::create_dir(dir.path().join(format!("f{n}"))).is_ok()).count());
        keep(dir.path()).unwrap();
        let after = kept();
        let free = statvfs(dir.path()).unwrap().files_available();
        assert!(Command::new("umount").arg(dir.path()).status().unwrap().success());
        assert_eq!((before, after), (16, 0), "{filled}");
        assert!(free >= 16, "{free}");
    }
}
