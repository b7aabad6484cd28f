//! Names that nobody else has.

use std::fs::File;
use std::io::{self, Read};

/// The kernel's.
pub(crate) const SOURCE: &str = "/dev/urandom";

/// Of so many random bytes, in hexadecimal.
pub(crate) fn name<const BYTES: usize>() -> io::Result<String> {
    let mut random = [0; BYTES];
    File::open(SOURCE)?.read_exact(&mut random)?;
    Ok(contract::hex(&random))
}
