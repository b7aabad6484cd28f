//! `user-init receive`: a tree arrives.
//!
//! The client writes a [`PushHeader`] line and the tree's manifest. If no generation is that tree, it is told
//! [`PushAnswer::Send`] with what is in none of them, and sends it, packed where it can; [`PushAnswer::Done`] is the last line.
//! Every file is hashed as it is written. Nothing is synced to disk: the client has the tree, and a tree of another boot is not taken for
//! present, but only as a place from which content is copied, and hashed.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::files;
use contract::hex;
use contract::job::{PushAnswer, PushHeader};
use contract::tree::{self, Entry, Kind};
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, umask};
use sha2::{Digest, Sha256};

use super::content::{Content, Copy};
use super::{Links, Meta, Project, links, present};
use crate::error::{Error, Result, io_error};
use crate::tree::{Tree, set_time};

/// Longest first line.
const HEADER_MAX: u64 = 64 << 10;
/// Largest manifest: some millions of files.
const MANIFEST_MAX: u64 = 1 << 30;
/// A client that sends nothing for so long is gone; others wait for the lock that we hold.
const STALL: Duration = Duration::from_secs(120);

/// Bytes that a pipe may hold without privilege (pipe(7)).
const PIPE: i32 = 1 << 20;

/// Where the bytes come from, with a limit on how long it may be silent.
#[derive(Debug)]
pub struct Source(File);

impl Source {
    /// Reads from a descriptor of its own, without a buffer: what is buffered would not wake the wait.
    ///
    /// # Errors
    /// When the descriptor cannot be duplicated.
    pub fn new(fd: impl AsFd) -> io::Result<Self> {
        let fd = fd.as_fd().try_clone_to_owned()?;
        // Fewer turns between us and whoever writes; what is no pipe, or may not grow, works as well.
        let _ = fcntl(&fd, FcntlArg::F_SETPIPE_SZ(PIPE));
        Ok(Self(fd.into()))
    }

    /// Opens a pipe, without waiting for somebody to write to it.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path).map(Self)
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let timeout = PollTimeout::try_from(STALL).unwrap_or(PollTimeout::MAX);
        if poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout)? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.0.read(buffer)
    }
}

/// Runs the exchange. `say` is for lines to a person.
///
/// # Errors
/// The tree and `current` are as before whenever this fails.
pub fn receive(
    projects: &Path,
    boot: &str,
    input: &mut (impl BufRead + Send),
    output: &mut impl Write,
    mut say: impl FnMut(&str),
) -> Result<Project> {
    let header = read_header(input)?;
    let project = Project::new(projects, &header.project)?;
    let manifest = read_manifest(input, &header)?;
    let entries = tree::parse(&manifest)?;
    let _lock = project.lock("push.lock", || {
        say(&format!("another push of {:?} is under way: waiting for it to end", header.project));
    })?;
    if let Some(there) = present::find(&project, &header.sha256, boot, &entries)? {
        project.make_current(there)?;
        links::place(&project.tree(there), &Links::of(&project))?;
        answer(output, &PushAnswer::Done(project.describe(there, true)?))?;
        return Ok(project);
    }
    let staging = Staging::new(&project)?;
    let content = Content { root: &staging.dir, entries: &entries };
    fill(&project, &content, &mut Client { input, output, zstd: header.zstd })?;
    let generation = commit(&project, &header, boot, staging, &entries, &manifest)?;
    answer(output, &PushAnswer::Done(project.describe(generation, false)?))?;
    Ok(project)
}

fn read_header(input: &mut impl BufRead) -> Result<PushHeader> {
    let mut line = Vec::new();
    input.by_ref().take(HEADER_MAX).read_until(b'\n', &mut line).map_err(|e| cut(&e))?;
    if line.pop() != Some(b'\n') {
        return Err(Error::Transfer("the connection ended before the header did".into()));
    }
    let header: PushHeader = serde_json::from_slice(&line)
        .map_err(|e| Error::Usage(format!("the push's header is wrong: {e}")))?;
    if header.manifest > MANIFEST_MAX {
        return Err(Error::Usage(format!("a manifest of {} bytes is not taken", header.manifest)));
    }
    Ok(header)
}

fn read_manifest(input: &mut impl BufRead, header: &PushHeader) -> Result<Vec<u8>> {
    let mut manifest = Vec::new();
    let read = input.by_ref().take(header.manifest).read_to_end(&mut manifest).map_err(|e| cut(&e))?;
    if read as u64 != header.manifest {
        return Err(cut(&io::ErrorKind::UnexpectedEof.into()));
    }
    let sha256 = hex(&Sha256::digest(&manifest));
    if sha256 != header.sha256 {
        return Err(Error::Transfer(format!(
            "the manifest that arrived is not what was sent: sha256 {sha256} instead of {}",
            header.sha256
        )));
    }
    Ok(manifest)
}

/// The client's bytes could not be read.
pub(super) fn cut(error: &io::Error) -> Error {
    Error::Transfer(match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            "the connection ended before the tree was there; it is as it was".into()
        }
        io::ErrorKind::TimedOut => format!("nothing arrived for {} s: the client is gone", STALL.as_secs()),
        _ => format!("the bytes could not be read: {error}"),
    })
}

fn answer(output: &mut impl Write, answer: &PushAnswer) -> Result<()> {
    let mut line = serde_json::to_vec(answer).map_err(|e| Error::Transfer(e.to_string()))?;
    line.push(b'\n');
    let gone = |e: io::Error| Error::Transfer(format!("the client is gone: {e}"));
    output.write_all(&line).map_err(gone)?;
    output.flush().map_err(gone)
}

/// The folder that is filled; gone when dropped, whatever failed.
struct Staging {
    dir: PathBuf,
}

impl Staging {
    /// The lock is held: what is there already was left by a push that was killed.
    fn new(project: &Project) -> Result<Self> {
        let dir = project.dir.join(".incoming");
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(io_error("remove", &dir))?;
        }
        umask(Mode::from_bits_truncate(0o022));
        fs::create_dir(&dir).map_err(io_error("make", &dir))?;
        Ok(Self { dir })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Renamed away after success; otherwise the next push removes what this cannot.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Where each file's content comes from.
#[derive(Default)]
struct Plan {
    /// The client.
    asked: Vec<u32>,
    /// Another tree.
    copies: Vec<Copy>,
    /// The same tree, once the others are there.
    twins: Vec<Copy>,
}

impl Plan {
    fn new(project: &Project, root: &Path, entries: &[Entry]) -> Result<Self> {
        let there = present::contents(project)?;
        let mut plan = Self::default();
        let mut first: HashMap<&str, &[u8]> = HashMap::new();
        for (index, entry) in (0..).zip(entries) {
            let Kind::File { id, .. } = &entry.kind else { continue };
            if let Some(path) = first.get(id.as_str()) {
                plan.twins.push(Copy { index, root: root.to_owned(), path: path.to_vec() });
                continue;
            }
            first.insert(id, &entry.path);
            match there.get(id) {
                Some((root, path)) => {
                    plan.copies.push(Copy { index, root: root.clone(), path: path.clone() })
                }
                None => plan.asked.push(index),
            }
        }
        Ok(plan)
    }
}

/// Whoever is asked for content.
struct Client<'a, I, O> {
    input: &'a mut I,
    output: &'a mut O,
    zstd: bool,
}

impl<I: BufRead + Send, O: Write> Client<'_, I, O> {
    fn ask(&mut self, files: &[u32]) -> Result<()> {
        let ask = PushAnswer::Send { files: files.to_owned(), zstd: self.zstd };
        if files.is_empty() { Ok(()) } else { answer(self.output, &ask) }
    }

    /// What it was asked for, and copies. Returns those that were not what their ids say.
    fn take(&mut self, asked: &[u32], copies: &[Copy], to: &Content<'_>) -> Result<Vec<u32>> {
        if asked.is_empty() || !self.zstd {
            return to.fill(self.input, asked, copies);
        }
        let mut unpacked = zstd::Decoder::with_buffer(&mut *self.input).map_err(|e| cut(&e))?.single_frame();
        unpacked.window_log_max(tree::WINDOW_LOG).map_err(|e| cut(&e))?;
        let failed = to.fill(&mut unpacked, asked, copies)?;
        // Behind the end mark is the end of the frame, and only then what is asked for next.
        match unpacked.read(&mut [0]).map_err(|e| cut(&e))? {
            0 => Ok(failed),
            _ => Err(Error::Transfer("the client sent more than it was asked for".into())),
        }
    }
}

/// Makes all that the manifest names.
fn fill(
    project: &Project,
    content: &Content<'_>,
    client: &mut Client<'_, impl BufRead + Send, impl Write>,
) -> Result<()> {
    let Content { root, entries } = *content;
    let plan = Plan::new(project, root, entries)?;
    client.ask(&plan.asked)?;
    let mut tree = Tree::open(root)?;
    let folders: BTreeSet<&[u8]> = entries.iter().flat_map(all_folders).collect();
    for folder in &folders {
        tree.folder(folder)?;
    }
    let failed = client.take(&plan.asked, &plan.copies, content)?;
    // Changed while it was read, here or there. The client has it for certain.
    client.ask(&failed)?;
    refuse(entries, &client.take(&failed, &[], content)?)?;
    refuse(entries, &content.copy(&plan.twins)?)?;
    for entry in entries {
        if let Kind::Link { target } = &entry.kind {
            tree.link(&entry.path, target)?;
        }
    }
    folders.iter().try_for_each(|folder| tree.set_folder_time(folder))
}

fn all_folders(entry: &Entry) -> impl Iterator<Item = &[u8]> {
    let own = matches!(entry.kind, Kind::Folder).then_some(entry.path.as_slice());
    tree::folders(&entry.path).chain(own)
}

fn refuse(entries: &[Entry], failed: &[u32]) -> Result<()> {
    let Some(index) = failed.first() else { return Ok(()) };
    let entry = usize::try_from(*index).ok().and_then(|index| entries.get(index));
    let path = entry.map(|entry| String::from_utf8_lossy(&entry.path)).unwrap_or_default();
    Err(Error::Transfer(format!("the content of {path:?} is not what was announced; the tree is as it was")))
}

/// The record, then the tree under its number, then `current`: whoever is killed in between leaves a record or a tree that
/// nobody uses.
fn commit(
    project: &Project,
    header: &PushHeader,
    boot: &str,
    staging: Staging,
    entries: &[Entry],
    manifest: &[u8],
) -> Result<u64> {
    let newest = project.numbers()?.last().copied().unwrap_or(0);
    let generation = newest + 1;
    links::place(&staging.dir, &Links::of(project))?;
    let root = File::open(&staging.dir).map_err(io_error("open", &staging.dir))?;
    // The last that is done to the tree: everything in it has changed before.
    set_time(&root, &staging.dir)?;
    let sealed = root.metadata().map_err(io_error("read", &staging.dir))?;
    let tops: BTreeSet<&str> = entries
        .iter()
        .filter_map(|entry| std::str::from_utf8(present::top(&entry.path)?).ok())
        .filter(|name| name.starts_with("result"))
        .collect();
    let meta = Meta {
        sha256: header.sha256.clone(),
        label: header.label.clone(),
        from: header.from.clone(),
        boot: boot.to_owned(),
        results: tops.into_iter().map(str::to_owned).collect(),
        sealed: Some((sealed.ctime(), sealed.ctime_nsec())),
    };
    files::write_bytes(&project.meta_dir(), &Project::manifest_name(generation), 0o644, manifest)?;
    files::write_json(&project.meta_dir(), &format!("{generation:06}.json"), &meta)?;
    let tree = project.tree(generation);
    fs::rename(&staging.dir, &tree).map_err(io_error("put in place", &tree))?;
    project.make_current(generation)?;
    Ok(generation)
}
