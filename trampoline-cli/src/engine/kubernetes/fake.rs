//! An API server that answers what a test has it answer.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::client::Cluster;
use super::kubeconfig::Resolved;
use crate::ui::Ui;

/// A cluster at this address.
pub(super) fn cluster_at(address: &str) -> Cluster {
    let config = kube::Config::new(address.parse().expect("an address"));
    let (place, namespace) = ("context a".to_owned(), "b".to_owned());
    Cluster::of(Resolved { config, place, namespace }, Ui::new(false, true, false)).expect("a client")
}

/// Code and body of an answer; none: the connection becomes a command's, which ends well at once.
type Answer = Option<(u16, String)>;

/// A cluster whose requests (`GET /path`) are answered by this, and what it was asked.
pub(super) async fn cluster(
    answer: impl Fn(&str) -> Answer + Send + 'static,
) -> (Cluster, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let head = head(&mut connection).await;
            let request = head.split(" HTTP/").next().unwrap_or_default().to_owned();
            let text = match answer(&request) {
                Some((code, body)) => plain(code, &body),
                None if head.contains("SPDY") => plain(400, "a WebSocket or nothing"),
                None => [upgrade(&head), END.to_vec()].concat(),
            };
            seen.lock().expect("nobody failed").push(request);
            let _ = connection.write_all(&text).await;
        }
    });
    (cluster_at(&format!("http://{address}")), asked)
}

/// A cluster that answers nobody of a wave before so many have asked, and nobody after the last wave.
pub(super) async fn together(waves: Vec<usize>, answer: impl Fn(&str) -> String + Send + 'static) -> Cluster {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        for size in waves {
            let mut wave = Vec::new();
            while wave.len() < size {
                let (mut connection, _) = listener.accept().await.expect("a request");
                let head = head(&mut connection).await;
                wave.push((connection, head));
            }
            for (mut connection, head) in wave {
                let request = head.split(" HTTP/").next().unwrap_or_default();
                let _ = connection.write_all(&plain(200, &answer(request))).await;
            }
        }
        std::future::pending::<()>().await;
    });
    cluster_at(&format!("http://{address}"))
}

async fn head(connection: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match connection.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).expect("text")
}

fn plain(code: u16, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {code} Said\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}

/// Channel 3, then the end of the connection.
const END: &[u8] = b"\x82\x15\x03{\"status\":\"Success\"}\x88\x02\x03\xe8";

fn upgrade(head: &str) -> Vec<u8> {
    let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).expect("a web socket");
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Protocol: v5.channel.k8s.io\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    )
    .into_bytes()
}
