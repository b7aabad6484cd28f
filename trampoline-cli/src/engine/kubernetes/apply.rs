//! Server-side apply of a rendering: our fields under our name, everybody else's left alone.

use std::collections::BTreeMap;

use contract::config::{Config, Opt, Reader, option};
use contract::exit::Exit;
use futures_util::future::{join_all, try_join_all};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::Value;

use super::client::{Cluster, Failed};
use super::permissions::Kind;
use super::{FIELD_MANAGER, failure, grow, merging, pod_of};
use crate::engine::{label, pod_name};
use crate::error::{CliError, Result};
use crate::render::{CONFIG_KEY, Rendering, diff, diff::Difference};

/// Whoever typed `kubectl apply` or `kubectl edit` before `setup` wants `setup` to have the last word; a controller would put its
/// own back.
const PEOPLE: [&str; 3] = ["kubectl", "before-first-apply", FIELD_MANAGER];
/// Annotation of the pod: a change of it makes the kubelet look at the pod's volumes at once, which it does once in a
/// minute otherwise.
const CONFIG_AT: &str = "io.trampoline/config-at";

/// One object of a rendering, on its way.
struct Object<'a> {
    kind: Kind,
    name: &'a str,
    value: &'a Value,
    api: Api<DynamicObject>,
}

impl<'a> Object<'a> {
    fn of(cluster: &Cluster, value: &'a Value) -> Result<Self> {
        let internal =
            |what: &str| CliError::new(Exit::Internal, format!("an object of the rendering has no {what}"));
        let kind = Kind::of(value).ok_or_else(|| internal("known kind"))?;
        let name = value.pointer("/metadata/name").and_then(Value::as_str).ok_or_else(|| internal("name"))?;
        Ok(Self { kind, name, value, api: cluster.api_of(kind) })
    }

    fn is(&self, kind: &str) -> bool {
        self.kind.kind == kind
    }

    fn shown(&self) -> String {
        format!("{} {}", self.kind.kind, self.name)
    }

    async fn live(&self, cluster: &Cluster) -> Result<Option<Value>> {
        let doing = format!("cannot read {}", self.shown());
        let live = cluster.call_opt(&doing, || self.api.get(self.name)).await?;
        Ok(live.and_then(|live| serde_json::to_value(live).ok()))
    }

    /// What the object is afterwards, or would be.
    async fn apply(&self, cluster: &Cluster, dry_run: bool) -> Result<Value> {
        let doing = format!("cannot apply {}", self.shown());
        let mut value = self.value.clone();
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("namespace".to_owned(), cluster.namespace.clone().into());
        }
        let mut params = PatchParams { dry_run, ..PatchParams::apply(FIELD_MANAGER) };
        for _ in 0..2 {
            let patch = Patch::Apply(&value);
            let failed = match cluster.attempt(|| self.api.patch(self.name, &params, &patch)).await {
                Ok(object) => return Ok(serde_json::to_value(object).unwrap_or(Value::Null)),
                Err(failed) => failed,
            };
            match conflicting(&failed) {
                Some(owners)
                    if owners.iter().all(|owner| PEOPLE.iter().any(|person| owner.starts_with(person))) =>
                {
                    params.force = true;
                }
                // The monitor opens and closes the budget; what it says now stays.
                Some(_) if self.is("PodDisruptionBudget") => {
                    let live = self.live(cluster).await?.unwrap_or_default();
                    let (Some(ours), Some(theirs)) =
                        (value.pointer_mut("/spec/maxUnavailable"), live.pointer("/spec/maxUnavailable"))
                    else {
                        return Err(failure::explain(cluster, &doing, failed));
                    };
                    *ours = theirs.clone();
                }
                _ => return Err(failure::explain(cluster, &doing, failed)),
            }
        }
        Err(CliError::engine(format!("{doing}: it changes faster than it can be applied"))
            .hint("another program manages it too: `kubectl get --show-managed-fields` shows which"))
    }
}

/// Who else has said what a field of ours should be.
fn conflicting(failed: &Failed) -> Option<Vec<String>> {
    let Failed::Error(kube::Error::Api(status)) = failed else { return None };
    let causes = &status.details.as_ref().filter(|_| status.code == 409)?.causes;
    let owners: Vec<String> =
        causes.iter().filter_map(|cause| cause.message.split('"').nth(1).map(str::to_owned)).collect();
    (!owners.is_empty()).then_some(owners)
}

/// Applies all of it; nothing starts or stops. Claims that are there only grow.
pub(super) async fn apply(cluster: &Cluster, rendering: &Rendering) -> Result<()> {
    let objects = objects(cluster, rendering)?;
    let (claims, others): (Vec<_>, Vec<_>) =
        objects.into_iter().partition(|object| object.is("PersistentVolumeClaim"));
    // Refusals of claims come before anything is changed.
    let plans = try_join_all(claims.iter().map(|claim| plan(cluster, claim))).await?;
    // A binding is checked against its role, and pods against everything.
    let (last, first): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|object| object.is("StatefulSet") || object.is("RoleBinding"));
    try_join_all(claims.iter().zip(&plans).map(|(claim, plan)| carry_out(cluster, claim, plan))).await?;
    for wave in [first, last] {
        for applied in join_all(wave.iter().map(|object| object.apply(cluster, false))).await {
            applied?;
        }
    }
    Ok(())
}

fn objects<'a>(cluster: &Cluster, rendering: &'a Rendering) -> Result<Vec<Object<'a>>> {
    rendering.objects.iter().map(|value| Object::of(cluster, value)).collect()
}

/// What becomes of a claim.
enum Plan {
    Make,
    Keep,
    Grow(grow::Growth),
}

async fn plan(cluster: &Cluster, claim: &Object<'_>) -> Result<Plan> {
    let api = cluster.api::<PersistentVolumeClaim>();
    let doing = format!("cannot read claim {}", claim.name);
    let Some(live) = cluster.call_opt(&doing, || api.get(claim.name)).await? else { return Ok(Plan::Make) };
    let wanted: PersistentVolumeClaim = serde_json::from_value(claim.value.clone())
        .map_err(|error| CliError::new(Exit::Internal, format!("claim {}: {error}", claim.name)))?;
    match grow::check(&live, &wanted)? {
        None => Ok(Plan::Keep),
        Some(growth) => grow::allowed(cluster, &growth).await.map(|()| Plan::Grow(growth)),
    }
}

async fn carry_out(cluster: &Cluster, claim: &Object<'_>, plan: &Plan) -> Result<()> {
    match plan {
        Plan::Make => claim.apply(cluster, false).await.map(drop),
        Plan::Keep => Ok(()),
        Plan::Grow(growth) => grow::grow(cluster, growth).await,
    }
}

/// What [`apply`] would change, by the API server's own word: defaults and other people's fields are no differences.
pub(super) async fn differences(cluster: &Cluster, rendering: &Rendering) -> Result<Vec<Difference>> {
    let objects = objects(cluster, rendering)?;
    let each = try_join_all(objects.iter().map(|object| difference(cluster, rendering, object))).await?;
    let mut found: Vec<Difference> = each.into_iter().flatten().collect();
    if found.len() > 1 {
        // It has changed for what the others say.
        let text = text_of(&rendering.builder);
        found.retain(|difference| difference.what != text);
    }
    Ok(found)
}

/// How a change is called of which nothing else tells, such as a comment.
fn text_of(builder: &str) -> String {
    format!("text of ConfigMap {}", pod_name(builder))
}

async fn difference(
    cluster: &Cluster,
    rendering: &Rendering,
    object: &Object<'_>,
) -> Result<Vec<Difference>> {
    if object.is("PersistentVolumeClaim") {
        return Ok(match plan(cluster, object).await? {
            Plan::Make => vec![made(object)],
            Plan::Keep => Vec::new(),
            Plan::Grow(growth) => vec![Difference {
                what: object.shown(),
                from: growth.from.clone(),
                to: growth.to.clone(),
                when: "now",
            }],
        });
    }
    let (live, applied) = tokio::join!(object.live(cluster), object.apply(cluster, true));
    let Some(live) = live? else { return Ok(vec![made(object)]) };
    let applied = applied?;
    if object.is("ConfigMap") && object.name == pod_name(&rendering.builder) {
        return Ok(config(rendering, &live));
    }
    let mut found = diff::values(&object.shown(), &comparable(&live), &comparable(&applied));
    for difference in &mut found {
        difference.when = if difference.what.contains(".spec.template.spec") {
            "now: the pod is made again"
        } else {
            "now"
        };
    }
    Ok(found)
}

fn made(object: &Object<'_>) -> Difference {
    Difference { what: object.shown(), from: "not there".to_owned(), to: "made".to_owned(), when: "now" }
}

/// Key by key what agents read, as on the other engine: what the client alone reads shows in the objects that it makes.
/// Certificates as a whole.
fn config(rendering: &Rendering, live: &Value) -> Vec<Difference> {
    let data: BTreeMap<String, String> =
        live.get("data").and_then(|data| serde_json::from_value(data.clone()).ok()).unwrap_or_default();
    let text = rendering.files.get(CONFIG_KEY).map_or("", String::as_str);
    let mut found = match Config::parse(text, CONFIG_KEY) {
        Ok(new) => diff::config(&Rendering { files: data.clone(), ..rendering.clone() }, &new),
        Err(_) => Vec::new(),
    };
    let of_an_agent = |option: &Opt| option.readers.iter().any(|reader| *reader != Reader::Client);
    found.retain(|difference| option(&difference.what).is_none_or(of_an_agent));
    let others = |files: &BTreeMap<String, String>| {
        files
            .iter()
            .filter(|(key, _)| *key != CONFIG_KEY)
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect::<Vec<_>>()
    };
    let as_a_whole = |what: String| Difference {
        what,
        from: format!("{} bytes", data.values().map(String::len).sum::<usize>()),
        to: format!("{} bytes", rendering.files.values().map(String::len).sum::<usize>()),
        when: "at once",
    };
    if found.is_empty() && data.get(CONFIG_KEY).map_or("", String::as_str) != text {
        found.push(as_a_whole(text_of(&rendering.builder)));
    }
    if others(&data) != others(&rendering.files) {
        found.push(as_a_whole(format!("certificates of ConfigMap {}", pod_name(&rendering.builder))));
    }
    found
}

/// Without what the server writes itself, and what tells nobody anything.
fn comparable(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(top) = object.as_object_mut() {
        top.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for key in ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "namespace"]
        {
            metadata.remove(key);
        }
    }
    // Who made it, and what it was made from, say nothing that the fields do not; the StatefulSet's are enough.
    let stands_for_all = object.get("kind").and_then(Value::as_str) == Some("StatefulSet");
    for (pointer, noise) in
        [("/metadata/annotations", !stands_for_all), ("/spec/template/metadata/annotations", true)]
    {
        let Some(annotations) = object.pointer_mut(pointer).and_then(Value::as_object_mut) else { continue };
        annotations.remove(label::DIGEST);
        if noise {
            annotations.remove(label::OWNER);
            annotations.remove(label::VERSION);
        }
        if annotations.is_empty()
            && let Some(parent) =
                object.pointer_mut(pointer.trim_end_matches("/annotations")).and_then(Value::as_object_mut)
        {
            parent.remove("annotations");
        }
    }
    object
}

/// The files, and a nudge to the kubelet.
pub(super) async fn write_config(cluster: &Cluster, rendering: &Rendering) -> Result<()> {
    let name = pod_name(&rendering.builder);
    for object in objects(cluster, rendering)? {
        if object.is("ConfigMap") && object.name == name {
            object.apply(cluster, false).await?;
        }
    }
    let (pods, pod) = (cluster.api::<Pod>(), pod_of(&rendering.builder));
    let patch = serde_json::json!({ "metadata": { "annotations": { CONFIG_AT: super::now() } } });
    let doing = format!("cannot tell pod {pod} of its new configuration");
    let (params, patch) = (merging(), Patch::Merge(&patch));
    cluster.call_opt(&doing, || pods.patch(&pod, &params, &patch)).await.map(drop)
}
