//! Addresses of the hosts by whose names trampoline.toml bounds the pod's network: a NetworkPolicy knows no names.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use contract::config::{Config, Reach};
use contract::exit::Exit;
use contract::places::METADATA;
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::error::{CliError, Result};

/// Addresses by name.
pub(crate) type Hosts = BTreeMap<String, BTreeSet<IpAddr>>;

/// For the answer of this machine's resolver, which asks several servers in turn.
const PATIENCE: Duration = Duration::from_secs(20);

/// Of all hosts that `[kubernetes] egress` names, as this machine resolves them now.
///
/// # Errors
/// One line for each that has no address.
pub(crate) async fn hosts(config: &Config) -> Result<Hosts> {
    resolved(config, |host| async move {
        match timeout(PATIENCE, tokio::net::lookup_host((host, 0))).await {
            Ok(found) => Ok(found?.map(|found| found.ip()).collect()),
            Err(_) => Err(io::Error::other(format!("no answer within {} s", PATIENCE.as_secs()))),
        }
    })
    .await
}

/// The same, as `ask` resolves them.
async fn resolved<F>(config: &Config, ask: impl Fn(String) -> F) -> Result<Hosts>
where
    F: Future<Output = io::Result<Vec<IpAddr>>>,
{
    let Some(Reach { hosts, .. }) = config.reach() else { return Ok(Hosts::new()) };
    let answers = join_all(hosts.keys().map(|host| async {
        // The pod has it in its /etc/hosts.
        let alias = config.kubernetes.host_aliases.get(host).and_then(|address| address.parse().ok());
        match alias {
            Some(address) => Ok(vec![address]),
            None => ask(host.clone()).await,
        }
    }))
    .await;
    let mut found = Hosts::new();
    let mut refused = Vec::new();
    for ((host, key), answer) in hosts.iter().zip(answers) {
        match usable(answer, config.daemon.node_credentials) {
            Ok(addresses) => drop(found.insert(host.clone(), addresses)),
            Err(why) => refused.push(format!("{}: {key}: host {host}: {why}", config.origin(key))),
        }
    }
    if refused.is_empty() {
        return Ok(found);
    }
    Err(CliError::new(Exit::Config, refused.join("\n")).hint(
        "`egress` under [kubernetes] takes a host's addresses from this machine's name server: where that does not know it, \
         write its network or address there, or its address into `host-aliases`",
    ))
}

fn usable(
    answer: io::Result<Vec<IpAddr>>,
    credentials: bool,
) -> std::result::Result<BTreeSet<IpAddr>, String> {
    let addresses: BTreeSet<IpAddr> = match answer {
        Ok(found) => found.iter().map(IpAddr::to_canonical).collect(),
        Err(error) => return Err(error.to_string()),
    };
    // Whoever serves a name must not open with it what the builder keeps closed.
    match METADATA.iter().find(|closed| !credentials && addresses.contains(closed)) {
        Some(closed) => {
            Err(format!("its address is {closed}, at which clouds hand out a node's credentials"))
        }
        None if addresses.is_empty() => Err("it has no address".to_owned()),
        None => Ok(addresses),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[kubernetes]\negress = [\"b.example\", \"10.0.0.0/8\", \"substituters\"]\n\
                        host-aliases = { \"alias.example\" = \"10.0.0.7\" }\n[daemon]\nsubstituters = [\"https://a.example\"]\n\
                        extra-substituters = [\"https://alias.example\"]\n";

    /// As if a name server had these answers, and no others.
    async fn asked(text: &str, known: &[(&str, &[&str])]) -> Result<Hosts> {
        let config = Config::parse(text, "trampoline.toml").unwrap_or_else(|errors| panic!("{errors}"));
        resolved(&config, |host| {
            let answer = known.iter().find(|(name, _)| *name == host);
            let addresses = answer.map(|(_, list)| list.iter().map(|text| text.parse().unwrap()).collect());
            std::future::ready(addresses.ok_or_else(|| io::Error::other("not known")))
        })
        .await
    }

    #[tokio::test]
    async fn each_host_has_its_addresses_in_one_order() {
        let shown = |hosts: Hosts| format!("{hosts:?}");
        let expected = "{\"a.example\": {192.0.2.1, 192.0.2.2, 2001:db8::1}, \"alias.example\": {10.0.0.7}, \
                        \"b.example\": {192.0.2.1}}";
        for order in
            [["2001:db8::1", "192.0.2.2", "192.0.2.1"], ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.2"]]
        {
            let found = asked(TEXT, &[("a.example", &order), ("b.example", &["192.0.2.1"])]).await;
            assert_eq!(shown(found.unwrap()), expected);
        }
        assert_eq!(asked("", &[]).await.unwrap(), Hosts::new());
    }

    #[tokio::test]
    async fn a_host_without_an_address_is_named_with_its_key() {
        let error = asked(TEXT, &[("b.example", &[])]).await.unwrap_err();
        assert_eq!(error.exit, Exit::Config);
        assert_eq!(
            error.message,
            "trampoline.toml:5: daemon.substituters: host a.example: not known\n\
             trampoline.toml:2: kubernetes.egress: host b.example: it has no address"
        );
    }

    #[tokio::test]
    async fn no_name_opens_the_way_to_the_nodes_credentials() {
        let text = "kubernetes.egress = [\"b.example\"]\n";
        let known: [(&str, &[&str]); 1] = [("b.example", &["192.0.2.1", "::ffff:169.254.169.254"])];
        let error = asked(text, &known).await.unwrap_err();
        assert!(error.message.contains("host b.example: its address is 169.254.169.254"), "{error}");
        let open = asked(&format!("{text}daemon.node-credentials = true"), &known).await.unwrap();
        assert_eq!(open["b.example"].len(), 2);
    }

    #[tokio::test]
    async fn this_machine_knows_itself() {
        let config = Config::parse("kubernetes.egress = [\"localhost\"]", "a").unwrap();
        let found = hosts(&config).await.unwrap();
        assert!(found["localhost"].iter().all(IpAddr::is_loopback), "{found:?}");
    }
}
