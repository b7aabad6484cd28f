//! Makes what `git archive` writes depend on the tree alone: the same tree gives the same bytes, whichever commit
//! holds it and whenever it is pushed.

use std::io::{self, Read, Write};

/// A block of a tar archive.
const BLOCK: usize = 512;
/// Every entry's time: 1980-01-01, the earliest that zip files can hold (1970 breaks builds that make some).
const MTIME: u64 = 315_532_800;
/// Fields of a header.
const SIZE: std::ops::Range<usize> = 124..136;
const TIME: std::ops::Range<usize> = 136..148;
const CHECKSUM: std::ops::Range<usize> = 148..156;
const TYPE: usize = 156;

/// Copies an archive: times are replaced, the global header with the commit's id is left out.
pub(crate) fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut block = [0u8; BLOCK];
    let mut buffer = vec![0u8; 256 << 10];
    while read_block(from, &mut block)? {
        if block.iter().all(|byte| *byte == 0) {
            // Two of them end an archive. git adds as many as make its length, with the global header, a round number.
            to.write_all(&block)?;
            to.write_all(&block)?;
            return io::copy(from, &mut io::sink()).map(drop);
        }
        let mut left = padded(octal(&block[SIZE])?);
        let wanted = block[TYPE] != b'g';
        if wanted {
            set_time(&mut block);
            to.write_all(&block)?;
        }
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let part = &mut buffer[..want];
            from.read_exact(part)?;
            if wanted {
                to.write_all(part)?;
            }
            left -= want as u64;
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// False at the end.
fn read_block(from: &mut impl Read, block: &mut [u8; BLOCK]) -> io::Result<bool> {
    let mut filled = 0;
    while filled < BLOCK {
        match from.read(&mut block[filled..])? {
            0 if filled == 0 => return Ok(false),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => filled += n,
        }
    }
    Ok(true)
}

fn padded(size: u64) -> u64 {
    size.div_ceil(BLOCK as u64) * BLOCK as u64
}

/// A number of a header. git writes the size of a file over 8 GiB into a pax header and a zero here.
fn octal(field: &[u8]) -> io::Result<u64> {
    let text = std::str::from_utf8(field).unwrap_or("?").trim_matches(['\0', ' ']);
    u64::from_str_radix(text, 8).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("`git archive` wrote a header with the size {text:?}"),
        )
    })
}

fn set_time(block: &mut [u8; BLOCK]) {
    block[TIME].copy_from_slice(format!("{MTIME:011o}\0").as_bytes());
    block[CHECKSUM].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[CHECKSUM].copy_from_slice(format!("{sum:07o}\0").as_bytes());
}
