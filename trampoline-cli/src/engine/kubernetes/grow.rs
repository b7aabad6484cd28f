//! Claims that are there: they may grow where their class allows it, and nothing else of them can change.

use contract::exit::Exit;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimCondition, PersistentVolumeClaimSpec,
};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::Patch;
use kube::{Api, ResourceExt};

use super::client::{Cluster, Failed};
use super::{failure, merging};
use crate::engine::Volume;
use crate::error::{CliError, Result};

/// A claim that is to grow.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Growth {
    pub(super) claim: String,
    pub(super) class: Option<String>,
    pub(super) from: String,
    pub(super) to: String,
}

/// Compares a claim with what is asked for; refuses what no claim can do.
pub(super) fn check(live: &PersistentVolumeClaim, wanted: &PersistentVolumeClaim) -> Result<Option<Growth>> {
    let name = live.name_any();
    let (Some(is), Some(asked)) = (&live.spec, &wanted.spec) else { return Ok(None) };
    let refused = |what: &str, has: &str, asks: &str, key: &str| {
        CliError::new(Exit::Config, format!("claim {name} has {what} {has}; {asks} is asked for, and no claim changes it")).hint(
            format!(
                "set `{key}` back to what the claim has; or fetch what you need, `trampoline-cli clean --delete-store`, and make the \
                 builder again with {asks}"
            ),
        )
    };
    if let Some(class) = &asked.storage_class_name
        && is.storage_class_name.as_ref() != Some(class)
    {
        let has = is.storage_class_name.as_deref().unwrap_or("none");
        return Err(refused("storage class", has, class, "storage-class"));
    }
    if let (Some(modes), Some(has)) = (&asked.access_modes, &is.access_modes)
        && modes != has
    {
        return Err(refused("access mode", &has.join(", "), &modes.join(", "), "access-mode"));
    }
    let (Some(from), Some(to)) = (size(is), size(asked)) else { return Ok(None) };
    let (Some(bytes), Some(wants)) = (quantity(&from), quantity(&to)) else { return Ok(None) };
    if wants < bytes {
        let key = option_of(&name);
        return Err(CliError::new(
            Exit::Config,
            format!("claim {name} has {from}; {to} is asked for, and no claim shrinks"),
        )
        .hint(format!(
            "set `{key} = \"{from}\"`; or fetch what you need, `trampoline-cli clean --delete-store`, and make the builder again"
        )));
    }
    Ok((wants > bytes).then(|| Growth { claim: name, class: is.storage_class_name.clone(), from, to }))
}

/// The option under [builder] that says how large a claim is.
fn option_of(claim: &str) -> &'static str {
    let of = |volume: Volume| claim.ends_with(&format!("-{}", volume.name()));
    if of(Volume::Home) {
        "home-size"
    } else if of(Volume::Build) {
        "build-size"
    } else {
        "store-size"
    }
}

/// What it asks for.
fn size(claim: &PersistentVolumeClaimSpec) -> Option<String> {
    claim.resources.as_ref()?.requests.as_ref()?.get("storage").map(|quantity| quantity.0.clone())
}

/// Bytes of `10Gi`, `5G`, `1e9`.
fn quantity(text: &str) -> Option<u128> {
    const UNITS: [(&str, u128); 13] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("Pi", 1 << 50),
        ("Ei", 1 << 60),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("P", 1_000_000_000_000_000),
        ("E", 1_000_000_000_000_000_000),
        ("", 1),
    ];
    let (unit, factor) = UNITS.into_iter().find(|(unit, _)| text.ends_with(unit))?;
    let number = text.strip_suffix(unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u128 = whole.parse().ok()?;
    if fraction.is_empty() {
        return whole.checked_mul(factor);
    }
    let part: u128 = fraction.parse().ok()?;
    let scale = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    Some(whole.checked_mul(factor)? + part.checked_mul(factor)? / scale)
}

/// Asks the class, where it may be read; the API server has the last word anyway.
pub(super) async fn allowed(cluster: &Cluster, growth: &Growth) -> Result<()> {
    let Some(name) = &growth.class else { return Err(no_growth(growth, "it has no storage class")) };
    let classes: Api<StorageClass> = Api::all(cluster.client.clone());
    match cluster.attempt(|| classes.get(name)).await {
        Ok(class) if class.allow_volume_expansion != Some(true) => Err(no_growth(
            growth,
            &format!("its storage class {name} does not allow it (`allowVolumeExpansion`)"),
        )),
        _ => Ok(()),
    }
}

fn no_growth(growth: &Growth, why: &str) -> CliError {
    let key = option_of(&growth.claim);
    CliError::new(
        Exit::Config,
        format!("claim {} cannot grow from {} to {}: {why}", growth.claim, growth.from, growth.to),
    )
    .hint(format!(
        "set `{key} = \"{}\"`, and nothing changes; or ask an administrator for a class that lets claims grow: a builder made anew can use it",
        growth.from
    ))
}

/// Asks for more; the volume grows while it is in use, or when the pod next starts.
pub(super) async fn grow(cluster: &Cluster, growth: &Growth) -> Result<()> {
    let api = cluster.api::<PersistentVolumeClaim>();
    let patch = serde_json::json!({ "spec": { "resources": { "requests": { "storage": growth.to } } } });
    let doing = format!("cannot grow claim {} from {} to {}", growth.claim, growth.from, growth.to);
    let (params, patch) = (merging(), Patch::Merge(&patch));
    match cluster.attempt(|| api.patch(&growth.claim, &params, &patch)).await {
        Ok(_) => Ok(()),
        // Of whoever may not read classes, the API server looks for itself.
        Err(Failed::Error(kube::Error::Api(status))) if status.code == 403 && forbids(&status.message) => {
            Err(no_growth(growth, "its storage class does not allow it (`allowVolumeExpansion`)"))
        }
        Err(failed) => Err(failure::explain(cluster, &doing, failed)),
    }
}

/// As the API server says that a class lets no claim grow.
fn forbids(message: &str) -> bool {
    message.contains("must support resize")
}

/// A claim that has been asked to grow and has not yet, and what its storage says of that.
pub(super) fn pending(claim: &PersistentVolumeClaim) -> Option<String> {
    let status = claim.status.as_ref()?;
    let has = &status.capacity.as_ref()?.get("storage")?.0;
    let asked = size(claim.spec.as_ref()?)?;
    if quantity(&asked)? <= quantity(has)? {
        return None;
    }
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let said = |types: &[&str]| {
        let of = |condition: &&PersistentVolumeClaimCondition| types.contains(&condition.type_.as_str());
        conditions.iter().find(of).map(|condition| condition.message.clone().unwrap_or_default())
    };
    let what = format!("claim {} from {has} to {asked}", claim.name_any());
    Some(if let Some(why) = said(&["ControllerResizeError", "NodeResizeError"]) {
        format!("the cluster's storage cannot grow {what}: {why}")
    } else if said(&["FileSystemResizePending"]).is_some() {
        format!(
            "the cluster grows {what}: the volume has grown, its file system does with the pod's next start at the latest"
        )
    } else {
        format!("the cluster grows {what}")
    })
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::*;

    #[test]
    fn each_claim_has_an_option_of_its_own() {
        let options = Volume::CLAIMS.map(|volume| option_of(&volume.of("home-of-a")));
        assert_eq!(options, ["store-size", "home-size", "build-size"]);
    }

    fn claim(class: Option<&str>, mode: &str, size: &str) -> PersistentVolumeClaim {
        serde_json::from_value(serde_json::json!({
            "metadata": { "name": "trampoline-a-store" },
            "spec": {
                "storageClassName": class, "accessModes": [mode],
                "resources": { "requests": { "storage": size } },
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_claim_may_grow_and_nothing_else() {
        let live = claim(Some("standard"), "ReadWriteOnce", "10Gi");
        let same = claim(None, "ReadWriteOnce", "10240Mi");
        assert_eq!(check(&live, &same).unwrap(), None);
        let more = check(&live, &claim(None, "ReadWriteOnce", "12Gi")).unwrap().unwrap();
        assert_eq!(
            (more.from.as_str(), more.to.as_str(), more.class.as_deref()),
            ("10Gi", "12Gi", Some("standard"))
        );
        for (wanted, says) in [
            (claim(Some("fast"), "ReadWriteOnce", "10Gi"), "storage class standard; fast is asked for"),
            (claim(None, "ReadWriteOncePod", "10Gi"), "access mode ReadWriteOnce; ReadWriteOncePod"),
            (claim(None, "ReadWriteOnce", "5Gi"), "no claim shrinks"),
        ] {
            let error = check(&live, &wanted).unwrap_err();
            assert!(error.message.contains(says), "{error}");
            assert!(error.message.contains("claim trampoline-a-store has"), "{error}");
            assert!(error.hint.is_some());
        }
    }

    /// In the words of a 1.37 API server, of a user who may not read classes.
    #[tokio::test]
    async fn what_a_class_forbids_the_api_server_says_too() {
        let forbidden = serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Forbidden", "code": 403,
            "message": "persistentvolumeclaims \"trampoline-a-store\" is forbidden: only dynamically provisioned pvc can be \
                        resized and the storageclass that provisions the pvc must support resize",
        });
        let (cluster, asked) = fake::cluster(move |_| Some((403, forbidden.to_string()))).await;
        let live = claim(Some("standard"), "ReadWriteOnce", "10Gi");
        let growth = check(&live, &claim(None, "ReadWriteOnce", "12Gi")).unwrap().unwrap();
        allowed(&cluster, &growth).await.expect("whoever may not read the class tries");
        let error = grow(&cluster, &growth).await.unwrap_err();
        assert_eq!(error.exit, Exit::Config);
        assert!(error.message.contains("claim trampoline-a-store cannot grow from 10Gi to 12Gi"), "{error}");
        assert!(error.hint.is_some_and(|hint| hint.contains("store-size = \"10Gi\"")));
        assert_eq!(asked.lock().unwrap().len(), 2, "a no is not asked for again");
    }

    #[test]
    fn growth_that_is_under_way_is_told() {
        let with = |conditions: serde_json::Value, has: &str| {
            let mut claim = serde_json::to_value(claim(None, "ReadWriteOnce", "12Gi")).unwrap();
            claim["status"] = serde_json::json!({ "capacity": { "storage": has }, "conditions": conditions });
            pending(&serde_json::from_value(claim).unwrap())
        };
        let of = |kind: &str| serde_json::json!([{ "type": kind, "status": "True", "message": "quota of the array" }]);
        assert_eq!(with(serde_json::json!([]), "12Gi"), None);
        let grows = "the cluster grows claim trampoline-a-store from 10Gi to 12Gi";
        assert_eq!(with(serde_json::json!([]), "10Gi").as_deref(), Some(grows));
        assert!(with(of("FileSystemResizePending"), "10Gi").unwrap().contains("next start"));
        assert!(with(of("ControllerResizeError"), "10Gi").unwrap().ends_with("12Gi: quota of the array"));
    }

    #[test]
    fn quantities() {
        for (text, bytes) in
            [("1Ki", 1024), ("1.5Gi", 1_610_612_736), ("5G", 5_000_000_000), ("7", 7), ("0.5Mi", 524_288)]
        {
            assert_eq!(quantity(text), Some(bytes), "{text}");
        }
        assert_eq!(quantity("much"), None);
    }
}
