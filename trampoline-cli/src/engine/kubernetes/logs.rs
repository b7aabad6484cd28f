//! What a container wrote, from the API server.
//!
//! Both of its streams come as one. Of a container that was started again, the API keeps the log of the life before as another
//! one; here they follow each other, as podman shows them.

use std::io::{self, Write};
use std::time::Duration;

use futures_util::{AsyncBufRead, AsyncBufReadExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::api::LogParams;
use kube::core::Request;

use super::client::{Cluster, Failed};
use super::target::Target;
use super::{failure, pod_of};
use crate::engine::last_lines;
use crate::error::{CliError, Result, While};

/// A log that is followed and has nothing to say for so long is asked for anew: nothing else tells a silent container from a
/// lost connection.
const SILENT: Duration = Duration::from_secs(60);

/// Lines go to stdout as they come.
pub(super) async fn logs(cluster: &Cluster, target: &Target, follow: bool, tail: Option<u32>) -> Result<i32> {
    let doing = "cannot write to stdout";
    if !follow {
        let text = both(cluster, target, tail).await?;
        return io::stdout().lock().write_all(&text).during(doing).map(|()| 0);
    }
    if tail.is_none()
        && let Some(before) = whole(cluster, target, true, None).await?
    {
        io::stdout().lock().write_all(&before).during(doing)?;
    }
    let mut place = Place { tail, last: String::new() };
    loop {
        match grow(cluster, target, &mut place).await? {
            Stopped::Silent => {}
            Stopped::Ended => {
                if !runs(cluster, target).await? {
                    return Ok(0);
                }
                cluster.ui.detail("the log was cut off; following again");
            }
        }
    }
}

/// Its last lines.
pub(super) async fn log_tail(cluster: &Cluster, target: &Target, lines: u32) -> Result<String> {
    let text = both(cluster, target, Some(lines)).await?;
    Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
}

/// The life before, then this one.
async fn both(cluster: &Cluster, target: &Target, tail: Option<u32>) -> Result<Vec<u8>> {
    let (before, now) =
        tokio::try_join!(whole(cluster, target, true, tail), whole(cluster, target, false, tail))?;
    let mut text = before.unwrap_or_default();
    text.extend(now.unwrap_or_default());
    Ok(match tail {
        Some(lines) => last_lines(&text, lines).to_vec(),
        None => text,
    })
}

fn params(target: &Target, previous: bool, tail: Option<u32>) -> LogParams {
    LogParams {
        container: Some(target.container.to_owned()),
        previous,
        tail_lines: tail.map(i64::from),
        ..LogParams::default()
    }
}

/// One life's log; none where it has none.
async fn whole(
    cluster: &Cluster,
    target: &Target,
    previous: bool,
    tail: Option<u32>,
) -> Result<Option<Vec<u8>>> {
    let pod = pod_of(&target.builder);
    let url = Pod::url_path(&(), Some(&cluster.namespace));
    let params = params(target, previous, tail);
    let read = || async {
        let request = Request::new(url.as_str()).logs(&pod, &params).map_err(kube::Error::BuildRequest)?;
        let mut text = Vec::new();
        let stream = cluster.client.request_stream(request).await?;
        futures_util::AsyncReadExt::read_to_end(&mut Box::pin(stream), &mut text)
            .await
            .map_err(kube::Error::ReadEvents)?;
        Ok(text)
    };
    match cluster.attempt(read).await {
        Ok(text) => Ok(Some(text)),
        Err(Failed::Error(kube::Error::Api(status))) if status.code == 400 => Ok(None),
        Err(Failed::Error(kube::Error::Api(status))) if status.code == 404 && previous => Ok(None),
        Err(failed) => Err(explain(cluster, target, failed)),
    }
}

fn explain(cluster: &Cluster, target: &Target, failed: Failed) -> CliError {
    match failed {
        Failed::Error(kube::Error::Api(status)) if status.code == 404 => target.not_running(),
        Failed::Error(kube::Error::Api(status)) if status.code == 400 => CliError::engine(format!(
            "the {} container of builder {} has no log yet: {}",
            target.container, target.builder, status.message
        ))
        .hint("`trampoline-cli status` shows what it waits for"),
        failed => {
            let doing = format!("cannot read the log of the {} container", target.container);
            failure::explain(cluster, &doing, failed)
        }
    }
}

/// How far we are.
struct Place {
    /// Of what was there before.
    tail: Option<u32>,
    /// When the line that was printed last was written, as the kubelet says it; empty before the first.
    last: String,
}

/// Why a log goes on no further.
enum Stopped {
    Silent,
    Ended,
}

/// Prints what is new, as it comes.
async fn grow(cluster: &Cluster, target: &Target, place: &mut Place) -> Result<Stopped> {
    let mut lines = follow(cluster, target, place).await?;
    let mut line = Vec::new();
    loop {
        line.clear();
        match tokio::time::timeout(SILENT, lines.read_until(b'\n', &mut line)).await {
            Err(_) => return Ok(Stopped::Silent),
            Ok(Ok(0) | Err(_)) => return Ok(Stopped::Ended),
            Ok(Ok(_)) => {}
        }
        let (at, text) = stamped(&line);
        // The server's "since" is not exact to the line.
        if at > place.last.as_str() {
            place.last = at.to_owned();
            let mut out = io::stdout().lock();
            out.write_all(text).and_then(|()| out.flush()).during("cannot write to stdout")?;
        }
    }
}

async fn follow(
    cluster: &Cluster,
    target: &Target,
    place: &Place,
) -> Result<std::pin::Pin<Box<impl AsyncBufRead + use<>>>> {
    let pod = pod_of(&target.builder);
    let url = Pod::url_path(&(), Some(&cluster.namespace));
    let tail = place.tail.filter(|_| place.last.is_empty());
    let params = LogParams { follow: true, timestamps: true, ..params(target, false, tail) };
    let since = since(&place.last);
    let open = || async {
        let mut request =
            Request::new(url.as_str()).logs(&pod, &params).map_err(kube::Error::BuildRequest)?;
        if let Ok(uri) = format!("{}{since}", request.uri()).parse() {
            *request.uri_mut() = uri;
        }
        cluster.client.request_stream(request).await
    };
    cluster.attempt(open).await.map(Box::pin).map_err(|failed| explain(cluster, target, failed))
}

/// Exact to the nanosecond, which the library's own parameter is not.
fn since(last: &str) -> String {
    if last.is_empty() { String::new() } else { format!("&sinceTime={}", last.replace('+', "%2B")) }
}

/// A line, and when it was written.
fn stamped(line: &[u8]) -> (&str, &[u8]) {
    let end = line.iter().position(|byte| *byte == b' ').unwrap_or(0);
    match std::str::from_utf8(&line[..end]) {
        Ok(at) => (at, line.get(end + 1..).unwrap_or_default()),
        Err(_) => ("", line),
    }
}

async fn runs(cluster: &Cluster, target: &Target) -> Result<bool> {
    let pods = cluster.api::<Pod>();
    let name = pod_of(&target.builder);
    let pod = cluster.call(&format!("cannot read pod {name}"), || pods.get_opt(&name)).await?;
    let statuses = pod.and_then(|pod| pod.status?.container_statuses).unwrap_or_default();
    let state = statuses.into_iter().find(|status| status.name == target.container).and_then(|s| s.state);
    Ok(state.is_some_and(|state| state.running.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_and_its_time() {
        let line = b"2026-11-24T19:08:53.716322123Z level=info a b\n";
        assert_eq!(stamped(line), ("2026-11-24T19:08:53.716322123Z", &b"level=info a b\n"[..]));
        assert_eq!(stamped(b"2026-11-24T19:08:53.716322123Z \n").1, b"\n");
        assert_eq!(since("2026-11-24T19:08:53.7+02:00"), "&sinceTime=2026-11-24T19:08:53.7%2B02:00");
        assert_eq!(since(""), "");
    }
}
