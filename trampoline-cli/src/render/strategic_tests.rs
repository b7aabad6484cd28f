use serde_json::json;

use super::*;

fn merged(original: Value, patch: Value) -> Value {
    let mut result = original;
    merge(&mut result, &patch).unwrap_or_else(|problem| panic!("{problem:?}"));
    result
}

/// The examples of the documentation of `kubectl patch` ("Update API Objects in Place Using kubectl patch").
#[test]
fn containers_merge_by_name_and_tolerations_are_replaced() {
    let original = json!({ "spec": {
        "containers": [{ "name": "patch-demo-ctr", "image": "nginx" }],
        "tolerations": [{ "effect": "NoSchedule", "key": "dedicated", "value": "test-team" }],
    } });
    let result = merged(
        original.clone(),
        json!({ "spec": { "containers": [{ "name": "patch-demo-ctr-2", "image": "redis" }] } }),
    );
    assert_eq!(
        result["spec"]["containers"],
        json!([{ "name": "patch-demo-ctr", "image": "nginx" }, { "name": "patch-demo-ctr-2", "image": "redis" }])
    );
    assert_eq!(result["spec"]["tolerations"], original["spec"]["tolerations"]);
    let tolerations = json!([{ "effect": "NoSchedule", "key": "disktype", "value": "ssd" }]);
    let result = merged(original, json!({ "spec": { "tolerations": tolerations } }));
    assert_eq!(result["spec"]["tolerations"], tolerations);
}

/// Those of the API conventions ("Strategic Merge Patch").
#[test]
fn directives_delete_and_replace() {
    let two = json!({ "containers": [
        { "name": "nginx", "image": "nginx-1.0" }, { "name": "log-tailer", "image": "log-tailer-1.0" },
    ] });
    let one = json!({ "containers": [{ "name": "nginx", "image": "nginx-1.0" }] });
    let delete = json!({ "containers": [{ "name": "log-tailer", "$patch": "delete" }] });
    assert_eq!(merged(two.clone(), delete.clone()), one);
    assert_eq!(merged(one.clone(), delete), one, "deleting what is not there is fine");
    let replace =
        json!({ "containers": [{ "name": "nginx", "image": "nginx-1.0" }, { "$patch": "replace" }] });
    assert_eq!(merged(two, replace), one);
    let map = json!({ "securityContext": { "runAsUser": 1, "privileged": true }, "name": "a" });
    assert_eq!(
        merged(map.clone(), json!({ "securityContext": { "$patch": "replace", "runAsGroup": 2 } })),
        json!({ "securityContext": { "runAsGroup": 2 }, "name": "a" })
    );
    assert_eq!(merged(map, json!({ "securityContext": { "$patch": "delete" } })), json!({ "name": "a" }));
}

#[test]
fn a_volume_changes_its_kind_with_retain_keys() {
    let original = json!({ "spec": { "volumes": [
        { "name": "store", "persistentVolumeClaim": { "claimName": "c" } }, { "name": "run", "emptyDir": {} },
    ] } });
    let patch = json!({ "spec": { "volumes": [
        { "name": "run", "$retainKeys": ["name", "hostPath"], "hostPath": { "path": "/r" } },
    ] } });
    assert_eq!(
        merged(original, patch)["spec"]["volumes"],
        json!([{ "name": "store", "persistentVolumeClaim": { "claimName": "c" } },
               { "name": "run", "hostPath": { "path": "/r" } }])
    );
}

#[test]
fn every_list_merges_by_its_key_and_deep_ones_too() {
    for (list, by) in MERGE_KEYS {
        let item = |id: &str, value: u32| json!({ by: id, "other": value });
        let result = merged(
            json!({ list: [item("a", 1), item("b", 2)] }),
            json!({ list: [item("b", 3), item("c", 4)] }),
        );
        assert_eq!(result, json!({ list: [item("a", 1), item("b", 3), item("c", 4)] }), "{list}");
    }
    let result = merged(
        json!({ "containers": [{ "name": "user", "env": [{ "name": "A", "value": "1" }, { "name": "B", "value": "2" }] }] }),
        json!({ "containers": [{ "name": "user", "env": [{ "name": "B", "$patch": "delete" }, { "name": "A", "value": "3" }] }] }),
    );
    assert_eq!(result, json!({ "containers": [{ "name": "user", "env": [{ "name": "A", "value": "3" }] }] }));
    let lists = json!({ "args": ["a"], "finalizers": ["x"] });
    assert_eq!(
        merged(lists, json!({ "args": ["b"], "finalizers": ["y", "x"] })),
        json!({ "args": ["b"], "finalizers": ["x", "y"] })
    );
}

#[test]
fn null_removes_and_new_maps_carry_no_directives() {
    assert_eq!(merged(json!({ "a": 1, "b": 2 }), json!({ "a": null })), json!({ "b": 2 }));
    assert_eq!(
        merged(json!({}), json!({ "a": { "$patch": "replace", "b": 1 } })),
        json!({ "a": { "b": 1 } })
    );
    assert_eq!(merged(json!({}), json!({ "a": { "$patch": "delete" } })), json!({}));
}

#[test]
fn what_cannot_be_merged_is_named() {
    for (patch, path, part) in [
        (json!({ "spec": { "containers": [{ "image": "x" }] } }), "spec.containers.0", "no `name`"),
        (json!({ "spec": { "containers": ["x"] } }), "spec.containers.0", "not a table"),
        (json!({ "spec": { "$patch": "remove" } }), "spec.$patch", "\"delete\""),
        (
            json!({ "spec": { "$setElementOrder/containers": [] } }),
            "spec.$setElementOrder/containers",
            "$retainKeys",
        ),
        (json!({ "spec": { "$retainKeys": "x" } }), "spec.$retainKeys", "list of strings"),
    ] {
        let problem = merge(&mut json!({ "spec": {} }), &patch).unwrap_err();
        assert_eq!(problem.path.join("."), path);
        assert!(problem.problem.contains(part), "{problem:?}");
    }
}
