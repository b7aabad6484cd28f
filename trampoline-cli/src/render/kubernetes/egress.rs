//! Whom the pod may speak to.

use std::net::IpAddr;

use contract::config::Network;
use contract::places::METADATA;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicyPort,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

const DNS: i32 = 53;
const EVERYWHERE: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// Everybody, machines' credentials included.
pub(super) fn open() -> Vec<NetworkPolicyEgressRule> {
    vec![NetworkPolicyEgressRule::default()]
}

/// These networks, and name servers wherever they are; of each what hands out credentials only if `credentials`.
pub(super) fn rules(networks: &[String], credentials: bool) -> Vec<NetworkPolicyEgressRule> {
    let port = |protocol: &str| NetworkPolicyPort {
        port: Some(IntOrString::Int(DNS)),
        protocol: Some(protocol.to_owned()),
        ..NetworkPolicyPort::default()
    };
    let peer = |cidr: &str| peer(cidr, credentials);
    let names = NetworkPolicyEgressRule {
        ports: Some(vec![port("UDP"), port("TCP")]),
        to: Some(EVERYWHERE.map(peer).to_vec()),
    };
    if networks.is_empty() {
        // A rule without peers would let everything out.
        return vec![names];
    }
    let to = networks.iter().map(|network| peer(network)).collect();
    vec![names, NetworkPolicyEgressRule { ports: None, to: Some(to) }]
}

fn peer(cidr: &str, credentials: bool) -> NetworkPolicyPeer {
    let surrounds = |address: IpAddr| cidr.parse::<Network>().is_ok_and(|network| network.surrounds(address));
    let closed = METADATA.into_iter().filter(|address| !credentials && surrounds(*address));
    let except: Vec<String> =
        closed.map(|address| format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })).collect();
    NetworkPolicyPeer {
        ip_block: Some(IPBlock { cidr: cidr.to_owned(), except: (!except.is_empty()).then_some(except) }),
        ..NetworkPolicyPeer::default()
    }
}
