//! What root of the pod must be able to do to files and ids of the pod.

use std::path::Path;

use agent::proc::capabilities;

use super::{Error, read};

/// Name, and number of the bit.
const NEEDED: [(&str, u32); 5] =
    [("CHOWN", 0), ("DAC_OVERRIDE", 1), ("FOWNER", 3), ("SETUID", 7), ("SETGID", 6)];

/// All of them are in force.
pub(super) fn prove(proc: &Path) -> Result<(), Error> {
    let missing = missing(&read(&proc.join("self/status"))?);
    if missing.is_empty() { Ok(()) } else { Err(Error::Capabilities { missing }) }
}

fn missing(status: &str) -> Vec<&'static str> {
    let held = capabilities(status);
    NEEDED.iter().filter(|(_, bit)| held & (1 << bit) == 0).map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_that_is_missing_is_named() {
        assert_eq!(missing("Name:\tx\nCapPrm:\t0\nCapEff:\t00000000000000cb\n"), [""; 0]);
        assert_eq!(missing("CapEff:\t00000000000000c9\n"), ["DAC_OVERRIDE"]);
        assert_eq!(missing("CapEff:\t0000000000000000\n").len(), 5);
    }
}
