//! What differs between a builder and what it should be.

use crate::context::Context;
use crate::engine::Observed;
use crate::error::Result;
use crate::prepare;
use crate::render::diff::{self, Difference};
use crate::render::{NOTHING_GIVEN, Rendering};

/// Characters of an image's id that people are shown.
const SHORT: usize = 12;

/// See the module.
pub(super) struct Changes {
    /// As the engine says it, if it can.
    pub(super) told: Option<Vec<Difference>>,
    /// What this client made last.
    before: Option<Rendering>,
    rebuilt: Option<Difference>,
}

impl Changes {
    /// With what [`rebuilt`] says.
    pub(super) async fn between(
        context: &Context,
        observed: &Observed,
        new: &Rendering,
        rebuilt: Option<Difference>,
    ) -> Result<Self> {
        let told =
            if observed.containers.is_empty() { None } else { context.engine.differences(new).await? };
        Ok(Self { told, before: context.state.read(prepare::RENDERING), rebuilt })
    }

    /// Whether files that the pod reads are others than those that were written last.
    pub(super) fn has_other_files(&self, new: &Rendering) -> bool {
        self.before.as_ref().is_none_or(|before| before.files != new.files)
    }

    /// Each of them, as far as it is known what was there before.
    fn list(&self, context: &Context, new: &Rendering) -> Vec<Difference> {
        let known = match (&self.told, &self.before) {
            (Some(told), _) => told.clone(),
            (None, Some(before)) => diff::all(before, &context.settings.config, new),
            (None, None) => Vec::new(),
        };
        known.into_iter().chain(self.rebuilt.clone()).collect()
    }

    /// For people.
    pub(super) fn lines(&self, context: &Context, observed: &Observed, new: &Rendering) -> Vec<String> {
        if !observed.exists() {
            return vec![format!("making builder {} from {}", context.name, new.image)];
        }
        if observed.containers.is_empty() {
            return vec![format!(
                "making a pod for the volumes of builder {}, from {}",
                context.name, new.image
            )];
        }
        let list = self.list(context, new);
        let mut lines: Vec<String> = list.iter().map(|difference| format!("changes {difference}")).collect();
        let is_of_it = is_of(observed, new);
        if !is_of_it && self.told.is_none() && self.before.is_none() {
            lines.push("its pod was made from another configuration: making it again".to_owned());
        }
        if lines.is_empty() && is_of_it {
            lines.push(format!("nothing to change in builder {}", context.name));
        }
        lines
    }
}

/// Whether its pod was made from this rendering.
pub(super) fn is_of(observed: &Observed, new: &Rendering) -> bool {
    observed.digest.as_deref() == Some(new.digest.as_str())
}

/// An image that has another content than the pod's has, under the same name.
pub(super) async fn rebuilt(
    context: &Context,
    observed: &Observed,
    new: &Rendering,
) -> Result<Option<Difference>> {
    let Some(old) = observed.image_id.as_deref().filter(|_| is_of(observed, new)) else { return Ok(None) };
    let now = context.engine.image_id(&new.image).await?;
    Ok(now.filter(|now| now != old).map(|now| {
        let short = |id: &str| id.trim_start_matches("sha256:").chars().take(SHORT).collect();
        Difference {
            what: format!("content of image {}", new.image),
            from: short(old),
            to: short(&now),
            when: diff::POD_AGAIN,
        }
    }))
}

/// `--dry-run`.
pub(super) fn show(
    context: &Context,
    observed: &Observed,
    rendering: &Rendering,
    notes: &[String],
    changes: &Changes,
) -> Result<u8> {
    let ui = context.ui;
    if ui.json {
        let list = if observed.exists() { changes.list(context, rendering) } else { Vec::new() };
        ui.object(&serde_json::json!({
            "name": context.name,
            "exists": observed.exists(),
            "pod": rendering.pod,
            "volumes": rendering.volumes,
            "files": rendering.files,
            "notes": notes,
            "changes": list,
        }))?;
        return Ok(0);
    }
    notes.iter().for_each(|note| ui.say(note));
    if observed.exists() {
        changes.lines(context, observed, rendering).iter().for_each(|line| ui.say(line));
    }
    for volume in &rendering.volumes {
        ui.data(format!("# volume {} ({})", volume.name, volume.options.join(" ")))?;
    }
    for (name, text) in &rendering.files {
        ui.data(format!(
            "# {name}: {}",
            if text == NOTHING_GIVEN { "all defaults".to_owned() } else { format!("{} bytes", text.len()) }
        ))?;
    }
    ui.data(rendering.manifest()?.trim_end())?;
    Ok(0)
}
