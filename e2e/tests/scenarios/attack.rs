//! The builder's user, who may run any program there, against everything else. What each attack is after must stay out of
//! reach; where the same line can succeed at all, it is seen to by somebody who may.

pub(crate) mod daemon;
pub(crate) mod exhaust;
pub(crate) mod files;
pub(crate) mod links;
pub(crate) mod processes;
pub(crate) mod secrets;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use e2e::builder::Builder;
use e2e::output::Output;
use e2e::setting::setting;

/// What is tried, and the shell line that ends with 0 if it works.
type Attempt = (String, String);

fn attempts<'a>(tries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Attempt> {
    tries.into_iter().map(|(what, line)| (what.to_owned(), line.to_owned())).collect()
}

/// Shell lines that make all attempts, whatever comes of each, and tell by number. `before` is run first, in the same shell.
fn script(before: &str, attempts: &[Attempt]) -> String {
    let mut text = format!("{before}\n");
    for (number, (_, line)) in attempts.iter().enumerate() {
        let run = format!("( {line} ) >/dev/null 2>&1 </dev/null");
        writeln!(text, "if {run}; then echo worked: {number}; else echo failed: {number}; fi")
            .expect("memory");
    }
    text
}

/// Which attempts worked; all of them must have been made.
fn worked(output: &Output, attempts: &[Attempt]) -> BTreeSet<String> {
    let told = |word: &str| -> BTreeSet<usize> {
        let lines = output.stdout.lines().filter_map(|line| line.strip_prefix(word));
        lines.map(|number| number.parse().expect("a number of ours")).collect()
    };
    let worked = told("worked: ");
    assert_eq!(worked.len() + told("failed: ").len(), attempts.len(), "attempts that were made: {output}");
    worked.into_iter().map(|number| attempts[number].0.clone()).collect()
}

/// None of them works for the user.
fn all_fail(builder: &Builder, before: &str, attempts: &[Attempt]) {
    let output = builder.shell(&script(before, attempts));
    assert_eq!(worked(&output, attempts), BTreeSet::new(), "{output}");
}

/// All of them work for the root of the daemon container: they are no lines that nobody could run.
fn all_work_for_root(builder: &Builder, before: &str, attempts: &[Attempt]) {
    let output = as_root(builder, &script(before, attempts));
    let wanted: BTreeSet<String> = attempts.iter().map(|(what, _)| what.clone()).collect();
    assert_eq!(worked(&output, attempts), wanted, "{output}");
}

fn as_root(builder: &Builder, line: &str) -> Output {
    setting().engine.as_root(builder.name(), line)
}
