//! Archives byte by byte, so that hostile ones can be made too.

use std::io::Write;

pub const TIME: u64 = 1_700_000_000;

#[derive(Default, Clone)]
pub struct Archive(pub Vec<u8>);

fn octal(field: &mut [u8], value: u64) {
    let text = format!("{value:0width$o}", width = field.len() - 1);
    field[..text.len()].copy_from_slice(text.as_bytes());
}

impl Archive {
    pub fn entry(mut self, kind: u8, name: &[u8], target: &[u8], mode: u64, content: &[u8]) -> Self {
        let mut h = [0_u8; 512];
        h[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
        octal(&mut h[100..108], mode);
        octal(&mut h[108..116], 0);
        octal(&mut h[116..124], 0);
        octal(&mut h[124..136], content.len() as u64);
        octal(&mut h[136..148], TIME);
        h[148..156].fill(b' ');
        h[156] = kind;
        h[157..157 + target.len().min(100)].copy_from_slice(&target[..target.len().min(100)]);
        h[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u64 = h.iter().map(|b| u64::from(*b)).sum();
        octal(&mut h[148..155], sum);
        self.0.extend_from_slice(&h);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        self.entry(b'0', name.as_ref(), b"", 0o644, content.as_ref())
    }

    pub fn exec(self, name: &str, content: &str) -> Self {
        self.entry(b'0', name.as_bytes(), b"", 0o4775, content.as_bytes())
    }

    pub fn dir(self, name: &str) -> Self {
        self.entry(b'5', name.as_bytes(), b"", 0o775, b"")
    }

    pub fn link(self, name: &str, target: &str) -> Self {
        self.entry(b'2', name.as_bytes(), target.as_bytes(), 0o777, b"")
    }

    pub fn hard(self, name: &str, target: &str) -> Self {
        self.entry(b'1', name.as_bytes(), target.as_bytes(), 0o644, b"")
    }

    /// A pax record before the next entry.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut content = Vec::new();
        for (key, value) in records {
            let payload = key.len() + value.len() + 3;
            let mut length = payload + 1;
            while payload + length.to_string().len() != length {
                length += 1;
            }
            write!(content, "{length} {key}=").unwrap();
            content.extend_from_slice(value);
            content.push(b'\n');
        }
        self.entry(b'x', b"pax", b"", 0o644, &content)
    }

    pub fn gnu_long(self, kind: u8, name: &[u8]) -> Self {
        let mut content = name.to_vec();
        content.push(0);
        self.entry(kind, b"././@LongLink", b"", 0o644, &content)
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// A tree with a bit of everything that is allowed.
pub fn sample() -> Archive {
    Archive::default()
        .entry(
            b'g',
            b"pax_global_header",
            b"",
            0o666,
            b"52 comment=0123456789012345678901234567890123456789\n",
        )
        .dir("./")
        .file("default.nix", "{ }")
        .exec("bin/run", "#!/bin/sh\n")
        .dir("empty/")
        .dir("src/")
        .file("src/a b\nc", "odd name")
        .file(b"src/\xff\xfe".as_slice(), "not utf-8")
        .link("src/link", "../default.nix")
        .link("out", "/nowhere/outside")
        .hard("src/hard", "default.nix")
}
