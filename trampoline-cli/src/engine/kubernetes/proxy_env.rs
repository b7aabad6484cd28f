//! `NO_PROXY`: hosts that are reached without the proxy of the environment. The library holds it against the proxy's own
//! address; kubectl holds it against the cluster's.

use std::net::IpAddr;

use kube::config::Kubeconfig;

/// Whether the environment's proxy is not for this server. A `proxy-url` of the kubeconfig always holds.
pub(super) fn bypasses(kubeconfig: &Kubeconfig, context: &str, host: Option<&str>) -> bool {
    let cluster = kubeconfig
        .contexts
        .iter()
        .find(|named| named.name == context)
        .and_then(|named| named.context.as_ref())
        .map(|context| context.cluster.as_str());
    let own = kubeconfig
        .clusters
        .iter()
        .filter(|named| Some(named.name.as_str()) == cluster)
        .filter_map(|named| named.cluster.as_ref())
        .any(|cluster| cluster.proxy_url.as_ref().is_some_and(|url| !url.is_empty()));
    let list = ["NO_PROXY", "no_proxy"]
        .iter()
        .find_map(|key| std::env::var(key).ok().filter(|value| !value.is_empty()))
        .unwrap_or_default();
    !own && host.is_some_and(|host| listed(&list, host))
}

/// As curl and Go read the list: names with all that is below them, addresses, blocks of addresses, `*`.
fn listed(list: &str, host: &str) -> bool {
    let host = host.trim_matches(['[', ']']).to_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    list.split(',').map(|entry| entry.trim().to_lowercase()).filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" || entry == host {
            return true;
        }
        if let (Some(address), Some((base, bits))) = (address, entry.split_once('/')) {
            return within(address, base, bits);
        }
        let suffix = entry.trim_start_matches("*.").trim_start_matches('.');
        address.is_none() && (host == suffix || host.ends_with(&format!(".{suffix}")))
    })
}

fn within(address: IpAddr, base: &str, bits: &str) -> bool {
    let (Ok(base), Ok(bits)) = (base.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    let wide = |address: IpAddr| match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let ((address, width), (base, base_width)) = (wide(address), wide(base));
    width == base_width && bits <= width && (bits == 0 || address >> (128 - bits) == base >> (128 - bits))
}

#[cfg(test)]
mod tests {
    use super::listed;

    #[test]
    fn hosts_of_the_list() {
        for (list, host, is) in [
            ("10.0.0.0/8,.corp.example", "10.4.5.6", true),
            ("10.0.0.0/8,.corp.example", "11.4.5.6", false),
            ("10.0.0.0/8, .corp.example", "k8s.corp.example", true),
            ("corp.example", "k8s.corp.example", true),
            ("corp.example", "evilcorp.example", false),
            ("*", "anything", true),
            ("", "anything", false),
            ("fd00::/8", "[fd12::1]", true),
            ("127.0.0.1,localhost", "127.0.0.1", true),
        ] {
            assert_eq!(listed(list, host), is, "{list} {host}");
        }
    }
}
