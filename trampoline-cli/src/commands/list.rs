//! `list`: every builder of this machine.

use clap::Args;

use crate::commands::status::judge;
use crate::context::Context;
use crate::engine::Published;
use crate::error::Result;
use crate::global::Global;

/// List the builders that exist
///
/// Asks the engine alone: never starts one, and does not count as activity.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli list
  trampoline-cli list --json | jq -r '.[].name'")]
pub(crate) struct List {}

impl List {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = Context::new(global)?;
        let ui = context.ui;
        let found = context.engine.list().await?;
        let mut rows = Vec::new();
        for observed in found.iter().filter(|observed| observed.exists()) {
            let published = match &observed.published {
                Published::Read(status) => status.as_deref(),
                Published::InPod | Published::Silent => None,
            };
            let state = match judge(observed, published, None).0 {
                // Whether it is ready only the pod knows, which is not asked here.
                "starting" if matches!(observed.published, Published::InPod) => "running",
                other => other,
            };
            rows.push((observed, state));
        }
        if ui.json {
            let objects: Vec<_> = rows
                .iter()
                .map(|(observed, state)| {
                    serde_json::json!({
                        "name": observed.builder, "state": state, "owner": observed.owner,
                        "image": observed.image, "ssh_port": observed.ssh_port,
                        "namespace": observed.place.as_ref().map(|place| &place.namespace),
                        "isolation": observed.isolation,
                    })
                })
                .collect();
            ui.object(&objects)?;
            return Ok(0);
        }
        if rows.is_empty() {
            ui.say("there is no builder; `trampoline-cli setup` makes one");
        }
        let width = rows.iter().map(|(observed, _)| observed.builder.len()).max().unwrap_or(0);
        for (observed, state) in rows {
            let owner = observed.owner.as_deref().unwrap_or("-");
            let image = observed.image.as_deref().unwrap_or("-");
            let place =
                observed.place.as_ref().map(|place| format!("{}  ", place.namespace)).unwrap_or_default();
            ui.data(format!("{:<width$}  {state:<9}  {place}{owner}  {image}", observed.builder))?;
        }
        Ok(0)
    }
}
