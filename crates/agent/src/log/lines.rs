//! How a line looks, which may change while the process runs.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Json, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

static JSON: AtomicBool = AtomicBool::new(false);
/// The beginning of each JSON line.
static SOURCE: OnceLock<String> = OnceLock::new();

/// JSON from now on, or text.
pub(super) fn format(json: bool) {
    JSON.store(json, Ordering::Relaxed);
}

/// Whose lines these are, in each JSON line.
pub(super) fn source(builder: &str, agent: &str) {
    let text = serde_json::json!({ "builder": builder, "agent": agent }).to_string();
    let _ = SOURCE.set(text.trim_end_matches('}').to_owned());
}

/// Text, or an object a line.
pub(super) struct Lines {
    text: Format<Full, ()>,
    json: Format<Json>,
}

impl Default for Lines {
    fn default() -> Self {
        let format = tracing_subscriber::fmt::format().with_target(false);
        Self { text: format.clone().without_time(), json: format.json().flatten_event(true) }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if !JSON.load(Ordering::Relaxed) {
            return self.text.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.json.format_event(context, Writer::new(&mut line), event)?;
        match (SOURCE.get(), line.strip_prefix('{')) {
            (Some(source), Some(rest)) => write!(writer, "{source},{rest}"),
            _ => writer.write_str(&line),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_json_line_names_builder_and_agent_and_the_format_changes_under_way() {
        let memory = Memory::default();
        let writer = memory.clone();
        source("my-\"builder\"", "daemon-init");
        let layer = tracing_subscriber::fmt::layer()
            .event_format(Lines::default())
            .with_ansi(false)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(key = 7, "as text");
            format(true);
            tracing::warn!(key = 8, "as \"json\"");
            format(false);
            tracing::info!("as text again");
        });
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!([lines[0].trim(), lines[2].trim()], ["INFO as text key=7", "INFO as text again"]);
        let json: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
        for (key, value) in [
            ("builder", "my-\"builder\"".into()),
            ("agent", "daemon-init".into()),
            ("level", "WARN".into()),
            ("message", "as \"json\"".into()),
            ("key", serde_json::json!(8)),
        ] {
            assert_eq!(json[key], value, "{key} in {text}");
        }
        assert!(json["timestamp"].as_str().is_some_and(|at| at.ends_with('Z')), "{text}");
    }
}
