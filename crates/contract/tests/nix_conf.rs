//! What nix-daemon is told.

use contract::config::{Capacity, Config, Size, environment, nix_conf};
use contract::places;

fn config(text: &str) -> Config {
    Config::parse(text, "test.toml").unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn jobs_and_cores_follow_the_container() {
    for (cpus, memory, jobs, cores) in [
        (8.0, Size::gib(16), 4, 4),
        (8.0, Size::gib(2), 1, 4),
        (64.0, Size::gib(256), 32, 4),
        (2.0, Size::gib(8), 2, 2),
        (1.0, Size::gib(1), 1, 1),
        (0.5, Size::gib(16), 2, 1),
        (2.5, Size::gib(16), 2, 3),
        (0.0, Size(0), 1, 1),
    ] {
        let text = nix_conf(&Config::default(), Capacity { cpus, memory });
        assert_eq!(text, format!("max-jobs = {jobs}\ncores = {cores}\n"), "{cpus} CPUs, {memory}");
    }
}

#[test]
fn no_container_is_asked_for_more_than_it_has() {
    for cpus in 1..=128u32 {
        for gib in 1..=128 {
            let capacity = Capacity { cpus: f64::from(cpus), memory: Size::gib(gib) };
            let jobs = capacity.max_jobs();
            let cores = capacity.cores(jobs);
            assert!(jobs >= 1 && cores >= 1 && cores <= cpus);
            assert!(u64::from(jobs) * 2 <= gib.max(2), "{capacity:?}: {jobs} jobs");
            assert!(u64::from(jobs * cores) <= gib * 2, "{capacity:?}: {jobs} jobs of {cores}");
            assert!(jobs * cores <= 2 * cpus + jobs, "{capacity:?}: {jobs} jobs of {cores}");
        }
    }
}

#[test]
fn explicit_numbers_win() {
    let capacity = Capacity { cpus: 8.0, memory: Size::gib(16) };
    assert_eq!(nix_conf(&config("daemon.max-jobs = 1"), capacity), "max-jobs = 1\ncores = 8\n");
    assert_eq!(nix_conf(&config("daemon.cores = 2"), capacity), "max-jobs = 4\ncores = 2\n");
}

#[test]
fn strict_durability_is_nixs_own() {
    let capacity = Capacity { cpus: 1.0, memory: Size::gib(1) };
    let with = |word: &str| nix_conf(&config(&format!("daemon.durability = {word:?}")), capacity);
    assert!(with("strict").contains("\nfsync-store-paths = true\nsync-before-registering = true\n"));
    assert!(!with("checkpoints").contains("sync"));
}

#[test]
fn caches_keys_and_settings_are_written() {
    let key = "cache.example-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
    let text = format!(
        "[daemon]\nmax-jobs = 3\ncores = 2\nsubstituters = [\"https://a.example\", \"https://b.example\"]\n\
         extra-substituters = [\"/cache\"]\ntrusted-public-keys = [\"{key}\"]\ntrusted-users = [\"nix\", \"@team\"]\n\
         nix = {{ keep-outputs = true, system-features = [\"kvm\", \"benchmark\"], narinfo-cache-negative-ttl = 0 }}\n"
    );
    let capacity = Capacity { cpus: 1.0, memory: Size::gib(1) };
    assert_eq!(
        nix_conf(&config(&text), capacity),
        format!(
            "max-jobs = 3\ncores = 2\nsubstituters = https://a.example https://b.example\n\
             extra-substituters = /cache\nextra-trusted-public-keys = {key}\nextra-trusted-users = nix @team\n\
             keep-outputs = true\nnarinfo-cache-negative-ttl = 0\nsystem-features = kvm benchmark\n"
        )
    );
    let more = nix_conf(
        &config("builder.system-features = [\"kvm\", \"big\"]\ndaemon.nix.system-features = \"a\""),
        capacity,
    );
    assert!(more.ends_with("\nsystem-features = a\nextra-system-features = kvm big\n"), "{more}");
    let none = nix_conf(&config("daemon.substituters = []"), capacity);
    assert!(none.ends_with("\nsubstituters =\n"), "{none}");
}

#[test]
fn proxy_and_certificates_are_variables() {
    assert_eq!(environment(&Config::default()), []);
    let config = config(
        "[daemon]\nproxy = \"http://p.example:1\"\nno-proxy = [\"a\", \".b\"]\nca-bundle = \"x.pem\"\n",
    );
    let variables = environment(&config);
    let of = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str());
    for (name, value) in [
        ("http_proxy", "http://p.example:1"),
        ("https_proxy", "http://p.example:1"),
        ("no_proxy", "a,.b"),
        ("NIX_SSL_CERT_FILE", places::CA_BUNDLE),
        ("SSL_CERT_FILE", places::CA_BUNDLE),
    ] {
        assert_eq!(of(name), Some(value), "{name}");
    }
}
