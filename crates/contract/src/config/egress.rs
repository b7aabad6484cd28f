//! Whom the pod may speak to, as `[kubernetes] egress` names them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

use super::Config;
use super::check::dns_name;
use super::network::Network;

/// Stands for the hosts of all caches and of the proxy.
const SUBSTITUTERS: &str = "substituters";
/// The cache that Nix uses if it is told of none.
const OF_NIX: &str = "https://cache.nixos.org";
/// Caches that a user may ask for, by each name that nix.conf has for them.
const ON_REQUEST: [&str; 4] = [
    "trusted-substituters",
    "extra-trusted-substituters",
    "trusted-binary-caches",
    "extra-trusted-binary-caches",
];
/// The option's path.
const KEY: &str = "kubernetes.egress";

/// One entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    Network(Network),
    Host(String),
    Substituters,
}

impl FromStr for Entry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == SUBSTITUTERS {
            return Ok(Self::Substituters);
        }
        if text.contains("://") {
            return Err("a URL, of which only the host's name belongs there".to_owned());
        }
        if text.contains('/') {
            return text.parse().map(Self::Network);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network(address.into()));
        }
        dns_name(text, 253, true)?;
        let last = text.rsplit('.').next().unwrap_or_default();
        // No domain at the top is a number, and what ends in one is an address to whoever resolves it.
        if last.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("no address".to_owned());
        }
        match text.split('.').find(|part| part.len() > 63) {
            Some(part) => Err(format!("{part:?} is {} letters long", part.len())),
            None => Ok(Self::Host(text.to_owned())),
        }
    }
}

/// All that may be reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Each once, in the order of the file.
    pub networks: Vec<Network>,
    /// Path of the option that names the host, by the host's name.
    pub hosts: BTreeMap<String, String>,
}

impl Config {
    /// What `[kubernetes] egress` lets the pod reach besides name servers; `None`: everything.
    #[must_use]
    pub fn reach(&self) -> Option<Reach> {
        let mut reach = Reach::default();
        for text in self.kubernetes.egress.as_ref()? {
            match text.parse() {
                Ok(Entry::Network(network)) => reach.network(network),
                Ok(Entry::Host(host)) => reach.host(&host, KEY),
                Ok(Entry::Substituters) => {
                    for (key, url) in urls(self) {
                        host_of(url).into_iter().for_each(|host| reach.host(&host, &key));
                    }
                }
                // Refused when it was read.
                Err(_) => {}
            }
        }
        Some(reach)
    }

    /// A cache for which "substituters" would have to stand, and whose URL names no host.
    pub(super) fn hostless_substituter(&self) -> Option<&str> {
        let asked = self.kubernetes.egress.iter().flatten().any(|text| text == SUBSTITUTERS);
        let urls = asked.then(|| urls(self)).into_iter().flatten();
        urls.map(|(_, url)| url).find(|url| url.starts_with("s3://") && host_of(url).is_none())
    }
}

impl Reach {
    fn network(&mut self, network: Network) {
        if !self.networks.contains(&network) {
            self.networks.push(network);
        }
    }

    fn host(&mut self, host: &str, key: &str) {
        match host.parse::<IpAddr>() {
            Ok(address) => self.network(address.into()),
            Err(_) => {
                self.hosts.entry(host.to_owned()).or_insert_with(|| key.to_owned());
            }
        }
    }
}

/// Of every cache and of the proxy, with the option that names it.
fn urls(config: &Config) -> Vec<(String, &str)> {
    let daemon = &config.daemon;
    let mut urls = Vec::new();
    match &daemon.substituters {
        Some(own) => urls.extend(own.iter().map(|url| ("daemon.substituters".to_owned(), url.as_str()))),
        // Named by nobody but whoever asks for it.
        None => urls.push((KEY.to_owned(), OF_NIX)),
    }
    let extra = daemon.extra_substituters.iter();
    urls.extend(extra.map(|url| ("daemon.extra-substituters".to_owned(), url.as_str())));
    for setting in ON_REQUEST {
        let words = daemon.nix.get(setting).map_or("", String::as_str).split_whitespace();
        urls.extend(words.map(|url| (format!("daemon.nix.{setting}"), url)));
    }
    urls.extend(daemon.proxy.iter().map(|url| ("daemon.proxy".to_owned(), url.as_str())));
    urls
}

/// Whom the URL is asked of; `None`: nobody in the network, or it does not say.
fn host_of(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let place = match scheme {
        "file" | "unix" => return None,
        // Its name is that of a bucket.
        "s3" => {
            let (_, parameters) = rest.split_once('?')?;
            let endpoint = parameters.split('&').find_map(|one| one.strip_prefix("endpoint="))?;
            endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest)
        }
        _ => rest,
    };
    let place = place.split(['/', '?', '#']).next()?;
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    let host = match place.strip_prefix('[') {
        Some(address) => address.split(']').next()?,
        None => place.split(':').next()?,
    };
    (!host.is_empty()).then(|| host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(text: &str) -> Reach {
        let config = Config::parse(text, "test.toml").unwrap_or_else(|errors| panic!("{errors}"));
        config.reach().unwrap()
    }

    #[test]
    fn entries_are_networks_addresses_and_hosts() {
        let found = reach(
            "kubernetes.egress = [\"10.0.0.0/8\", \"192.0.2.7\", \"2001:DB8::1\", \"192.0.2.7/32\", \"db\", \"a-1.example.org\"]",
        );
        let networks: Vec<String> = found.networks.iter().map(Network::to_string).collect();
        assert_eq!(networks, ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::1/128"]);
        let named = |host: &str| (host.to_owned(), KEY.to_owned());
        assert_eq!(found.hosts, BTreeMap::from(["a-1.example.org", "db"].map(named)));
        assert_eq!(reach("kubernetes.egress = []"), Reach::default());
        assert_eq!(Config::default().reach(), None);
    }

    #[test]
    fn substituters_are_all_caches_and_the_proxy() {
        let found = reach(
            "kubernetes.egress = [\"substituters\"]\n[daemon]\n\
             substituters = [\"https://A.example:8443/main?priority=1\", \"/cache\", \"file:///cache\", \"unix:///socket\"]\n\
             extra-substituters = [\"ssh-ng://me@b.example\", \"s3://bucket?region=x&endpoint=https://c.example:9000\"]\n\
             proxy = \"socks5h://me@[2001:db8::2]:1080\"\n\
             nix = { extra-trusted-substituters = [\"http://d.example\", \"https://a.example\"] }",
        );
        let found_hosts: Vec<(&str, &str)> =
            found.hosts.iter().map(|(host, key)| (host.as_str(), key.as_str())).collect();
        assert_eq!(
            found_hosts,
            [
                ("a.example", "daemon.substituters"),
                ("b.example", "daemon.extra-substituters"),
                ("c.example", "daemon.extra-substituters"),
                ("d.example", "daemon.nix.extra-trusted-substituters"),
            ]
        );
        assert_eq!(found.networks, ["2001:db8::2/128".parse::<Network>().unwrap()]);
        let of_nix = reach("kubernetes.egress = [\"substituters\"]");
        assert_eq!(of_nix.hosts, BTreeMap::from([("cache.nixos.org".to_owned(), KEY.to_owned())]));
        let none = reach("kubernetes.egress = [\"substituters\"]\ndaemon.substituters = []");
        assert_eq!(none, Reach::default());
    }
}
