//! The schema knows every option, and refuses nothing that the parser accepts.

use contract::config::{self, Config, Keyed, Kind, Text};
use regex_lite::Regex;
use serde_json::Value;

fn schema() -> Value {
    serde_json::from_str(&config::json_schema()).expect("the schema is JSON")
}

/// The schema of a path such as `builder.name`.
fn at<'a>(schema: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(schema, |node, part| &node["properties"][part])
}

#[test]
fn every_option_has_its_description_and_default() {
    let schema = schema();
    for option in config::options() {
        let node = at(&schema, &option.path());
        assert_eq!(node["description"], option.doc, "{option:?}");
        let default = option.shown(&Config::default());
        assert_eq!(node.get("default").is_some(), default.is_some(), "{option:?}");
    }
    for table in config::TABLES {
        let node = at(&schema, table.name);
        assert_eq!(node["additionalProperties"], false, "{}", table.name);
        let inner = config::TABLES.iter().filter(|other| other.name.starts_with(&format!("{}.", table.name)));
        let known = node["properties"].as_object().unwrap().len();
        assert_eq!(known, table.options().count() + inner.count(), "{}", table.name);
    }
}

/// Every pattern below this node.
fn patterns(node: &Value, out: &mut Vec<Regex>) {
    match node {
        Value::Object(map) => {
            if let Some(Value::String(pattern)) = map.get("pattern") {
                out.push(Regex::new(pattern).expect("a regular expression"));
            }
            map.values().for_each(|value| patterns(value, out));
        }
        Value::Array(items) => items.iter().for_each(|value| patterns(value, out)),
        _ => {}
    }
}

#[test]
fn patterns_match_what_is_accepted_and_not_all_that_is_refused() {
    let schema = schema();
    for option in config::options() {
        let (good, bad): (&[&str], &str) = match option.kind {
            Kind::Size(_) => (&["10Gi", "1.5Ti", "999999999B"], "10"),
            Kind::Duration(..) | Kind::DurationOrNever(..) => (&["1d", "23h59m60s"], "30"),
            Kind::Cpus => (&["1500m"], "1"),
            Kind::Text(text) | Kind::List(text) => match text {
                Text::Name => (&["a", "team-a2", "a234567890123456789012345678901234567890"], "A"),
                Text::Image => (&["localhost/a:1", "e.org:5000/a/b_c@sha256:0f"], "a b"),
                Text::System => (&["x86_64-linux", "armv7l-linux"], "x86_64-darwin"),
                Text::Project => (&["a", "Web.Site_2", "0-1"], ".git"),
                Text::Substituter => (&["https://c.example?priority=1", "ssh-ng://a@b", "/a"], "c.example"),
                Text::TrustedKey => (&["c-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="], "c-1"),
                Text::Proxy => (&["http://u@h:1", "socks5h://h"], "h:1"),
                Text::NoProxy => (&["localhost", ".example", "::1", "10.0.0.0/8"], "a,b"),
                Text::Seccomp => {
                    (&["unset", "localhost/a.json", "localhost/profiles/a-1.json"], "Unconfined")
                }
                Text::Path => (&["a", "/a b/c.pem", "../ä"], " a"),
                Text::SshKey => (
                    &[
                        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@x",
                    ],
                    "restrict ssh-ed25519 AAAA",
                ),
                Text::Namespace => (&["a", "team-1", "0"], "Team"),
                Text::Context => (&["minikube", "me@cluster:1/a"], " a"),
                Text::ObjectName => (&["a", "fast.ssd-1"], "-a"),
                Text::Listen => (&["0.0.0.0:9464", "[::]:9464"], "9464"),
                Text::Port => (&["9100", "65535", "metrics"], "Metrics"),
                Text::Egress => (
                    &["10.0.0.0/8", "::/0", "192.0.2.7", "2001:db8::1", "cache.example.org", "substituters"],
                    "cache.example/32",
                ),
                Text::Feature => (&["kvm", "gccarch-x86-64-v3", "a_b+c.1"], "big parallel"),
                Text::Resource => (&["devices.kubevirt.io/kvm", "a/B_c.d-1"], "kvm"),
                Text::Hours => {
                    (&["08:00-19:00", "Mon-Fri 08:00-19:00", "Sat,Sun 22:00-06:00; Mon 00:00-24:00"], "Mon")
                }
                Text::TimeZone => (&["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"], "Mars Base"),
                Text::NixUser => (&["nix", "@wheel", "_a-1"], "*"),
                Text::Calendar => (&["daily", "Sun 03:00", "Mon-Fri,Sun 22:30", "04:00"], "noon"),
                Text::Share => (&["15%", "2Gi", "10%"], "15"),
            },
            Kind::Keyed(Keyed::NodeLabels) => (&["kubernetes.io/arch", "gpu"], "a/b/c"),
            Kind::Keyed(Keyed::Labels | Keyed::Annotations) => (&["example.org/Team_1", "team"], "-a"),
            Kind::Keyed(Keyed::Environment) => (&["TZ", "_a1"], "1A"),
            Kind::Keyed(Keyed::Hosts) => (&["cache.example", "db"], "a_b"),
            Kind::ApiTable(_) | Kind::ApiTables(_) => continue,
            Kind::Bool | Kind::Int(..) | Kind::Word(_) | Kind::NixSettings => continue,
        };
        let mut found = Vec::new();
        patterns(at(&schema, &option.path()), &mut found);
        let [pattern] = found.as_slice() else { panic!("{option:?} has {} patterns", found.len()) };
        let value = |text: &str| match option.kind {
            Kind::List(_) => format!("{} = [\"{text}\"]", option.path()),
            Kind::Keyed(Keyed::Hosts) => format!("{} = {{ \"{text}\" = \"::1\" }}", option.path()),
            Kind::Keyed(_) => format!("{} = {{ \"{text}\" = \"1\" }}", option.path()),
            _ => format!("{} = \"{text}\"", option.path()),
        };
        for text in good {
            let mut file = value(text);
            if option.key == "no-proxy" {
                file.push_str("\ndaemon.proxy = \"http://h\"");
            }
            if option.key == "memory" || option.key == "cpus" {
                file.push_str(&format!("\n{}.memory-request = \"1Mi\"", option.table));
                file.push_str(&format!("\n{}.cpu-request = 0.01", option.table));
            }
            if option.key.ends_with("-request") {
                file.push_str(&format!("\n{}.memory = \"9Ti\"\n{}.cpus = 99", option.table, option.table));
            }
            if let Err(errors) = Config::parse(&file, "test") {
                panic!("{errors}");
            }
            assert!(pattern.is_match(text), "{option:?}: {pattern} does not match {text}");
        }
        assert!(Config::parse(&value(bad), "test").is_err(), "{option:?} accepts {bad}");
        assert!(!pattern.is_match(bad), "{option:?}: {pattern} matches {bad}");
    }
}

#[test]
fn the_docs_name_every_option() {
    let markdown = config::markdown();
    for table in config::TABLES {
        let heading = format!("### `[{}]`\n", table.name);
        let section = markdown.split(&heading).nth(1).unwrap().split("\n### ").next().unwrap();
        for option in table.options() {
            let row = section.lines().find(|line| line.starts_with(&format!("| `{}` |", option.key)));
            let row = row.unwrap_or_else(|| panic!("no row for {option:?}"));
            assert_eq!(row.replace("\\|", "").matches('|').count(), 7, "{row}");
        }
    }
}
