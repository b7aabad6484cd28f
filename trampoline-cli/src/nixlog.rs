//! Nix's `internal-json` log, for people.

use std::collections::HashMap;

use serde_json::Value;

use crate::ui::Step;

/// Where a log is shown.
pub(crate) trait Screen {
    /// A line that stays.
    fn print(&self, line: &str);

    /// What is at work now, where there is a line that moves.
    fn shows(&self, _what: &str) {}
}

impl Screen for Step {
    fn print(&self, line: &str) {
        Self::print(self, line);
    }

    fn shows(&self, what: &str) {
        Self::shows(self, what);
    }
}

/// Bytes that come in pieces, as lines. Those that are not UTF-8 are replaced.
#[derive(Default)]
pub(crate) struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// Gives each line that a piece has completed.
    pub(crate) fn take(&mut self, piece: &[u8], mut line: impl FnMut(&str)) {
        self.begun.extend_from_slice(piece);
        let Some(end) = self.begun.iter().rposition(|byte| *byte == b'\n') else { return };
        let rest = self.begun.split_off(end + 1);
        let whole = std::mem::replace(&mut self.begun, rest);
        String::from_utf8_lossy(&whole).lines().for_each(&mut line);
    }

    /// Gives what stands behind the last newline.
    pub(crate) fn rest(&mut self, line: impl FnOnce(&str)) {
        let rest = std::mem::take(&mut self.begun);
        if !rest.is_empty() {
            line(&String::from_utf8_lossy(&rest));
        }
    }
}

/// What every line of it begins with.
const PREFIX: &str = "@nix ";
/// Nix's level `info`: what is shown without -v.
const INFO: u64 = 3;
/// Nix's level `talkative`: what -v shows.
const TALKATIVE: u64 = 4;

/// Numbers of Nix's `ActivityType` and `ResultType`.
mod nix {
    pub(super) const BUILDS: u64 = 104;
    pub(super) const BUILD: u64 = 105;
    pub(super) const BUILD_LOG_LINE: u64 = 101;
    pub(super) const POST_BUILD_LOG_LINE: u64 = 107;
    pub(super) const PROGRESS: u64 = 105;
}

/// Follows one build.
pub(crate) struct Renderer {
    verbose: bool,
    colours: bool,
    activities: HashMap<u64, Activity>,
    /// Done and expected of all builds.
    builds: (u64, u64),
}

struct Activity {
    kind: u64,
    /// Name of what is built.
    name: String,
}

impl Renderer {
    /// `colours`: stderr is a terminal.
    pub(crate) fn new(verbose: bool, colours: bool) -> Self {
        Self { verbose, colours, activities: HashMap::new(), builds: (0, 0) }
    }

    /// One line of the log.
    pub(crate) fn line(&mut self, line: &str, step: &dyn Screen) {
        let parsed = line.strip_prefix(PREFIX).map(serde_json::from_str::<Value>);
        let Some(Ok(event)) = parsed else {
            self.print(line, step);
            return;
        };
        let number = |key: &str| event.get(key).and_then(Value::as_u64).unwrap_or(0);
        let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
        match text("action") {
            "msg" if number("level") <= self.level() => self.print(text("msg"), step),
            "start" => self.start(&event, number("id"), number("type"), number("level"), text("text"), step),
            "stop" => {
                self.activities.remove(&number("id"));
            }
            "result" => self.result(&event, number("id"), number("type"), step),
            _ => {}
        }
    }

    fn level(&self) -> u64 {
        if self.verbose { TALKATIVE } else { INFO }
    }

    fn start(&mut self, event: &Value, id: u64, kind: u64, level: u64, text: &str, step: &dyn Screen) {
        let name = field(event, 0).and_then(Value::as_str).map(short).unwrap_or_default();
        if !text.is_empty() && level <= self.level() {
            self.print(text, step);
        }
        if kind == nix::BUILD {
            self.show(&name, step);
        }
        self.activities.insert(id, Activity { kind, name });
    }

    fn result(&mut self, event: &Value, id: u64, kind: u64, step: &dyn Screen) {
        let activity = self.activities.get(&id);
        match kind {
            nix::BUILD_LOG_LINE | nix::POST_BUILD_LOG_LINE => {
                let line = field(event, 0).and_then(Value::as_str).unwrap_or_default();
                let line = match activity {
                    Some(activity) if !activity.name.is_empty() => format!("{}> {line}", activity.name),
                    _ => line.to_owned(),
                };
                self.print(&line, step);
            }
            nix::PROGRESS if activity.is_some_and(|activity| activity.kind == nix::BUILDS) => {
                let count = |index| field(event, index).and_then(Value::as_u64).unwrap_or(0);
                self.builds = (count(0), count(1));
            }
            _ => {}
        }
    }

    /// On the line that moves; elsewhere the log says it.
    fn show(&self, name: &str, step: &dyn Screen) {
        let (done, expected) = self.builds;
        let counted =
            if expected > 1 { format!("{name} ({done} of {expected} built)") } else { name.to_owned() };
        step.shows(&counted);
    }

    fn print(&self, text: &str, step: &dyn Screen) {
        for line in text.lines() {
            step.print(&clean(line, self.colours));
        }
    }
}

fn field(event: &Value, index: usize) -> Option<&Value> {
    event.get("fields")?.get(index)
}

/// `/nix/store/HASH-hello-1.0.drv` is `hello-1.0`.
fn short(path: &str) -> String {
    let base = path.rsplit('/').next().unwrap_or(path);
    let name = base.split_once('-').map_or(base, |(_, name)| name);
    name.strip_suffix(".drv").unwrap_or(name).to_owned()
}

/// A build's output is not trusted with the terminal: colours may pass, nothing else that moves or hides.
pub(crate) fn clean(line: &str, colours: bool) -> String {
    let mut out = String::with_capacity(line.len());
    // A progress bar's last state is what a person would have seen.
    let line = line.trim_end_matches('\r');
    let line = line.rsplit('\r').next().unwrap_or(line);
    let mut rest = line;
    while let Some(at) = rest.find(|c: char| c.is_control() && c != '\t') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (sequence, length) = escape(rest);
        if colours && sequence == Sequence::Colour {
            out.push_str(&rest[..length]);
        }
        rest = &rest[length..];
    }
    out.push_str(rest);
    if colours && out.contains('\x1b') {
        out.push_str("\x1b[0m");
    }
    out
}

#[derive(PartialEq)]
enum Sequence {
    Colour,
    Other,
}

/// The control sequence at the beginning, and its length in bytes.
fn escape(text: &str) -> (Sequence, usize) {
    let first = text.chars().next().map_or(0, char::len_utf8);
    if let Some(body) = text.strip_prefix("\x1b[") {
        let Some(end) = body.find(|c: char| ('@'..='~').contains(&c)) else {
            return (Sequence::Other, text.len());
        };
        let colour =
            body[end..].starts_with('m') && body[..end].chars().all(|c| c.is_ascii_digit() || c == ';');
        return (if colour { Sequence::Colour } else { Sequence::Other }, 2 + end + 1);
    }
    if text.starts_with("\x1b]") {
        // Titles and links, up to BEL or ST.
        let end = text.find('\x07').map(|at| at + 1).or(text.find("\x1b\\").map(|at| at + 2));
        return (Sequence::Other, end.unwrap_or(text.len()));
    }
    (Sequence::Other, first)
}

#[cfg(test)]
mod tests {
    use super::{Lines, clean, short};

    #[test]
    fn pieces_become_lines() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for piece in [&b"a\nb"[..], b"", b"c\n\n\xff", b"d\ne"] {
            lines.take(piece, |line| seen.push(line.to_owned()));
        }
        lines.rest(|line| seen.push(line.to_owned()));
        lines.rest(|_| panic!("nothing is left"));
        assert_eq!(seen, ["a", "bc", "", "\u{fffd}d", "e"]);
    }

    #[test]
    fn names_of_derivations() {
        for (path, name) in [
            ("/nix/store/abc-hello-1.0.drv", "hello-1.0"),
            ("/nix/store/abc-source", "source"),
            ("odd", "odd"),
            ("", ""),
        ] {
            assert_eq!(short(path), name);
        }
    }

    #[test]
    fn nothing_but_colours_reaches_the_terminal() {
        for (line, plain, coloured) in [
            ("plain\ttext", "plain\ttext", "plain\ttext"),
            ("\x1b[31mred\x1b[0m", "red", "\x1b[31mred\x1b[0m\x1b[0m"),
            ("a\x1b[2Jb\x1b[Hc", "abc", "abc"),
            ("\x1b]0;title\x07x\x1b]8;;http://x\x1b\\y", "xy", "xy"),
            ("10%\r50%\r100%\r", "100%", "100%"),
            ("\x1b[", "", ""),
            ("\x1b[1", "", ""),
            ("bell\x07", "bell", "bell"),
        ] {
            assert_eq!(clean(line, false), plain, "{line:?}");
            assert_eq!(clean(line, true), coloured, "{line:?}");
        }
    }
}
