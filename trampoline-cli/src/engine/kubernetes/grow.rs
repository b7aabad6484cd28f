//! Claims that are there: they may grow where their class allows it, and nothing else of them can change.

use contract::exit::Exit;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::Patch;
use kube::{Api, ResourceExt};

use super::client::Cluster;
use super::merging;
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
    let size = |claim: &k8s_openapi::api::core::v1::PersistentVolumeClaimSpec| {
        claim.resources.as_ref()?.requests.as_ref()?.get("storage").map(|quantity| quantity.0.clone())
    };
    let (Some(from), Some(to)) = (size(is), size(asked)) else { return Ok(None) };
    let (Some(bytes), Some(wants)) = (quantity(&from), quantity(&to)) else { return Ok(None) };
    if wants < bytes {
        let key = if name.ends_with("-home") { "home-size" } else { "store-size" };
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
    let key = if growth.claim.ends_with("-home") { "home-size" } else { "store-size" };
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
    cluster.call(&doing, || api.patch(&growth.claim, &params, &patch)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

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
