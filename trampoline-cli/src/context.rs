//! What every command that concerns a builder begins with.

use std::path::PathBuf;

use crate::engine::{self, Chosen, Engine, Observed};
use crate::error::{OnPath, Result, While};
use crate::global::Global;
use crate::settings::Settings;
use crate::state::State;
use crate::ui::Ui;

/// The builder that a command is about.
pub(crate) struct Context {
    /// How to speak.
    pub(crate) ui: Ui,
    /// trampoline.toml.
    pub(crate) settings: Settings,
    /// The builder's name.
    pub(crate) name: String,
    /// What runs it.
    pub(crate) engine: Box<dyn Engine>,
    /// Options that choose the same engine from any folder.
    pub(crate) options: Vec<String>,
    /// What this client remembers of it.
    pub(crate) state: State,
}

impl Context {
    /// Reads the configuration; asks the engine nothing yet.
    pub(crate) fn new(global: &Global) -> Result<Self> {
        let ui = global.ui();
        let settings = Settings::load(global.config.as_deref(), &current_dir()?)?;
        let name = settings.builder_name(global.name.as_deref())?;
        Self::made(ui, settings, name, global)
    }

    /// The same, for a builder of this name.
    pub(crate) fn named(global: &Global, name: &str) -> Result<Self> {
        let settings = Settings::load(global.config.as_deref(), &current_dir()?)?;
        let ui = global.ui();
        let name = crate::settings::check_name(name, "builder name")?;
        Self::made(ui, settings, name, global)
    }

    fn made(ui: Ui, settings: Settings, name: String, global: &Global) -> Result<Self> {
        let Chosen { engine, cluster, options } = engine::of(&settings.config, &global.choice(), ui)?;
        let state = State::of(&name, cluster.as_deref())?;
        Ok(Self { ui, settings, name, engine, options, state })
    }

    /// What the builder was made from; that of the configuration, where no pod tells.
    pub(crate) fn image_of<'a>(&'a self, observed: &'a Observed) -> &'a String {
        observed.image.as_ref().unwrap_or(&self.settings.config.builder.image)
    }
}

/// The folder that the command was typed in.
pub(crate) fn current_dir() -> Result<PathBuf> {
    std::env::current_dir().on("cannot find", std::path::Path::new("the current folder"))
}

/// A folder that goes when it is dropped.
pub(crate) fn scratch_dir(prefix: &str) -> Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix(prefix).tempdir().during("cannot make a temporary folder")
}
