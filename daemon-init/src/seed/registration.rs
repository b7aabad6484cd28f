//! The text that `nix-store --dump-db` writes and `--load-db` reads.

/// One valid path: its name, the NAR's hash (hex) and size, the deriver, the number of references and they
/// themselves, a line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    /// Full store path.
    pub(crate) path: &'a str,
    /// Its lines, ready for `--load-db`.
    pub(crate) text: &'a str,
}

/// `None`: cut off, or not such a text.
pub(crate) fn parse(text: &str) -> Option<Vec<Entry<'_>>> {
    let mut entries = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let start = rest;
        let mut line = || {
            let (line, after) = rest.split_once('\n')?;
            rest = after;
            Some(line)
        };
        let path = line()?;
        if !path.starts_with('/') {
            return None;
        }
        let (_hash, _size, _deriver) = (line()?, line()?, line()?);
        let count: usize = line()?.parse().ok()?;
        for _reference in 0..count {
            line()?;
        }
        entries.push(Entry { path, text: &start[..start.len() - rest.len()] });
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "/nix/store/a-top\nabc\n120\n\n2\n/nix/store/a-top\n/nix/store/b-lib\n/nix/store/b-lib\nabc\n8\n/nix/store/x.drv\n0\n";

    #[test]
    fn entries_keep_their_lines() {
        let entries = parse(TEXT).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].path, "/nix/store/a-top");
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
