//! Whom the pod may speak to.

use std::collections::BTreeSet;
use std::net::IpAddr;

use contract::config::{Network, Reach};
use contract::places::METADATA;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicyPort,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::resolve::Hosts;

const DNS: i32 = 53;

/// Everybody, machines' credentials included.
pub(super) fn open() -> Vec<NetworkPolicyEgressRule> {
    vec![NetworkPolicyEgressRule::default()]
}

/// What was resolved of the hosts that are named.
fn resolved<'a>(reach: &Reach, hosts: &'a Hosts) -> impl Iterator<Item = (&'a String, &'a BTreeSet<IpAddr>)> {
    reach.hosts.keys().filter_map(|host| hosts.get_key_value(host))
}

/// For whoever reads the object: which addresses in it stand for which host.
pub(super) fn note(reach: &Reach, hosts: &Hosts) -> Option<String> {
    let lines: Vec<String> = resolved(reach, hosts)
        .map(|(host, addresses)| {
            let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
            format!("{host}: {}", addresses.join(", "))
        })
        .collect();
    (!lines.is_empty()).then(|| lines.join("; "))
}

/// These networks and hosts, and name servers wherever they are; of each network what hands out credentials only if
/// `credentials`.
pub(super) fn rules(reach: &Reach, hosts: &Hosts, credentials: bool) -> Vec<NetworkPolicyEgressRule> {
    let port = |protocol: &str| NetworkPolicyPort {
        port: Some(IntOrString::Int(DNS)),
        protocol: Some(protocol.to_owned()),
        ..NetworkPolicyPort::default()
    };
    let names = NetworkPolicyEgressRule {
        ports: Some(vec![port("UDP"), port("TCP")]),
        to: Some(Network::EVERYWHERE.map(|network| peer(network, credentials)).to_vec()),
    };
    // Two hosts may share an address, and resolvers give them in any order.
    let addresses: BTreeSet<IpAddr> =
        resolved(reach, hosts).flat_map(|(_, addresses)| addresses).copied().collect();
    let addresses = addresses.into_iter().map(Network::from);
    let others = addresses.filter(|address| !reach.networks.contains(address));
    let to: Vec<NetworkPolicyPeer> =
        reach.networks.iter().copied().chain(others).map(|network| peer(network, credentials)).collect();
    if to.is_empty() {
        // A rule without peers would let everything out.
        return vec![names];
    }
    vec![names, NetworkPolicyEgressRule { ports: None, to: Some(to) }]
}

fn peer(network: Network, credentials: bool) -> NetworkPolicyPeer {
    let closed = METADATA.into_iter().filter(|address| !credentials && network.surrounds(*address));
    let except: Vec<String> = closed.map(|address| Network::from(address).to_string()).collect();
    NetworkPolicyPeer {
        ip_block: Some(IPBlock { cidr: network.to_string(), except: (!except.is_empty()).then_some(except) }),
        ..NetworkPolicyPeer::default()
    }
}
