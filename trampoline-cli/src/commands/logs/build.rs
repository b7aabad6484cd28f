//! The log of a build.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, Write};

use crate::context::Context;
use crate::error::{CliError, Result};
use crate::jobs::{self, Log, Piece};
use crate::nixlog::{Lines, Renderer, Screen};

/// On stdout: for people, or with `--json` as Nix wrote it. With `tail`, of what there is so far the last lines only.
pub(super) async fn print(context: &Context, id: &str, follow: bool, tail: Option<u32>) -> Result<u8> {
    let size = match tail {
        Some(_) => jobs::list(context).await?.iter().find(|job| job.id == id).map_or(0, |job| job.log),
        None => {
            jobs::awake(context).await?;
            0
        }
    };
    let page = Page { kept: RefCell::default(), most: Cell::new(tail), failed: Cell::new(None) };
    let mut renderer = Renderer::new(context.ui.verbose, false);
    let mut lines = Lines::default();
    let mut log = Log::of(context, id, follow);
    loop {
        if log.offset() >= size && follow {
            page.go_on();
        }
        let piece = log.next().await?;
        let Piece::Bytes(bytes) = piece else { break };
        if !context.ui.json {
            lines.take(&bytes, |line| renderer.line(line, &page));
        } else if tail.is_some() {
            lines.take(&bytes, |line| page.print(line));
        } else {
            context.ui.raw(&bytes)?;
        }
        page.check()?;
    }
    lines.rest(|line| if context.ui.json { page.print(line) } else { renderer.line(line, &page) });
    page.go_on();
    page.check()?;
    Ok(0)
}

/// Standard output, of which at first only the last lines are kept.
struct Page {
    kept: RefCell<VecDeque<String>>,
    most: Cell<Option<u32>>,
    failed: Cell<Option<io::Error>>,
}

impl Page {
    /// From now on all lines come at once.
    fn go_on(&self) {
        if self.most.take().is_some() {
            self.kept.take().iter().for_each(|line| self.print(line));
        }
    }

    fn check(&self) -> Result<()> {
        self.failed.take().map_or(Ok(()), |error| Err(CliError::stdout(&error)))
    }
}

impl Screen for Page {
    fn print(&self, line: &str) {
        if let Some(most) = self.most.get() {
            let mut kept = self.kept.borrow_mut();
            kept.push_back(line.to_owned());
            if kept.len() > most as usize {
                kept.pop_front();
            }
        } else if let Err(error) = writeln!(io::stdout(), "{line}") {
            self.failed.set(Some(error));
        }
    }
}
