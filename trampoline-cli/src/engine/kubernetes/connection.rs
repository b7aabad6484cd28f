//! The client of the API: kube's own, put together from its parts, since those that it chooses itself wait before they send.

use http::Uri;
use http::header::HeaderValue;
use hyper::rt::{Read, Write};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt};
use kube::{Client, Config, Error, Result};
use percent_encoding::percent_decode_str;
use tower::util::option_layer;
use tower::{BoxError, Layer, Service, ServiceExt};

/// Says nothing yet; a plugin may be asked for credentials.
pub(super) fn client(config: &Config) -> Result<Client> {
    let mut tcp = HttpConnector::new();
    // The proxy's scheme and the cluster's are looked at elsewhere.
    tcp.enforce_http(false);
    // Nagle's algorithm holds the end of what was written until the other side has acknowledged what came before, which it may do
    // late. Whoever waits for an answer before it goes on, as ssh does every 2 MiB, takes twice as long by that.
    tcp.set_nodelay(true);
    let Some(proxy) = &config.proxy_url else { return over(tcp, config) };
    match proxy.scheme_str() {
        Some("http") => over(through(proxy, tcp), config),
        Some("https") => over(through(proxy, config.rustls_https_connector_with_connector(tcp)?), config),
        Some("socks5") => over(SocksV5::new(proxy.clone(), tcp), config),
        _ => Err(Error::ProxyProtocolUnsupported { proxy_url: Box::new(proxy.clone()) }),
    }
}

fn over<C>(connector: C, config: &Config) -> Result<Client>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Connection + Read + Write + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: std::error::Error + Send + Sync + 'static,
{
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(connector)?);
    // To connect, and no other: a command may leave what it is sent unread for as long as it likes.
    connector.set_connect_timeout(config.connect_timeout);
    let http = Http::builder(TokioExecutor::new()).build::<_, Body>(connector).map_err(BoxError::from);
    let service = config.extra_headers_layer()?.layer(http);
    let service = option_layer(config.auth_layer()?).layer(service);
    let service = config.base_uri_layer().layer(service);
    Ok(Client::new(service, config.default_namespace.clone()))
}

/// A proxy that is asked for a tunnel, with the name and password of its URL.
fn through<C>(proxy: &Uri, connector: C) -> Tunnel<C> {
    let tunnel = Tunnel::new(proxy.clone(), connector);
    let user = proxy.authority().and_then(|authority| authority.as_str().rsplit_once('@'));
    let header = user.and_then(|(user, _)| {
        let plain: Vec<u8> = percent_decode_str(user).collect();
        HeaderValue::from_str(&format!("Basic {}", contract::base64::encode(&plain))).ok()
    });
    match header {
        Some(header) => tunnel.with_auth(header),
        None => tunnel,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::SocketAddr;

    use contract::places::Container;
    use kube::api::AttachParams;
    use rustix::net::{getpeername, sockopt::tcp_nodelay};
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

    use crate::engine::kubernetes::fake;
    use crate::engine::kubernetes::target::Target;

    /// Of our sockets to there, whether what is written is sent at once.
    fn at_once(there: SocketAddr) -> Vec<bool> {
        let this = pidfd_open(getpid(), PidfdFlags::empty()).expect("it runs");
        let ours = (0..1024).filter_map(|fd| pidfd_getfd(&this, fd, PidfdGetfdFlags::empty()).ok());
        let there = ours.filter(|socket| {
            getpeername(socket).ok().flatten().is_some_and(|peer| SocketAddr::try_from(peer) == Ok(there))
        });
        there.map(|socket| tcp_nodelay(socket).expect("it is TCP")).collect()
    }

    #[tokio::test]
    async fn what_is_written_is_sent_at_once() {
        let (cluster, _) = fake::cluster(|_| None).await;
        let target = Target::new("a", Container::User);
        // Its connection stays as long as somebody may read it.
        let command = target.start(&cluster, &["true"], AttachParams::default()).await.expect("it begins");
        let address = cluster.address.trim_start_matches("http://").parse().expect("an address");
        assert_eq!(at_once(address), [true]);
        drop(command);
    }
}
