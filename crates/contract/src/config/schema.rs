//! The JSON schema, for editors.

use serde_json::{Map, Value as Json, json};

use super::Config;
use super::nix_settings;
use super::option::{Kind, Opt};
use super::table::TABLES;
use super::units;
use super::value::Value;

/// A JSON schema (draft 7, which editors of TOML know) for trampoline.toml. It accepts whatever
/// [`Config::parse`] accepts; the latter knows better what is contradictory or out of range.
#[must_use]
pub fn json_schema() -> String {
    let defaults = Config::default();
    let mut root = object("All options of a nix-trampoline builder.");
    root.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
    root.insert("title".to_owned(), json!("trampoline.toml"));
    for table in TABLES {
        let node = descend(&mut root, table.name);
        *node = object(table.doc);
        for option in table.options() {
            properties(node).insert(option.key.to_owned(), property(option, &defaults));
        }
    }
    format!("{:#}\n", Json::Object(root))
}

fn object(doc: &str) -> Map<String, Json> {
    let mut map = Map::new();
    map.insert("type".to_owned(), json!("object"));
    map.insert("description".to_owned(), json!(doc));
    map.insert("additionalProperties".to_owned(), json!(false));
    map.insert("properties".to_owned(), json!({}));
    map
}

fn properties(node: &mut Map<String, Json>) -> &mut Map<String, Json> {
    member(node, "properties")
}

/// The object of this name, made if need be.
fn member<'a>(node: &'a mut Map<String, Json>, name: &str) -> &'a mut Map<String, Json> {
    let entry = node.entry(name).or_insert_with(|| json!({}));
    if !entry.is_object() {
        *entry = json!({});
    }
    match entry {
        Json::Object(map) => map,
        _ => unreachable!("it has just been made an object"),
    }
}

fn descend<'a>(root: &'a mut Map<String, Json>, path: &str) -> &'a mut Map<String, Json> {
    path.split('.').fold(root, |node, part| member(properties(node), part))
}

fn property(option: &Opt, defaults: &Config) -> Json {
    let mut schema = shape(&option.kind);
    if let Json::Object(map) = &mut schema {
        map.insert("description".to_owned(), json!(option.doc));
        let default = match option.value(defaults) {
            Value::Unset if option.kind.has_never() => Some(json!(units::NEVER)),
            value => json_value(&value),
        };
        if let Some(default) = default {
            map.insert("default".to_owned(), default);
        }
    }
    schema
}

fn shape(kind: &Kind) -> Json {
    match kind {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Int(from, to) => json!({ "type": "integer", "minimum": from, "maximum": to }),
        Kind::Cpus => json!({ "anyOf": [
            { "type": "number", "minimum": 0.01 },
            { "type": "string", "pattern": "^[0-9]+m$" },
        ] }),
        Kind::Size(_) => json!({ "type": "string", "pattern": units::SIZE_PATTERN }),
        Kind::Duration(..) => json!({ "type": "string", "pattern": units::DURATION_PATTERN }),
        Kind::DurationOrNever(..) => json!({ "anyOf": [
            { "const": units::NEVER },
            { "type": "string", "pattern": units::DURATION_PATTERN },
        ] }),
        Kind::Word(words) => json!({ "enum": words }),
        Kind::Text(text) => json!({ "type": "string", "pattern": text.pattern() }),
        Kind::List(text) => {
            json!({ "type": "array", "items": { "type": "string", "pattern": text.pattern() } })
        }
        Kind::Keyed(keyed) => json!({
            "type": "object",
            "propertyNames": { "pattern": keyed.key_pattern() },
            "additionalProperties": { "type": "string" },
        }),
        Kind::ApiTable(_) => json!({ "type": "object" }),
        Kind::ApiTables(_) => json!({ "type": "array", "items": { "type": "object" } }),
        Kind::NixSettings => json!({
            "type": "object",
            "propertyNames": { "pattern": "^[a-z][a-z0-9-]*$", "not": { "enum": nix_settings::refused() } },
            "additionalProperties": { "anyOf": [
                { "type": ["string", "integer", "boolean"] },
                { "type": "array", "items": { "type": "string" } },
            ] },
        }),
    }
}

/// As TOML's data model has it in JSON.
fn json_value(value: &Value) -> Option<Json> {
    Some(match value {
        Value::Unset => return None,
        Value::Bool(value) => json!(value),
        Value::Int(value) => json!(value),
        Value::Cpus(value) => json!(value),
        Value::Size(value) => json!(value.to_string()),
        Value::Duration(value) => json!(units::format_duration(*value)),
        Value::Text(value) => json!(value),
        Value::List(values) => json!(values),
        Value::Map(values) => json!(values),
        Value::Json(value) => value.clone(),
    })
}
