//! What comes into the store while a collection is let in. Nix's lists of temporary roots know of it only for as long as the
//! conversation lasts that brings it, and a collection reads them some time after it has the lock: what began before that, and is
//! over by then, is in neither.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use agent::paths::Paths;
use agent::proc;
use agent::watch::DirWatch;
use contract::in_use::is_name;

use super::fresh::text;
use crate::seed::error::{Context, StoreError};

/// A collection answers when it has deleted the path that it is about to delete.
const ANSWER: Duration = Duration::from_secs(20);

/// From now on.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// `None`: the folder has to be read again.
    watch: Option<DirWatch>,
}

impl Arrivals {
    pub(super) fn watch(paths: &Paths) -> Self {
        let watch = || {
            let mut watch = DirWatch::new()?;
            watch.add(&paths.nix.join("store"))?;
            Ok::<_, io::Error>(watch)
        };
        Self { watch: watch().ok() }
    }

    /// Names of what has come since, and of what somebody takes as temporary root now. `listed` reads the store's folder, where the kernel
    /// does not tell.
    pub(super) fn take(
        &mut self,
        paths: &Paths,
        listed: impl FnOnce() -> Result<Vec<String>, StoreError>,
    ) -> Result<Vec<String>, StoreError> {
        // First those that are announced: once they are not any more, they are there.
        let mut names = announced(paths)?;
        match self.watch.as_mut().and_then(DirWatch::drain_names) {
            Some(came) => names.extend(came.into_iter().filter_map(|name| name.into_string().ok())),
            None => names.extend(listed()?),
        }
        names.retain(|name| is_name(name));
        Ok(names)
    }
}

/// Names in all lists of temporary roots whose owners live: they hold a lock on them.
fn announced(paths: &Paths) -> Result<Vec<String>, StoreError> {
    let folder = paths.nix.join("var/nix/temproots");
    let locked = proc::flocked_inodes(&paths.proc).context("read", &paths.proc.join("locks"))?;
    let ours = std::process::id().to_string();
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).context("list", &folder)? {
        let entry = entry.context("list", &folder)?;
        let read = || {
            let is_it = entry.file_name() != *ours && locked.contains(&entry.metadata()?.ino());
            if is_it { fs::read(entry.path()) } else { Ok(Vec::new()) }
        };
        let list = match read() {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            list => list.context("read", &entry.path())?,
        };
        let name = |path: &[u8]| {
            let name = Path::new(std::ffi::OsStr::from_bytes(path)).file_name()?;
            name.to_str().map(str::to_owned)
        };
        names.extend(list.split(|byte| *byte == 0).filter_map(name));
    }
    Ok(names)
}

/// The way to a collection that is under way. It is open for as long as the collection is, as that of each process of Nix: Nix ends the
/// collection where it meets the descriptor of a short one again (`std::thread` in `collectGarbage`, gc.cc).
#[derive(Debug, Default)]
pub(super) struct Teller(Option<UnixStream>);

impl Teller {
    /// Tells it to spare these, as whoever takes a temporary root meanwhile does. `false` where none listens, or not yet.
    pub(super) fn tell(&mut self, paths: &Paths, names: &[String]) -> io::Result<bool> {
        if names.is_empty() {
            return Ok(true);
        }
        let stream = match &mut self.0 {
            Some(stream) => stream,
            none => match UnixStream::connect(paths.nix.join("var/nix/gc-socket/socket")) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(ANSWER))?;
                    stream.set_write_timeout(Some(ANSWER))?;
                    none.insert(stream)
                }
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                    return Ok(false);
                }
                Err(error) => return Err(error),
            },
        };
        let lines = text(&paths.nix.join("store"), names);
        let lines: Vec<u8> = lines.iter().map(|byte| if *byte == 0 { b'\n' } else { *byte }).collect();
        // One by one: it answers each with a byte, which somebody has to read.
        let told = lines.split_inclusive(|byte| *byte == b'\n').try_for_each(|line| {
            stream.write_all(line)?;
            stream.read_exact(&mut [0])
        });
        match told {
            // It is over.
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof
                ) =>
            {
                Ok(true)
            }
            told => told.map(|()| true),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use nix::fcntl::{Flock, FlockArg};

    use super::*;

    #[test]
    fn what_is_announced_or_comes_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::scratch(dir.path());
        let (store, roots) = (paths.nix.join("store"), paths.nix.join("var/nix/temproots"));
        fs::create_dir_all(&store).unwrap();
        fs::create_dir_all(&roots).unwrap();
        let name = |letter: &str| format!("{}-{letter}", "0".repeat(32));
        let list = |owner: &str, name: &str| {
            fs::write(roots.join(owner), format!("{}\0", store.join(name).display())).unwrap();
            File::open(roots.join(owner)).unwrap()
        };
        let _lives = Flock::lock(list("1", &name("a")), FlockArg::LockExclusiveNonblock).unwrap();
        list("2", &name("dead"));
        let mut arrivals = Arrivals::watch(&paths);
        let listed = || panic!("the kernel tells");
        assert_eq!(arrivals.take(&paths, listed).unwrap(), [name("a")]);
        fs::create_dir(store.join(name("b"))).unwrap();
        fs::create_dir(store.join(".links")).unwrap();
        assert_eq!(arrivals.take(&paths, listed).unwrap(), [name("a"), name("b")]);
        arrivals.watch = None;
        assert_eq!(arrivals.take(&paths, || Ok(vec![name("c")])).unwrap(), [name("a"), name("c")]);
    }
}
