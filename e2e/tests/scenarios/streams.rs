//! Bytes reach the builder and come back as they are, and as many as they are, over every way in.

use e2e::builder::Builder;
use e2e::setting::setting;

use crate::shared;

crate::scenarios! {
    Any: [
        a_command_gets_and_gives_every_byte,
        a_command_that_leaves_its_input_ends,
        a_command_that_reads_late_gets_every_byte,
        ssh_gets_and_gives_every_byte,
    ],
}

/// Sent each way, MiB: enough for every buffer on the way to fill. `E2E_STREAM_MIB` asks for more, `E2E_STREAM_ROUNDS` for more
/// often.
const MIB: u64 = 64;
/// Seconds for a MiB on a busy machine, and for all that is not bytes.
const SECONDS: (u64, u64) = (1, 120);
/// Seconds that a command leaves its input alone: longer than a connection goes without a word. `E2E_LATE_SECONDS` asks for more than
/// the patience of what is in between.
const LATE: u64 = 12;
/// Lines of a length that no buffer's size is a multiple of: a piece that is lost or comes twice shows.
const GIVE: &str = "yes 0123456789abcdefghi | head -c";

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// A line of this machine's shell, in which `$CLI` is the client.
fn here(builder: &Builder, line: &str, code: i32) -> String {
    let mib = number("E2E_STREAM_MIB", MIB);
    let call = builder.call("bash").args(["-c", line]).env("CLI", &setting().cli);
    let output = call.env("BYTES", (mib << 20).to_string()).within(mib * SECONDS.0 + SECONDS.1).run();
    output.ended(code).text().to_owned()
}

/// `way` runs a shell line in the builder.
fn both(name: &str, way: &str) {
    let builder = shared::builder();
    // Scenarios run side by side.
    let file = format!("$HOME/noise-{name}");
    here(builder, &format!("head -c $BYTES /dev/urandom >{file}"), 0);
    for _ in 0..number("E2E_STREAM_ROUNDS", 1) {
        let sent = here(builder, &format!("sha256sum <{file}"), 0);
        assert_eq!(here(builder, &format!("{way} sha256sum <{file}"), 0), sent, "there");

        let given = here(builder, &format!("{GIVE} $BYTES | sha256sum"), 0);
        let line = format!("{way} \"{GIVE} $BYTES; exit 7\" | sha256sum; exit ${{PIPESTATUS[0]}}");
        assert_eq!(here(builder, &line, 7), given, "back");
    }
    here(builder, &format!("rm {file}"), 0);
}

fn a_command_gets_and_gives_every_byte() {
    both("shell", "$CLI shell -- bash -c");
}

fn ssh_gets_and_gives_every_byte() {
    both("ssh", "$CLI ssh --");
}

/// More than fits into all pipes and buffers between, so that somebody is in the middle of sending when nobody reads any more.
fn a_command_that_leaves_its_input_ends() {
    let builder = shared::builder();
    for _ in 0..5 {
        let line = "head -c $BYTES /dev/zero | $CLI shell -- sh -c 'head -c 10 | wc -c; exit 7'; exit ${PIPESTATUS[1]}";
        assert_eq!(here(builder, line, 7), "10");
    }
}

fn a_command_that_reads_late_gets_every_byte() {
    let line = format!(
        "head -c $BYTES /dev/zero | $CLI shell -- sh -c 'sleep {}; wc -c'; echo $BYTES",
        number("E2E_LATE_SECONDS", LATE)
    );
    let told = here(shared::builder(), &line, 0);
    let (got, sent) = told.split_once('\n').expect("two lines");
    assert_eq!(got, sent);
}
