//! Content of blobs, from git's own store.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::Stdio;

use contract::exit::Exit;

use super::{Repo, not_started};
use crate::error::{CliError, Result, While};

/// Hands the content of each blob, and its length, to `each`, in their order. What `each` leaves is skipped.
pub(super) fn read<E: From<CliError>>(
    repo: &Repo,
    env: &[(OsString, OsString)],
    ids: &[&str],
    mut each: impl FnMut(usize, u64, &mut dyn Read) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let mut child = repo
        .git(["cat-file", "--batch", "--buffer"])
        .envs(env.iter().cloned())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| not_started(&error))?;
    let stdin = child.stdin.take();
    let done = std::thread::scope(|scope| {
        let stdout = child.stdout.take();
        scope.spawn(move || {
            // Where git leaves early, its output ends early too.
            let _ = stdin.map(|mut stdin| stdin.write_all((ids.join("\n") + "\n").as_bytes()));
        });
        let mut stdout = BufReader::with_capacity(256 << 10, stdout.ok_or_else(|| lost("all"))?);
        for (at, id) in ids.iter().enumerate() {
            let length = header(&mut stdout, id)?;
            let mut content = (&mut stdout).take(length);
            each(at, length, &mut content)?;
            // And the newline behind it.
            let rest = content.limit() + 1;
            let skipped =
                io::copy(&mut (&mut stdout).take(rest), &mut io::sink()).during("cannot read from git")?;
            if skipped != rest {
                return Err(lost(id).into());
            }
        }
        Ok(())
    });
    if done.is_err() {
        // It may be in the middle of a blob that nobody reads.
        let _ = child.kill();
    }
    child.wait().during("cannot wait for git")?;
    done
}

/// `ID blob LENGTH`.
fn header(from: &mut impl BufRead, id: &str) -> Result<u64> {
    let mut line = String::new();
    from.read_line(&mut line).during("cannot read from git")?;
    let mut words = line.split_whitespace().skip(1);
    match (words.next(), words.next().and_then(|length| length.parse().ok())) {
        (Some("blob"), Some(length)) => Ok(length),
        _ => Err(lost(id)),
    }
}

fn lost(id: &str) -> CliError {
    CliError::new(Exit::Io, format!("git does not find the object {id} of this tree"))
        .hint("`git fsck` shows what is missing in the repository; `git fetch` may bring it back")
}
