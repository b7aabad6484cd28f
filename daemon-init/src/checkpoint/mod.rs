//! How far the store is known to be on disk. Nix registers a path when its bytes are in memory, as a rule: after a power cut it may be
//! valid and hold nothing. A checkpoint makes all of it durable and then says so, on the volume; what was registered after the last
//! one is what [`crate::seed`] verifies when a machine has gone down.

mod few;
pub mod keeper;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use contract::damage::{CHECKPOINT, Checkpoint};

use crate::seed::durability::{Disk, Durability};
use crate::seed::error::{Context, StoreError};
use crate::volume::Volume;
use crate::volume::mark::MARK_FILE;

/// The file system gives times of change in ticks of a few milliseconds, and the last one may have begun in the middle of a second.
const MARGIN: i64 = 2;

/// What a start finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Nothing was lost: the store was left in order, or the machine has been up all the time.
    Kept,
    /// Everything up to then is on disk; what came later may be lost, or damaged.
    LostSince(i64),
    /// Nobody has taken a checkpoint yet.
    Unknown,
}

/// Takes checkpoints of one volume.
#[derive(Clone)]
pub struct Checkpoints {
    dir: Arc<File>,
    mark_dir: PathBuf,
    boot: String,
    durability: Arc<dyn Durability + Send>,
    /// Of this life.
    last: Arc<Mutex<Option<Last>>>,
}

/// What one of this life vouches for.
#[derive(Debug, Clone, Copy)]
struct Last {
    /// As [`Checkpoint::at`].
    at: i64,
    /// The same moment by a clock that nobody sets.
    begun: Instant,
}

impl Last {
    /// From when on what has changed since is new. `None`: the clock of the file system was set back meanwhile.
    fn since(self, now: Self) -> Option<i64> {
        let elapsed = now.begun.saturating_duration_since(self.begun).as_secs();
        let counted = u64::try_from(now.at.saturating_sub(self.at).saturating_add(1)).unwrap_or(0);
        (counted >= elapsed).then_some(self.at - MARGIN)
    }
}

impl fmt::Debug for Checkpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoints").field("mark_dir", &self.mark_dir).finish_non_exhaustive()
    }
}

impl Checkpoints {
    /// Of a locked volume; `boot` is that of the running kernel ([`agent::life::boot`]).
    ///
    /// # Errors
    /// When the volume's folder cannot be opened once more.
    pub fn of(volume: &Volume, boot: &str) -> Result<Self, StoreError> {
        Self::with(volume, boot, Arc::new(Disk))
    }

    /// The same with another idea of durability, for tests.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn with(
        volume: &Volume,
        boot: &str,
        durability: Arc<dyn Durability + Send>,
    ) -> Result<Self, StoreError> {
        let dir = Arc::new(volume.dir().try_clone().context("open", volume.path())?);
        Ok(Self { dir, mark_dir: volume.mark_dir(), boot: boot.to_owned(), durability, last: Arc::default() })
    }

    /// What the last checkpoint means for this start. One that cannot be read vouches for nothing.
    ///
    /// # Errors
    /// When the volume does not let it be read.
    pub fn before(&self) -> Result<Before, StoreError> {
        let path = self.mark_dir.join(CHECKPOINT);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Before::Unknown),
            Err(error) => return Err(StoreError::io("read", &path, error)),
        };
        Ok(match serde_json::from_slice::<Checkpoint>(&text) {
            Ok(last) if last.clean || last.boot == self.boot => Before::Kept,
            Ok(last) => Before::LostSince(last.at),
            Err(_) => Before::LostSince(0),
        })
    }

    /// Before anybody writes: from now on the volume is not clean. After a start that has found it so, or seeded it. Does not wait for
    /// the disk to take more than this: readiness waits for it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(&self) -> Result<(), StoreError> {
        let path = self.mark_dir.join(CHECKPOINT);
        let at = match fs::read(&path).map(|text| serde_json::from_slice::<Checkpoint>(&text)) {
            // A container ended and the machine did not: what the last one vouches for is still all that is certain.
            Ok(Ok(last)) if !last.clean && last.boot == self.boot => return Ok(()),
            // Nothing was written since.
            Ok(Ok(last)) if last.clean => None,
            // What has come later was read from the disk just now, and may be again.
            Ok(Ok(last)) => Some(last.at),
            Ok(Err(_)) => Some(0),
            // Seeding ends with everything on disk, and the mark.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mark = self.mark_dir.join(MARK_FILE);
                Some(fs::metadata(&mark).context("look at", &mark)?.ctime())
            }
            Err(error) => return Err(StoreError::io("read", &path, error)),
        };
        match self.draft().and_then(|(file, now)| self.publish(file, at.unwrap_or(now), false)) {
            // It must start, to be collected.
            Err(StoreError::Full { .. }) => self.vouch_for_nothing(),
            written => written,
        }
    }

    /// Takes no room: an empty one says that nothing is certain, until the next one is taken.
    fn vouch_for_nothing(&self) -> Result<(), StoreError> {
        let path = self.mark_dir.join(CHECKPOINT);
        tracing::warn!(
            "no room for a checkpoint: should the machine go down, the next start verifies the whole store"
        );
        match OpenOptions::new().write(true).open(&path) {
            Ok(file) => {
                let written = self.overwrite(&file).or_else(|_| file.set_len(0));
                written.and_then(|()| self.durability.file(&file)).context("write", &path)
            }
            // Nothing has vouched for anything yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StoreError::io("write", &path, error)),
        }
    }

    /// In the room that the last one has: most file systems need no other. The start that follows in the same boot, as it does at once
    /// in a user namespace, need not verify anything then.
    fn overwrite(&self, file: &File) -> io::Result<()> {
        let mut text = serde_json::to_vec(&Checkpoint { at: 0, boot: self.boot.clone(), clean: false })?;
        let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        if length < text.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        text.resize(length, b' ');
        file.write_all_at(&text, 0)
    }

    /// Makes everything durable, however long it takes, and says so. `clean`: nobody writes any more.
    ///
    /// # Errors
    /// Also the disk's; then the last checkpoint stands.
    pub fn take(&self, clean: bool) -> Result<(), StoreError> {
        let (file, at) = self.draft()?;
        let now = Last { at, begun: Instant::now() };
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Behind a clean end nobody looks, so it relies on no clock.
        let since = last.filter(|_| !clean).and_then(|last| last.since(now));
        self.settle(since).context("make durable", &self.mark_dir)?;
        self.publish(file, at, clean)?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        Ok(())
    }

    /// Everything that has come `since` is on disk. The first of a life cannot know.
    fn settle(&self, since: Option<i64>) -> io::Result<()> {
        match since.and_then(|since| few::changed(self.nix(), since)) {
            Some(few) => few.iter().try_for_each(|file| self.durability.file(file)),
            None => self.durability.filesystem(&self.dir),
        }
    }

    /// One that nobody sees yet, and the time by the clock of the file system.
    fn draft(&self) -> Result<(File, i64), StoreError> {
        let new = self.new_path();
        // The folder is root's alone: whatever has this name is a killed run's.
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&new).context("write", &new)?;
        // Truncating an empty file changes nothing; the time has to be that of now.
        file.write_all(b"\n").context("write", &new)?;
        let at = file.metadata().context("look at", &new)?.ctime();
        Ok((file, at))
    }

    fn publish(&self, mut draft: File, at: i64, clean: bool) -> Result<(), StoreError> {
        let (path, new) = (self.mark_dir.join(CHECKPOINT), self.new_path());
        let checkpoint = Checkpoint { at, boot: self.boot.clone(), clean };
        let text = serde_json::to_vec(&checkpoint)
            .map_err(|e| StoreError::io("write", &path, io::Error::other(e)))?;
        draft.write_all(&text).context("write", &new)?;
        self.durability.file(&draft).context("write", &new)?;
        fs::rename(&new, &path).context("write", &path)?;
        let dir = File::open(&self.mark_dir);
        dir.and_then(|dir| self.durability.file(&dir)).context("write", &path)
    }

    fn new_path(&self) -> PathBuf {
        self.mark_dir.join("checkpoint.json.new")
    }

    fn nix(&self) -> &Path {
        self.mark_dir.parent().unwrap_or(Path::new("/"))
    }

    /// Of the volume's store: paths appear here.
    pub(crate) fn store(&self) -> PathBuf {
        self.nix().join("store")
    }
}
