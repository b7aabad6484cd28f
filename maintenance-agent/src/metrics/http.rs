//! As much of HTTP as it takes to be read by Prometheus: a page of all agents and one of each, a request a connection, bounded in all directions.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use contract::places::Container;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Readers at once; further ones wait their turn.
const READERS: usize = 8;
/// For one of them, from its first byte to its last.
const LIMIT: Duration = Duration::from_secs(10);
/// Of a request; more is no scraper's.
const HEAD: usize = 8 << 10;
/// After an accept that failed for want of descriptors or memory.
const AGAIN: Duration = Duration::from_secs(1);

/// Never ends by itself. `page` is what one agent knows, or all.
pub(super) async fn serve(
    listener: TcpListener,
    page: impl Fn(Option<Container>) -> String + Send + Sync + 'static,
) {
    let (page, readers) = (Arc::new(page), Arc::new(Semaphore::new(READERS)));
    loop {
        let Ok(turn) = Arc::clone(&readers).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let page = Arc::clone(&page);
                tokio::spawn(async move {
                    // Whoever has gone, or is too slow, misses one page.
                    let _ = timeout(LIMIT, answer(stream, &*page)).await;
                    drop(turn);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a reader of metrics was not let in");
                sleep(AGAIN).await;
            }
        }
    }
}

async fn answer(
    mut stream: TcpStream,
    page: &(impl Fn(Option<Container>) -> String + ?Sized),
) -> io::Result<()> {
    let head = head(&mut stream).await?;
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let (status, kind, body) = match (method, whose(path)) {
        ("GET" | "HEAD", Some(of)) => ("200 OK", "text/plain; version=0.0.4; charset=utf-8", page(of)),
        ("GET" | "HEAD", None) => ("404 Not Found", "text/plain", elsewhere()),
        _ => ("405 Method Not Allowed", "text/plain", "GET /metrics\n".to_owned()),
    };
    let length = body.len();
    let shown = if method == "HEAD" { "" } else { &*body };
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{shown}"
    );
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

/// Whose metrics a path names, if it names any; all agents' are none's.
fn whose(path: &str) -> Option<Option<Container>> {
    match path.strip_prefix("/metrics")? {
        "" => Some(None),
        rest => {
            let name = rest.strip_prefix('/')?;
            Some(Some(Container::ALL.into_iter().find(|agent| agent.agent() == name)?))
        }
    }
}

fn elsewhere() -> String {
    let own: String = Container::ALL.map(|agent| format!(", /metrics/{}", agent.agent())).concat();
    format!("there is /metrics here{own}\n")
}

/// Up to the empty line.
async fn head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => head.extend_from_slice(&buffer[..n]),
        }
        if head.windows(4).any(|end| end == b"\r\n\r\n") {
            return String::from_utf8(head).map_err(|_| io::ErrorKind::InvalidData.into());
        }
        if head.len() > HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(at: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[test]
    fn pages_of_all_and_of_each_are_there_and_nothing_else() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let at = listener.local_addr().unwrap();
            tokio::spawn(serve(listener, |of| format!("{} 1\n", of.map_or("a", Container::name))));
            // Who says nothing takes nobody's turn but its own.
            let silent = TcpStream::connect(at).await.unwrap();
            let page = ask(at, "GET /metrics?x=1 HTTP/1.1\r\nHost: x\r\n\r\n").await;
            assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.ends_with("\r\n\r\na 1\n"), "{page}");
            assert!(page.contains("\r\nContent-Length: 4\r\n"), "{page}");
            let head = ask(at, "HEAD /metrics HTTP/1.1\r\n\r\n").await;
            assert!(head.contains("200 OK") && head.ends_with("\r\n\r\n"), "{head}");
            let own = ask(at, "GET /metrics/user-init HTTP/1.1\r\n\r\n").await;
            assert!(own.ends_with("\r\n\r\nuser 1\n"), "{own}");
            for nobody in ["/metricsuser-init", "/metrics/", "/metrics/x", "/metrics/user-init/"] {
                let none = ask(at, &format!("GET {nobody} HTTP/1.1\r\n\r\n")).await;
                assert!(none.contains(" 404 ") && none.contains("/metrics/shutdown-monitor"), "{none}");
            }
            assert!(ask(at, "GET / HTTP/1.1\r\n\r\n").await.contains(" 404 "));
            assert!(ask(at, "POST /metrics HTTP/1.1\r\n\r\n").await.contains(" 405 "));
            drop(silent);
        });
    }
}
