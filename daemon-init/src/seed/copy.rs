//! Copies store paths with the metadata that Nix gives them: owner root, modes 0444 and 0555, time 1.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, FileTimes, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, DirEntryExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use agent::proc::{capabilities, status_field};
use nix::fcntl::{AT_FDCWD, OFlag, PosixFadviseAdvice, posix_fadvise};
use nix::sys::sendfile::sendfile;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use super::error::{Context, StoreError};
use super::pool::{self, Pool};
use super::watch::Watch;

/// The disk is kept writing from this much on, which hides most of the final barrier.
const SYNC_EVERY: u64 = 32 << 20;
/// Progress is told as often as this.
const TELL_EVERY: u64 = 4 << 20;
/// Larger parts made no difference.
const BUFFER: usize = 128 << 10;
/// Of a folder in the store.
const SEALED: u32 = 0o555;
/// Files of one folder that a thread takes at once, and has open.
const CHUNK: usize = 32;
/// Of all threads together: a process may mostly have 1024.
const OPEN: usize = 512;

/// One tree, or a part of one.
enum Task {
    /// Of any kind.
    Tree(PathBuf, PathBuf),
    /// Files and links of one folder: name, and whether it is a link.
    Leaves(Arc<(PathBuf, PathBuf)>, Vec<(OsString, bool)>),
}

/// Copies each `(from, to)`; `to` must not exist, and is what [`place`] takes. Nothing is durable yet on return. `volume` is what the side
/// thread makes durable meanwhile, `total` the expected bytes.
pub(super) fn copy(
    trees: Vec<(PathBuf, PathBuf)>,
    total: u64,
    threads: usize,
    volume: &File,
    watch: &Watch<'_>,
) -> Result<(), StoreError> {
    let (wake, woken) = sync_channel(1);
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let folder_mode = if overrides(&status) { SEALED } else { 0o755 };
    let tops: HashSet<PathBuf> = trees.iter().map(|(_, to)| to.clone()).collect();
    let (done, folders, masked) = (AtomicU64::new(0), Mutex::new(Vec::new()), is_masked(&status));
    let chunk = (OPEN / threads.max(1)).clamp(1, CHUNK);
    let copier = Copier { watch, wake, total, done, folders, chunk, folder_mode, masked };
    let tasks = trees.into_iter().map(|(from, to)| Task::Tree(from, to)).collect();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while woken.recv().is_ok() {
                // The barrier at the end is the one that counts, and reports.
                let _ = watch.durability.filesystem(volume);
            }
        });
        // Owned here, so that the side thread ends with it.
        let copier = copier;
        pool::run(
            threads,
            tasks,
            || vec![0; BUFFER],
            |task, buffer, pool| {
                watch.abort.check()?;
                match task {
                    Task::Tree(from, to) => copier.tree(from, to, buffer, pool),
                    Task::Leaves(folders, leaves) => copier.leaves(&folders.0, &folders.1, &leaves, buffer),
                }
            },
        )?;
        // Last: each entry made below a folder changes its time.
        for folder in copier.folders.into_inner().unwrap_or_else(PoisonError::into_inner) {
            if folder_mode != SEALED && !tops.contains(&folder) {
                seal(&folder)?;
            }
            set_time(&folder)?;
        }
        watch.observer.progress(total, total);
        Ok(())
    })
}

struct Copier<'a> {
    watch: &'a Watch<'a>,
    wake: SyncSender<()>,
    total: u64,
    done: AtomicU64,
    folders: Mutex<Vec<PathBuf>>,
    chunk: usize,
    /// That folders are made with.
    folder_mode: u32,
    /// A file does not get the mode that it is made with.
    masked: bool,
}

impl Copier<'_> {
    fn tree(
        &self,
        from: PathBuf,
        to: PathBuf,
        buffer: &mut [u8],
        pool: &Pool<Task>,
    ) -> Result<(), StoreError> {
        let kind = fs::symlink_metadata(&from).context("look at", &from)?;
        if !kind.is_dir() {
            return match kind.is_symlink() {
                true => link(&from, &to),
                false => self.file(&ask_for(&from)?, &from, &to, buffer),
            };
        }
        DirBuilder::new().mode(self.folder_mode).create(&to).context("make", &to)?;
        if self.masked {
            let mode = fs::Permissions::from_mode(self.folder_mode);
            fs::set_permissions(&to, mode).context("set the mode of", &to)?;
        }
        let mut leaves = Vec::new();
        let folders = Arc::new((from, to));
        for entry in fs::read_dir(&folders.0).context("list", &folders.0)? {
            let entry = entry.context("list", &folders.0)?;
            let (name, kind) = (entry.file_name(), entry.file_type().context("look at", &folders.0)?);
            if kind.is_dir() {
                pool.add(Task::Tree(folders.0.join(&name), folders.1.join(&name)));
            } else {
                leaves.push((entry.ino(), name, kind.is_symlink()));
            }
        }
        // Near each other on disk, mostly; a folder lists its entries by their names' hashes.
        leaves.sort_unstable_by_key(|leaf| leaf.0);
        let mut leaves = leaves.into_iter().map(|(_, name, is_link)| (name, is_link)).peekable();
        while leaves.peek().is_some() {
            pool.add(Task::Leaves(Arc::clone(&folders), leaves.by_ref().take(self.chunk).collect()));
        }
        let folder = folders.1.clone();
        self.folders.lock().unwrap_or_else(PoisonError::into_inner).push(folder);
        Ok(())
    }

    /// All are asked for before the first is read: the disk goes on while that is written.
    fn leaves(
        &self,
        from: &Path,
        to: &Path,
        leaves: &[(OsString, bool)],
        buffer: &mut [u8],
    ) -> Result<(), StoreError> {
        let asked = |(name, is_link): &(OsString, bool)| match is_link {
            true => Ok(None),
            false => ask_for(&from.join(name)).map(Some),
        };
        let sources: Vec<Option<File>> = leaves.iter().map(asked).collect::<Result<_, _>>()?;
        for ((name, _), source) in leaves.iter().zip(sources) {
            self.watch.abort.check()?;
            let (from, to) = (from.join(name), to.join(name));
            match source {
                Some(source) => self.file(&source, &from, &to, buffer)?,
                None => link(&from, &to)?,
            }
        }
        Ok(())
    }

    fn file(&self, source: &File, from: &Path, to: &Path, buffer: &mut [u8]) -> Result<(), StoreError> {
        let stat = source.metadata().context("look at", from)?;
        if !stat.is_file() {
            return Err(StoreError::Image {
                path: from.into(),
                reason: "it is neither a file, nor a folder, nor a link".into(),
            });
        }
        // Final from the start: the file can be written through this handle all the same.
        let mode = if stat.mode() & 0o100 == 0 { 0o444 } else { 0o555 };
        let copy = OpenOptions::new().write(true).create_new(true).mode(mode).open(to).context("make", to)?;
        if self.masked {
            copy.set_permissions(fs::Permissions::from_mode(mode)).context("set the mode of", to)?;
        }
        let mut left = stat.size();
        // By its size: reading on to the end would cost each small file a second call.
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            // Within the kernel. What that cannot do, or fails at, is told by the other way.
            let got = match sendfile(&copy, source, None, want) {
                Ok(got) if got > 0 => got,
                _ => {
                    let mut source = source;
                    let got = source.read(&mut buffer[..want]).context("read", from)?;
                    (&copy).write_all(&buffer[..got]).context("write", to)?;
                    got
                }
            };
            if got == 0 {
                return Err(StoreError::Image { path: from.into(), reason: "it shrank while read".into() });
            }
            left -= got as u64;
            self.count(got as u64);
        }
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        copy.set_times(FileTimes::new().set_accessed(time).set_modified(time)).context("set the time of", to)
    }

    fn count(&self, bytes: u64) {
        let before = self.done.fetch_add(bytes, Ordering::Relaxed);
        let after = before + bytes;
        if before / SYNC_EVERY != after / SYNC_EVERY {
            // Full: it has been told already.
            let _ = self.wake.try_send(());
        }
        if before / TELL_EVERY != after / TELL_EVERY {
            self.watch.observer.progress(after.min(self.total), self.total);
        }
    }
}

/// Moves what was copied to where it belongs. A folder can only be moved by whoever may write to it, so that it may get its mode last.
pub(super) fn place(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).context("move into place", to)?;
    let stat = fs::symlink_metadata(to).context("look at", to)?;
    if stat.is_dir() && stat.mode() & 0o7777 != SEALED { seal(to) } else { Ok(()) }
}

/// Opens a file and has the disk begin to read it. One that is replaced by a link or a pipe meanwhile is not followed.
fn ask_for(path: &Path) -> Result<File, StoreError> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).context("open", path)?;
    // Of what cannot do that, later is soon enough.
    let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
    Ok(file)
}

fn link(from: &Path, to: &Path) -> Result<(), StoreError> {
    let target = fs::read_link(from).context("read", from)?;
    symlink(target, to).context("make", to)?;
    set_time(to)
}

fn seal(folder: &Path) -> Result<(), StoreError> {
    fs::set_permissions(folder, fs::Permissions::from_mode(SEALED)).context("set the mode of", folder)
}

fn set_time(path: &Path) -> Result<(), StoreError> {
    let time = TimeSpec::new(1, 0);
    utimensat(AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink).context("set the time of", path)
}

/// Whether modes keep us from nothing (CAP_DAC_OVERRIDE, capability 1): else whoever fills a folder must be able to write to it.
fn overrides(status: &str) -> bool {
    capabilities(status) & (1 << 1) != 0
}

/// Whether this process's umask takes away one of the bits that we need. Unknown counts as yes: it costs time only.
fn is_masked(status: &str) -> bool {
    let mask = status_field(status, "Umask");
    mask.and_then(|mask| u32::from_str_radix(mask, 8).ok()).is_none_or(|mask| mask & 0o555 != 0)
}
