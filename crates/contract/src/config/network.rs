//! Networks by address, as a NetworkPolicy names them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// `ADDRESS/LENGTH`, without bits beyond the length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    length: u8,
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((address, length)) = text.split_once('/') else {
            return Err("no length such as \"/24\"".to_owned());
        };
        let address: IpAddr = address
            .parse()
            .map_err(|_| format!("{address:?} is no address, and nothing else has a length"))?;
        let bits = bits(address);
        let length = match length.parse::<u8>() {
            // Kubernetes takes neither a sign nor zeros in front.
            Ok(number) if number <= bits && number.to_string() == length => number,
            _ => return Err(format!("{length:?} is not from 0 to {bits}")),
        };
        let network = Self { address, length };
        if network.prefix(address) == number(address) {
            Ok(network)
        } else {
            Err(format!("has bits beyond /{length}"))
        }
    }
}

/// Of this address alone.
impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Self { address, length: bits(address) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl Network {
    /// All addresses there are.
    pub const EVERYWHERE: [Self; 2] = [
        Self { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), length: 0 },
        Self { address: IpAddr::V6(Ipv6Addr::UNSPECIFIED), length: 0 },
    ];

    /// Whether the address is in it, and is not all of it.
    #[must_use]
    pub fn surrounds(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && self.length < bits(address)
            && self.prefix(address) == number(self.address)
    }

    fn prefix(self, address: IpAddr) -> u128 {
        let beyond = u32::from(bits(address) - self.length);
        number(address).checked_shr(beyond).unwrap_or(0).checked_shl(beyond).unwrap_or(0)
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_and_know_what_is_in_them() {
        let in_it = |network: &str, address: &str| {
            network
                .parse::<Network>()
                .unwrap_or_else(|e| panic!("{network}: {e}"))
                .surrounds(address.parse().unwrap())
        };
        assert!(in_it("0.0.0.0/0", "169.254.169.254") && in_it("169.254.0.0/16", "169.254.169.254"));
        assert!(!in_it("169.254.169.254/32", "169.254.169.254"), "whoever names it means it");
        assert!(!in_it("10.0.0.0/8", "169.254.169.254") && !in_it("::/0", "169.254.169.254"));
        assert!(in_it("fd00:ec2::/32", "fd00:ec2::254") && in_it("::/0", "fd00:ec2::254"));
        for wrong in [
            "10.0.0.0",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/08",
            "10.0/8",
            "cache.example/32",
            "::1/0",
            "/8",
            "10.0.0.0/",
        ] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }
}
