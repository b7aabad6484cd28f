use super::*;

/// The leaves of a value, by path; durations and optional values count as one.
fn leaves(path: &str, value: &serde_json::Value, out: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) if !map.contains_key("nanos") && option(path).is_none() => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                leaves(&path, value, out);
            }
        }
        _ => out.push(path.to_owned()),
    }
}

#[test]
fn every_field_has_an_option_of_the_same_path_and_the_other_way_round() {
    let mut fields = Vec::new();
    leaves("", &serde_json::to_value(Config::default()).unwrap(), &mut fields);
    let mut paths: Vec<String> = options().map(Opt::path).collect();
    fields.sort();
    paths.sort();
    assert_eq!(fields, paths);
}

#[test]
fn every_option_is_kept_in_a_field_of_its_own() {
    for option in options() {
        let mut config = Config::default();
        let default = option.value(&config);
        assert!((option.field.set)(&mut config, default.clone()), "{option:?} does not take its default");
        if let Kind::Word(names) = &option.kind {
            for name in *names {
                let value = Value::Text((*name).to_owned());
                assert!((option.field.set)(&mut config, value.clone()), "{option:?} does not take {name}");
                assert_eq!(option.value(&config), value);
            }
        }
        let other = match &option.kind {
            Kind::Bool => Value::Bool(default != Value::Bool(true)),
            Kind::Int(from, _) => Value::Int(from + 5),
            Kind::Cpus => Value::Cpus(7.5),
            Kind::Size(_) => Value::Size(Size(12345)),
            Kind::Duration(..) | Kind::DurationOrNever(..) => {
                Value::Duration(std::time::Duration::from_secs(7))
            }
            Kind::Word(words) => {
                let other = words.iter().find(|word| default != Value::Text((**word).to_owned()));
                Value::Text((*other.unwrap()).to_owned())
            }
            Kind::Text(Text::Share) => Value::Text("7%".to_owned()),
            Kind::Text(_) => Value::Text("other".to_owned()),
            Kind::List(_) => Value::List(vec!["other".to_owned()]),
            Kind::NixSettings | Kind::Keyed(_) => {
                Value::Map([("other".to_owned(), "value".to_owned())].into())
            }
            Kind::ApiTable(_) => Value::Json(serde_json::json!({ "other": ["value"] })),
            Kind::ApiTables(_) => Value::Json(serde_json::json!([{ "other": "value" }])),
        };
        assert!((option.field.set)(&mut config, other.clone()), "{option:?} does not take {other:?}");
        assert_eq!(option.value(&config), other, "{option:?}");
        let changes = live_changes(&Config::default(), &config);
        let paths: Vec<String> = changes.iter().map(|change| change.option.path()).collect();
        assert_eq!(paths, [option.path()]);
    }
}

#[test]
fn the_table_is_complete_and_in_order() {
    let mut order = options().map(|option| option.table).collect::<Vec<_>>();
    order.dedup();
    assert_eq!(order, TABLES.iter().map(|table| table.name).collect::<Vec<_>>());
    for option in options() {
        assert!(option.doc.ends_with('.'), "{option:?}");
        assert!(!option.readers.is_empty(), "{option:?}");
        let unset = option.shown(&Config::default()).is_none() || option.kind.is_table();
        assert_eq!(unset, !option.example.is_empty(), "{option:?}");
        assert_eq!(super::option(&option.path()).map(Opt::path), Some(option.path()));
    }
}
