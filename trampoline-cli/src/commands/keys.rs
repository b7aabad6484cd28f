//! `keys`: whose signatures a builder takes.

use std::path::Path;

use clap::{Args, Subcommand};
use contract::exit::Exit;
use contract::keys::{self, BuilderKeys, KeySource};

use crate::context::Context;
use crate::error::{CliError, OnPath, Result};
use crate::global::Global;
use crate::signing::{self, Change, Key};
use crate::wake;

/// Say whose signatures of store paths the builder takes
///
/// A path that does not follow from its content comes in only if one of these keys has signed it. `setup` adds the key of
/// this machine, with which `copy-closure` signs. A change needs no restart.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli keys ls
  trampoline-cli keys add ci.pub                         of a file, one a line
  trampoline-cli keys add cache.example-1:6NCHdD…=       or as it is
  trampoline-cli keys rm cache.example-1                 by its name is enough")]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct KeysCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    Ls(Ls),
    Add(Add),
    Rm(Rm),
}

/// List them, the builder's own first
///
/// The builder signs with its own what is built there: machines that know this key take it.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli keys ls
  trampoline-cli keys ls --json | jq -r .own     for trusted-public-keys of your nix.conf")]
struct Ls {}

/// Take what these keys sign
///
/// Everybody who has one of them can bring in any store path.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli keys add                  that of this machine, as `setup` does
  trampoline-cli keys add ci.pub")]
struct Add {
    /// Public keys, NAME:BASE64, or files that hold some [default: that of this machine]
    #[arg(value_name = "KEY|FILE")]
    keys: Vec<String>,
}

/// Take no longer what these keys sign
///
/// Paths that came in stay. Connections that are open go on with the keys that were there when they began.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli keys rm ci-1
  trampoline-cli keys rm ci.pub")]
struct Rm {
    /// Public keys, their names, or files that hold some
    #[arg(value_name = "KEY|FILE|NAME", required = true)]
    keys: Vec<String>,
}

impl KeysCommand {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = Context::new(global)?;
        // What is wrong with the words is said before anything is started.
        let given = match &self.action {
            Action::Add(add) => add.keys.iter().map(|word| read(word)).collect::<Result<Vec<_>>>()?.concat(),
            _ => Vec::new(),
        };
        wake::running(&context).await?;
        let known = signing::known(&context).await?;
        match &self.action {
            Action::Ls(_) => list(&context, &known),
            Action::Add(add) if add.keys.is_empty() => {
                let own = Key::find_or_make(&context)?.public().to_owned();
                change(&context, Change::Add, vec![own], &known).await
            }
            Action::Add(_) => change(&context, Change::Add, given, &known).await,
            Action::Rm(rm) => {
                let keys = rm.keys.iter().map(|word| resolve(word, &known)).collect::<Result<Vec<_>>>()?;
                change(&context, Change::Remove, keys.concat(), &known).await
            }
        }
    }
}

fn list(context: &Context, known: &BuilderKeys) -> Result<u8> {
    let ui = context.ui;
    let mine = Key::find(&context.state)?.map(|key| key.public().to_owned());
    if ui.json {
        ui.object(&serde_json::json!({ "own": known.own, "mine": mine, "trusted": known.trusted }))?;
        return Ok(0);
    }
    ui.data(format!("{}  signs what is built there", known.own))?;
    for trusted in &known.trusted {
        let from = match trusted.from {
            KeySource::Config => "of trampoline.toml",
            KeySource::Added if mine.as_ref() == Some(&trusted.key) => "of this machine",
            KeySource::Added => "added",
        };
        ui.data(format!("{}  {from}", trusted.key))?;
    }
    Ok(0)
}

async fn change(context: &Context, change: Change, mut keys: Vec<String>, known: &BuilderKeys) -> Result<u8> {
    let there = |key: &str| known.knows(key);
    keys.sort();
    keys.dedup();
    if change == Change::Add {
        keys.retain(|key| !there(key));
    }
    if !keys.is_empty() {
        signing::change(context, change, &keys).await?;
    }
    let names: Vec<&str> = keys.iter().map(|key| keys::name(key)).collect();
    let (word, what) = match change {
        Change::Add => ("added", "takes"),
        Change::Remove => ("removed", "does not take any more"),
    };
    if context.ui.json {
        context.ui.object(&serde_json::json!({ "name": context.name, word: keys }))?;
    } else if names.is_empty() {
        context.ui.say("nothing to change: what these keys sign is taken already");
    } else {
        context.ui.say(format!("builder {} {what} what is signed by {}", context.name, names.join(", ")));
    }
    Ok(0)
}

/// A key, or those of a file.
fn read(word: &str) -> Result<Vec<String>> {
    let wrong = |problem: String| CliError::usage(format!("no public key: {problem}"));
    let path = Path::new(word);
    if word.contains(':') && !path.exists() {
        return keys::parse_list(word).map_err(wrong);
    }
    let text = std::fs::read_to_string(path).on("cannot read", path).map_err(|error| {
        CliError { exit: Exit::Usage, ..error }
            .hint("give a public key, NAME:BASE64, or a file that holds some")
    })?;
    let found = keys::parse_list(&text).map_err(|problem| {
        CliError::usage(format!("{} holds something that is no public key: {problem}", path.display()))
    })?;
    if found.is_empty() {
        return Err(CliError::usage(format!("{} holds no key", path.display())));
    }
    Ok(found)
}

/// What is meant among those that were added.
fn resolve(word: &str, known: &BuilderKeys) -> Result<Vec<String>> {
    let named = known.all().find(|key| keys::name(key) == word).map(str::to_owned);
    let keys = match named {
        Some(key) => vec![key],
        None if word.contains(':') || Path::new(word).exists() => read(word)?,
        None => {
            return Err(CliError::usage(format!("no key of the builder is called {word:?}"))
                .hint("`trampoline-cli keys ls` lists them"));
        }
    };
    for key in &keys {
        let name = keys::name(key);
        let mut of_this = known.trusted.iter().filter(|trusted| trusted.key == *key);
        if known.own == *key {
            return Err(CliError::usage(format!(
                "{name} is the builder's own key: it takes what it built itself"
            )));
        }
        let Some(first) = of_this.next() else {
            return Err(CliError::usage(format!("{name} is not among the builder's keys"))
                .hint("`trampoline-cli keys ls` lists them"));
        };
        if first.from == KeySource::Config && of_this.next().is_none() {
            return Err(CliError::usage(format!("{name} stands in trampoline.toml"))
                .hint("take it out of trusted-public-keys under [daemon], then `trampoline-cli setup`"));
        }
    }
    Ok(keys)
}
