//! Headers into entries: GNU long names, pax records, and what is taken at all.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;

use tar::{Archive, Entries, Entry, EntryType};

use super::Refused;

/// Longest name, as Linux's `PATH_MAX`: nobody could use a longer one.
pub const MAX_NAME: usize = 4096;
/// Longest block of pax records or GNU name. Real ones hold a name, a link's target and some times.
const MAX_RECORDS: u64 = 64 << 10;

/// What an entry becomes.
#[derive(Debug)]
pub(super) enum Kind {
    Folder,
    File { executable: bool },
    Link { target: OsString },
    HardLink { target: OsString },
}

/// One entry, names already put together.
pub(super) struct Item<'a, R: Read> {
    pub(super) name: OsString,
    pub(super) kind: Kind,
    pub(super) mtime: i64,
    pub(super) content: Entry<'a, R>,
}

/// What stands before an entry and changes it.
#[derive(Debug, Default)]
struct Before {
    name: Option<OsString>,
    target: Option<OsString>,
    size: Option<u64>,
    mtime: Option<i64>,
}

/// Goes over an archive, entry by entry.
pub(super) struct Reader<'a, R: Read> {
    entries: Entries<'a, R>,
}

fn malformed(error: &io::Error) -> Refused {
    Refused::Malformed(error.to_string())
}

impl<'a, R: Read> Reader<'a, R> {
    pub(super) fn new(archive: &'a mut Archive<R>) -> Result<Self, Refused> {
        // Raw, because otherwise the crate reads names of any length into memory and cuts names at newlines.
        Ok(Self { entries: archive.entries().map_err(|e| malformed(&e))?.raw(true) })
    }

    pub(super) fn next(&mut self) -> Result<Option<Item<'a, R>>, Refused> {
        let mut before = Before::default();
        let mut described = false;
        loop {
            let Some(entry) = self.entries.next() else {
                return if described {
                    Err(Refused::Malformed("it ends behind a name without a file".into()))
                } else {
                    Ok(None)
                };
            };
            let mut entry = entry.map_err(|e| malformed(&e))?;
            match entry.header().entry_type() {
                // Global records: git writes the commit's id.
                EntryType::XGlobalHeader => {
                    records(&mut entry)?;
                }
                EntryType::XHeader => {
                    before.pax(&records(&mut entry)?)?;
                    described = true;
                }
                EntryType::GNULongName => {
                    before.name = Some(long_name(&mut entry)?);
                    described = true;
                }
                EntryType::GNULongLink => {
                    before.target = Some(long_name(&mut entry)?);
                    described = true;
                }
                _ => return item(entry, before).map(Some),
            }
        }
    }
}

/// Reads an extension header's content, bounded.
fn records<R: Read>(entry: &mut Entry<'_, R>) -> Result<Vec<u8>, Refused> {
    let size = entry.header().entry_size().map_err(|e| malformed(&e))?;
    if size > MAX_RECORDS {
        return Err(Refused::Malformed(format!("{size} bytes of records before an entry")));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(|e| malformed(&e))?;
    if bytes.len() as u64 != size {
        return Err(Refused::Malformed("it ends within an entry".into()));
    }
    Ok(bytes)
}

fn long_name<R: Read>(entry: &mut Entry<'_, R>) -> Result<OsString, Refused> {
    let bytes = records(entry)?;
    // Ends with a zero byte.
    let name = bytes.strip_suffix(&[0]).unwrap_or(&bytes);
    Ok(OsStr::from_bytes(name).to_owned())
}

impl Before {
    /// `LENGTH KEY=VALUE\n`, the length counting all of itself: values may hold newlines.
    fn pax(&mut self, mut bytes: &[u8]) -> Result<(), Refused> {
        let wrong = || Refused::Malformed("its pax records are not well formed".into());
        while !bytes.is_empty() {
            let space = bytes.iter().position(|b| *b == b' ').ok_or_else(wrong)?;
            let length = std::str::from_utf8(&bytes[..space]).ok().and_then(|t| t.parse::<usize>().ok());
            let length = length.filter(|l| *l > space + 1 && *l <= bytes.len()).ok_or_else(wrong)?;
            let record = bytes[space + 1..length].strip_suffix(b"\n").ok_or_else(wrong)?;
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(wrong)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            let text = || std::str::from_utf8(value).map_err(|_| wrong());
            match key {
                b"path" => self.name = Some(OsStr::from_bytes(value).to_owned()),
                b"linkpath" => self.target = Some(OsStr::from_bytes(value).to_owned()),
                b"size" => self.size = Some(text()?.parse().map_err(|_| wrong())?),
                // Fractions are dropped: not all file systems keep them.
                b"mtime" => {
                    let whole = text()?.split('.').next().unwrap_or_default();
                    self.mtime = Some(whole.parse().map_err(|_| wrong())?);
                }
                key if key.starts_with(b"GNU.sparse") => {
                    return Err(Refused::Kind {
                        name: self.name.clone().unwrap_or_default(),
                        kind: "sparse file".into(),
                    });
                }
                _ => {}
            }
            bytes = &bytes[length..];
        }
        Ok(())
    }
}

fn item<R: Read>(entry: Entry<'_, R>, before: Before) -> Result<Item<'_, R>, Refused> {
    let header = entry.header();
    let size = header.entry_size().map_err(|e| malformed(&e))?;
    let name = before.name.unwrap_or_else(|| OsStr::from_bytes(&header.path_bytes()).to_owned());
    if before.size.is_some_and(|announced| announced != size) {
        // Two sizes are two archives in one: which one would be unpacked depends on the reader.
        let kind = "a file with two sizes, or above 8 GiB".into();
        return Err(Refused::Kind { name, kind });
    }
    let mode = header.mode().map_err(|e| malformed(&e))?;
    let mtime = match before.mtime {
        Some(mtime) => mtime,
        None => i64::try_from(header.mtime().map_err(|e| malformed(&e))?).unwrap_or(i64::MAX),
    };
    let target = || {
        let from_header = || header.link_name_bytes().map(|t| OsStr::from_bytes(&t).to_owned());
        before.target.clone().or_else(from_header).unwrap_or_default()
    };
    let kind = match header.entry_type() {
        // Archives of old times mark folders by a slash alone.
        EntryType::Regular if name.as_bytes().ends_with(b"/") && size == 0 => Kind::Folder,
        EntryType::Regular | EntryType::Continuous => Kind::File { executable: mode & 0o100 != 0 },
        EntryType::Directory => Kind::Folder,
        EntryType::Symlink => Kind::Link { target: target() },
        EntryType::Link => Kind::HardLink { target: target() },
        other => {
            let kind = match other {
                EntryType::Char | EntryType::Block => "device".to_owned(),
                EntryType::Fifo => "pipe".to_owned(),
                EntryType::GNUSparse => "sparse file".to_owned(),
                other => format!("type {:?}", char::from(other.as_byte())),
            };
            return Err(Refused::Kind { name, kind });
        }
    };
    Ok(Item { name, kind, mtime, content: entry })
}
