//! The text that `nix-store --dump-db` writes and `--load-db` reads.

/// One valid path: its name, the NAR's hash (hex) and size, the deriver, the number of references and they
/// themselves, a line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    /// Full store path.
    pub(crate) path: &'a str,
    /// SHA-256 of its archive, in hexadecimal.
    pub(crate) hash: &'a str,
    /// Length of its archive.
    pub(crate) size: u64,
    /// What it refers to, a line each.
    references: &'a str,
    /// Its lines, ready for `--load-db`.
    pub(crate) text: &'a str,
}

impl<'a> Entry<'a> {
    /// Paths that it refers to, itself perhaps included.
    pub(crate) fn references(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.references.lines()
    }
}

/// `None`: cut off, or not such a text.
pub(crate) fn parse(text: &str) -> Option<Vec<Entry<'_>>> {
    let mut entries = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let start = rest;
        let path = line(&mut rest)?;
        if !path.starts_with('/') {
            return None;
        }
        let (hash, size) = (line(&mut rest)?, line(&mut rest)?.parse().ok()?);
        let _deriver = line(&mut rest)?;
        let count: usize = line(&mut rest)?.parse().ok()?;
        let first = rest;
        for _reference in 0..count {
            line(&mut rest)?;
        }
        let references = &first[..first.len() - rest.len()];
        entries.push(Entry { path, hash, size, references, text: &start[..start.len() - rest.len()] });
    }
    Some(entries)
}

fn line<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let (line, after) = rest.split_once('\n')?;
    *rest = after;
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "/nix/store/a-top\nabc\n120\n\n2\n/nix/store/a-top\n/nix/store/b-lib\n/nix/store/b-lib\nabc\n8\n/nix/store/x.drv\n0\n";

    #[test]
    fn entries_keep_their_lines() {
        let entries = parse(TEXT).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[0].path, entries[0].hash, entries[0].size), ("/nix/store/a-top", "abc", 120));
        assert!(entries[0].references().eq(["/nix/store/a-top", "/nix/store/b-lib"]));
        assert_eq!(entries[1].references().count(), 0);
        assert_eq!(entries[1].text, "/nix/store/b-lib\nabc\n8\n/nix/store/x.drv\n0\n");
    }

    #[test]
    fn a_cut_off_text_is_refused() {
        assert_eq!(parse(""), Some(vec![]));
        for cut in 1..TEXT.len() {
            let whole_entry = &TEXT[..cut] == parse(TEXT).unwrap()[0].text;
            assert_eq!(parse(&TEXT[..cut]).is_some(), whole_entry, "{cut}");
        }
    }
}
