//! What a file gives arrives in the typed configuration.

use std::time::Duration;

use contract::config::{
    AccessMode, Config, DnsPolicy, Engine, LogFormat, LogLevel, Origin, PullPolicy, Share, Size,
};

const FULL: &str = r#"
[builder]
name = "team-a"
engine = "kubernetes"
image = "example.org/nix/trampoline@sha256:abc"
system = "aarch64-linux"
project = "Web.Site_2"
ssh-port = 0x8AE
store-size = "1.5Ti"
home-size = "500M"
build-size = "100Gi"
daemon = { memory = "32Gi", cpus = 16, memory-request = "2Gi", cpu-request = "1500m" }

[builder.user]
cpus = 2.5

[kubernetes]
namespace = "builders"
access-mode = "ReadWriteOncePod"
node-selector = { "example.org/disk" = "nvme", gpu = "" }
tolerations = [{ key = "builders", operator = "Exists", tolerationSeconds = 0x10 }]
affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution = [{ topologyKey = "rack" }]
pull-secrets = ["registry"]
dns-policy = "None"
host-aliases = { "cache.example" = "::1" }
open-ports = ["9100", "metrics"]

[[kubernetes.extra-volumes]]
name = "src"
mountPath = "/src"
readOnly = true
emptyDir = {}

[daemon]
substituters = []
extra-substituters = ["https://cache.example/main?priority=10", "/var/cache/nix"]
trusted-public-keys = ["cache.example-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="]
proxy = "http://user@proxy.example:3128"
ca-bundle = "certs/corporate ca.pem"

[daemon.nix]
keep-outputs = true
http-connections = 50
system-features = ["kvm", "big-parallel"]
netrc-file = "/run/netrc/netrc"

[user]
authorized-keys = [
  "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@laptop",
]

[shutdown]
idle-timeout = "never"
grace = "1h30m"
max-lifetime = "2d"

[maintenance]
interval = "2w"
collect-below = "2Gi"
refuse-below = "0%"
grace-window = "10m"

[log]
level = "debug"
format = "json"
"#;

#[test]
fn every_kind_of_value_arrives() {
    let config = Config::parse(FULL, "full.toml").unwrap_or_else(|errors| panic!("{errors}"));
    let builder = &config.builder;
    assert_eq!(builder.name.as_deref(), Some("team-a"));
    assert_eq!(builder.engine, Engine::Kubernetes);
    assert_eq!(builder.ssh_port, Some(2222));
    assert_eq!(builder.store_size, Size(3 << 39));
    assert_eq!(builder.home_size.bytes(), 500_000_000);
    assert_eq!(builder.build_size, Size::gib(100));
    assert_eq!(builder.daemon.memory, Size::gib(32));
    assert_eq!((builder.daemon.cpus, builder.daemon.cpu_request), (16.0, 1.5));
    assert_eq!(builder.user.cpus, 2.5);
    assert_eq!(builder.user.memory, Size::gib(8));
    let kubernetes = &config.kubernetes;
    assert_eq!(kubernetes.namespace.as_deref(), Some("builders"));
    assert_eq!(kubernetes.access_mode, AccessMode::ReadWriteOncePod);
    assert_eq!(kubernetes.image_pull_policy, PullPolicy::IfNotPresent);
    assert_eq!(kubernetes.node_selector["gpu"], "");
    assert_eq!(kubernetes.dns_policy, Some(DnsPolicy::None));
    assert_eq!(kubernetes.open_ports, ["9100", "metrics"]);
    let egress = |text: &str| Config::parse(text, "a").unwrap().kubernetes.egress;
    assert_eq!(egress("kubernetes.egress = [\"::/0\"]").unwrap(), ["::/0"]);
    assert_eq!(egress("kubernetes.egress = []"), Some(vec![]), "none is not the same as not set");
    assert_eq!(
        kubernetes.tolerations,
        Some(serde_json::json!([{ "key": "builders", "operator": "Exists", "tolerationSeconds": 16 }]))
    );
    assert_eq!(
        kubernetes.extra_volumes,
        Some(serde_json::json!([
            { "name": "src", "mountPath": "/src", "readOnly": true, "emptyDir": {} }
        ]))
    );
    assert!(config.offers_kvm(), "by [daemon.nix]");
    assert!(Config::parse("builder.system-features = [\"kvm\"]", "a").unwrap().offers_kvm());
    assert!(!Config::default().offers_kvm());
    assert_eq!(config.daemon.substituters, Some(Vec::new()));
    assert_eq!(config.daemon.extra_substituters.len(), 2);
    assert_eq!(config.daemon.nix["keep-outputs"], "true");
    assert_eq!(config.daemon.nix["http-connections"], "50");
    assert_eq!(config.daemon.nix["system-features"], "kvm big-parallel");
    assert_eq!(config.user.authorized_keys.len(), 1);
    assert_eq!(config.shutdown.idle_timeout, None);
    assert_eq!(config.shutdown.grace, Duration::from_secs(5400));
    assert_eq!(config.shutdown.max_lifetime, Duration::from_secs(2 * 86400));
    assert_eq!(config.maintenance.interval, Some(Duration::from_secs(14 * 86400)));
    assert_eq!(config.maintenance.collect_below, Share::Size(Size::gib(2)));
    assert_eq!(config.maintenance.refuse_below, Share::Percent(0));
    assert_eq!(config.maintenance.grace_window, Duration::from_secs(600));
    assert_eq!(config.log.level, LogLevel::Debug);
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn a_file_that_was_cut_off_or_scratched_is_read_or_refused() {
    for (at, c) in FULL.char_indices() {
        for text in [
            FULL[..at].to_owned(),
            format!("{}{}", &FULL[..at], &FULL[at + c.len_utf8()..]),
            format!("{}\"{}", &FULL[..at], &FULL[at..]),
            format!("{}\n{}", &FULL[..at], &FULL[at..]),
            format!("{}é{}", &FULL[..at], &FULL[at..]),
        ] {
            if let Err(errors) = Config::parse(&text, "scratched.toml") {
                assert!(!errors.errors.is_empty());
                for error in errors.errors {
                    assert!((1..=text.lines().count().max(1) + 1).contains(&error.line), "{error:?}\n{text}");
                }
            }
        }
    }
}

#[test]
fn it_is_known_where_each_value_comes_from() {
    let config = Config::parse(FULL, "full.toml").unwrap();
    for (key, line) in [
        ("builder.name", 3),
        ("builder.daemon.memory", 12),
        ("daemon.nix.keep-outputs", 42),
        ("user.authorized-keys", 48),
        ("kubernetes.node-selector.\"example.org/disk\"", 20),
        ("kubernetes.tolerations.0.operator", 21),
        ("kubernetes.extra-volumes.0", 28),
        ("kubernetes.extra-volumes.0.readOnly", 31),
    ] {
        assert!(config.is_explicit(key), "{key}");
        assert_eq!(config.origin(key), Origin::File { file: "full.toml".to_owned(), line }, "{key}");
    }
    assert!(!config.is_explicit("builder.user.memory"));
    let entries = config.entries();
    let shown = |key: &str| {
        let entry = entries.iter().find(|entry| entry.key == key).unwrap();
        format!("{} = {} ({})", key, entry.value.as_deref().unwrap_or("not set"), entry.origin)
    };
    assert_eq!(shown("builder.user.memory"), "builder.user.memory = \"8Gi\" (default)");
    assert_eq!(shown("daemon.max-jobs"), "daemon.max-jobs = not set (default)");
    assert_eq!(shown("shutdown.idle-timeout"), "shutdown.idle-timeout = \"never\" (full.toml:53)");
    assert_eq!(shown("daemon.nix.http-connections"), "daemon.nix.http-connections = \"50\" (full.toml:43)");
}

#[test]
fn a_flag_takes_the_place_of_a_value_of_the_file() {
    let mut config = Config::parse(FULL, "full.toml").unwrap();
    for (key, text) in [
        ("builder.name", "other"),
        ("builder.ssh-port", "3000"),
        ("builder.daemon.cpus", "4"),
        ("builder.user.cpus", "500m"),
        ("shutdown.idle-timeout", "5m"),
        ("daemon.nix.keep-derivations", "false"),
    ] {
        config.give(key, text, "--set").unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(config.origin(key).to_string(), "--set");
    }
    assert_eq!(config.builder.name.as_deref(), Some("other"));
    assert_eq!(config.builder.ssh_port, Some(3000));
    assert_eq!((config.builder.daemon.cpus, config.builder.user.cpus), (4.0, 0.5));
    assert_eq!(config.shutdown.idle_timeout, Some(Duration::from_secs(300)));
    assert_eq!(config.daemon.nix["keep-derivations"], "false");
    assert_eq!(config.daemon.nix["keep-outputs"], "true");

    let before = config.clone();
    let message = |result: Result<(), contract::config::ConfigErrors>| result.unwrap_err().to_string();
    let refused = message(config.give("builder.name", "No", "--name"));
    assert!(refused.starts_with("--name: builder.name: the string \"No\" is refused"), "{refused}");
    let refused = message(config.give("builder.daemon.memory-request", "64Gi", "--set"));
    assert!(refused.contains("is above `memory`"), "{refused}");
    let refused = message(config.give("builder.nam", "x", "--set"));
    assert!(refused.contains("did you mean `name`?"), "{refused}");
    assert_eq!(config, before);
}
