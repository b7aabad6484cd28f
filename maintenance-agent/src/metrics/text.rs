//! The page, in Prometheus' text format 0.0.4. Names, help and labels are ours; of what others publish only numbers get in, and the
//! versions, as quoted text.

use std::fmt::Write;

use contract::handshake::{BuilderStatus, Lives, Phase};
use contract::places::Container;

use super::tally::{Blocked, Tally};

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Counter,
    Gauge,
}

/// A page that is written.
struct Page(String);

impl Page {
    /// All samples of a name; nothing where there are none.
    fn add<'a>(
        &mut self,
        kind: Kind,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (&'a str, Option<u64>)>,
    ) {
        let mut samples = samples.into_iter().filter_map(|(labels, value)| Some((labels, value?))).peekable();
        if samples.peek().is_none() {
            return;
        }
        let kind = if kind == Kind::Counter { "counter" } else { "gauge" };
        // Writing to memory does not fail.
        let _ = write!(self.0, "# HELP trampoline_{name} {help}\n# TYPE trampoline_{name} {kind}\n");
        for (labels, value) in samples {
            let _ = writeln!(self.0, "trampoline_{name}{labels} {value}");
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: Option<u64>) {
        self.add(Kind::Gauge, name, help, [("", value)]);
    }

    fn counter(&mut self, name: &str, help: &str, value: Option<u64>) {
        self.add(Kind::Counter, name, help, [("", value)]);
    }

    fn labelled(&mut self, kind: Kind, name: &str, help: &str, label: &str, samples: &[(&str, u64)]) {
        let texts: Vec<String> =
            samples.iter().map(|(value, _)| format!("{{{label}={}}}", quoted(value))).collect();
        self.add(kind, name, help, texts.iter().map(|t| &**t).zip(samples.iter().map(|(_, n)| Some(*n))));
    }
}

/// A label's value.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// What all agents know, or `of` alone. `began` and `now` are seconds since the epoch: when the pod did, and now.
pub(super) fn page(
    of: Option<Container>,
    status: &BuilderStatus,
    tally: &Tally,
    lives: Option<&Lives>,
    began: Option<u64>,
    now: u64,
) -> String {
    let mut page = Page(String::new());
    let asked = |agent: Container| of.is_none_or(|of| of == agent);
    let running = |of: Container| status.agent(of).is_some_and(|agent| agent.phase == Phase::Running);
    let agents = Container::ALL.into_iter().filter(|agent| asked(*agent));
    let agents: Vec<_> = agents.map(|of| (of.agent(), u64::from(running(of)))).collect();
    page.labelled(Kind::Gauge, "agent_running", "Whether an agent serves.", "agent", &agents);
    if asked(Container::Daemon) {
        daemon(&mut page, status, lives, began);
    }
    if asked(Container::User) {
        user(&mut page, status);
    }
    if asked(Container::ShutdownMonitor) {
        monitor(&mut page, status, tally, now);
    }
    if asked(Container::Maintenance) {
        maintenance(&mut page, status, tally);
    }
    page.0
}

fn builds(status: &BuilderStatus) -> Option<u64> {
    status.daemon.as_ref().map(|daemon| u64::from(daemon.builds))
}

fn jobs(status: &BuilderStatus) -> Option<u64> {
    status.user.as_ref().map(|user| user.jobs.len() as u64)
}

fn daemon(page: &mut Page, status: &BuilderStatus, lives: Option<&Lives>, began: Option<u64>) {
    let ready = status.ready.as_ref();
    if let Some(ready) = ready {
        let labels = format!(
            "{{version={},nix={},image={}}}",
            quoted(env!("CARGO_PKG_VERSION")),
            quoted(&ready.nix_version),
            quoted(&ready.image)
        );
        page.add(Kind::Gauge, "builder_info", "What the builder is made of.", [(&*labels, Some(1))]);
    }
    page.gauge("ready", "Whether the daemon answers.", Some(u64::from(ready.is_some())));
    let took = ready.zip(began).map(|(ready, began)| ready.at.saturating_sub(began));
    page.gauge(
        "ready_seconds",
        "From the start of the pod until the daemon answered, or answered again.",
        took,
    );
    page.gauge("builds_running", "Derivations that are being built.", builds(status));
    let begun = status.daemon.as_ref().map(|daemon| daemon.begun);
    page.counter("builds_total", "Derivations whose build has begun.", begun);
    page.counter(
        "wakes_total",
        "Starts of the builder, since its store was made.",
        lives.map(|lives| lives.wakes),
    );
    if let Some(lives) = lives {
        let ends = [("idle", lives.idle), ("asked", lives.asked), ("killed", lives.killed)];
        page.labelled(
            Kind::Counter,
            "stops_total",
            "Ends of the builder, since its store was made.",
            "reason",
            &ends,
        );
    }
}

fn user(page: &mut Page, status: &BuilderStatus) {
    page.gauge("jobs_running", "Builds that were asked for and have not ended.", jobs(status));
    let sessions = status.user.as_ref().map(|user| user.sessions.len() as u64);
    page.gauge("sessions", "Sessions and transfers that are open.", sessions);
}

fn monitor(page: &mut Page, status: &BuilderStatus, tally: &Tally, now: u64) {
    let idle = status.idle.as_ref().map(|idle| match (builds(status), jobs(status)) {
        (Some(0) | None, Some(0) | None) => now.saturating_sub(idle.last_activity),
        _ => 0,
    });
    page.gauge("idle_seconds", "Since anything was last done.", idle);
    let blocked = Blocked::ALL.map(|by| (by.name(), tally.blocked(by)));
    page.labelled(
        Kind::Counter,
        "stops_blocked_total",
        "Stops of an idle builder that were called off, by what kept it.",
        "by",
        &blocked,
    );
}

fn maintenance(page: &mut Page, status: &BuilderStatus, tally: &Tally) {
    let store = status.store.as_ref();
    page.gauge("store_bytes", "Sum of the sizes of all valid store paths.", store.map(|s| s.nar_bytes));
    page.gauge("store_paths", "Valid store paths.", store.map(|s| s.paths));
    page.gauge("volume_bytes", "Size of the file system of the store volume.", store.map(|s| s.fs_bytes));
    page.gauge("volume_free_bytes", "Free bytes of it.", store.map(|s| s.fs_free_bytes));
    // Some file systems know no such limit.
    let inodes = store.filter(|s| s.fs_inodes > 0);
    page.gauge(
        "volume_inodes",
        "Inodes of the file system of the store volume.",
        inodes.map(|s| s.fs_inodes),
    );
    page.gauge("volume_free_inodes", "Free inodes of it.", inodes.map(|s| s.fs_free_inodes));
    page.counter("gc_runs_total", "Garbage collections that have ended.", Some(tally.collections));
    page.counter("gc_freed_bytes_total", "Bytes that they have freed.", Some(tally.freed));
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use contract::handshake::Life;
    use serde_json::json;

    use super::*;

    fn full() -> String {
        of(None)
    }

    fn of(of: Option<Container>) -> String {
        let status = json!({
            "life": "a",
            "ready": { "life": "a", "pid": 1, "start_time": 1, "store_id": "s", "nix_version": "2\"\\\n", "image": "i", "at": 107 },
            "agents": [{ "life": "a", "agent": "user-init", "version": "1", "phase": "running", "message": "", "at": 1 }],
            "daemon": { "life": "a", "builds": 0, "begun": 5, "last_build": 0 },
            "user": { "life": "a", "sessions": [], "jobs": [], "last_work": 0 },
            "idle": { "life": "a", "last_activity": 150, "source": "x" },
            "store": { "life": "a", "paths": 2, "nar_bytes": 3, "fs_bytes": 4, "fs_free_bytes": 5, "fs_inodes": 6,
                       "fs_free_inodes": 7, "at": 8 },
        });
        let status: BuilderStatus = serde_json::from_value(status).unwrap();
        let lives = Lives { life: Life("a".into()), wakes: 9, idle: 4, asked: 3, killed: 1 };
        page(of, &status, &Tally::default(), Some(&lives), Some(100), 160)
    }

    /// The grammar of the format, and what a linter of it would say.
    fn check(page: &str) {
        assert!(page.ends_with('\n'), "the last line must end");
        let is_name = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
        };
        let (mut family, mut families, mut samples) = (("", "", ""), HashSet::new(), HashSet::new());
        for line in page.lines() {
            if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) {
                assert!(families.insert(name), "{name} comes twice");
                assert!(help.ends_with('.') && is_name(name), "{line}");
                family = (name, help, "");
            } else if let Some((name, kind)) =
                line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' '))
            {
                assert_eq!((name, family.2), (family.0, ""), "HELP, TYPE, samples: {line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                assert!(["counter", "gauge"].contains(&kind), "{line}");
                family.2 = kind;
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let (name, labels) = series.split_once('{').map_or((series, None), |(n, l)| (n, Some(l)));
                assert!(name == family.0 && !family.2.is_empty(), "a sample outside of its family: {line}");
                assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
                assert!(samples.insert(series), "{series} comes twice");
                let Some(labels) = labels else { continue };
                let mut rest = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
                while !rest.is_empty() {
                    let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
                    assert!(is_name(label) && !label.contains(':'), "{line}");
                    let mut escaped = false;
                    let end = after
                        .find(|c| {
                            let ends = c == '"' && !escaped;
                            escaped = c == '\\' && !escaped;
                            ends
                        })
                        .unwrap_or_else(|| panic!("{line}"));
                    rest = &after[end + 1..];
                    assert!(rest.is_empty() || rest.starts_with(','), "{line}");
                    rest = rest.trim_start_matches(',');
                }
            }
        }
    }

    #[test]
    fn the_page_is_of_the_format() {
        check(&full());
        let nothing = json!({ "life": "a", "agents": [] });
        let empty = page(None, &serde_json::from_value(nothing).unwrap(), &Tally::default(), None, None, 1);
        check(&empty);
        assert!(!empty.contains("store_bytes"), "what is not known is not told");
    }

    #[test]
    fn each_agent_has_a_page_of_what_it_knows() {
        let pages = Container::ALL.map(|agent| (agent, of(Some(agent))));
        let samples = |page: &str| -> Vec<String> {
            page.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
        };
        for (agent, page) in &pages {
            check(page);
            let own = format!("trampoline_agent_running{{agent=\"{}\"}}", agent.agent());
            assert!(samples(page).iter().any(|line| line.starts_with(&own)), "{page}");
        }
        let mut parts: Vec<_> = pages.iter().flat_map(|(_, page)| samples(page)).collect();
        let mut whole = samples(&full());
        parts.sort();
        whole.sort();
        assert_eq!(parts, whole);
        assert!(pages[0].1.contains("builds_total") && !pages[0].1.contains("jobs_running"));
    }

    #[test]
    fn what_is_asked_of_it_is_there() {
        let page = full();
        for line in [
            "trampoline_builder_info{version=\"0.1.0\",nix=\"2\\\"\\\\\\n\",image=\"i\"} 1",
            "trampoline_agent_running{agent=\"user-init\"} 1",
            "trampoline_agent_running{agent=\"daemon-init\"} 0",
            "trampoline_ready_seconds 7",
            "trampoline_idle_seconds 10",
            "trampoline_builds_total 5",
            "trampoline_store_bytes 3",
            "trampoline_volume_free_inodes 7",
            "trampoline_gc_freed_bytes_total 0",
            "trampoline_wakes_total 9",
            "trampoline_stops_total{reason=\"killed\"} 1",
            "trampoline_stops_blocked_total{by=\"silence\"} 0",
        ] {
            assert!(page.lines().any(|found| found == line), "no {line} in\n{page}");
        }
    }
}
