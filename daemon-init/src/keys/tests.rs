//! Of the files. That a daemon uses them is seen in scenarios.

use std::os::unix::fs::MetadataExt;

use super::change::store;
use super::*;

const ONE: &str = "one-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
const TWO: &str = "two-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";

/// A volume on which a key was made.
fn scratch() -> (tempfile::TempDir, Paths) {
    let dir = tempfile::tempdir().unwrap();
    let paths = Paths::scratch(dir.path());
    fs::create_dir_all(paths.mark_dir()).unwrap();
    fs::create_dir_all(paths.run_dir(Container::Daemon)).unwrap();
    let secret = format!("own:{}", contract::base64::encode(&[7; 64]));
    fs::write(paths.mark_dir().join(SIGNING_KEY), secret).unwrap();
    (dir, paths)
}

fn list(keys: &[&str]) -> Vec<String> {
    keys.iter().map(ToString::to_string).collect()
}

#[test]
fn keys_come_and_go_and_the_daemon_is_told() {
    let (_dir, paths) = scratch();
    let mut ring = Keyring::open(&paths).unwrap();
    let config = Config::parse(&format!("daemon.trusted-public-keys = [\"{TWO}\"]"), "test").unwrap();
    ring.write(&paths, Some(&config)).unwrap();
    assert!(!ring.changed(&paths).unwrap());
    store(&paths, Change::Add, &list(&[ONE])).unwrap();
    store(&paths, Change::Add, &list(&[ONE])).unwrap();
    assert!(ring.changed(&paths).unwrap());
    ring.write(&paths, None).unwrap();
    assert!(!ring.changed(&paths).unwrap());
    let run = paths.run_dir(Container::Daemon);
    let own = ring.own.clone();
    let conf = fs::read_to_string(run.join(CONF)).unwrap();
    assert_eq!(conf, format!("extra-trusted-public-keys = {own} {ONE}\n"));
    ring.publish(&paths, &Life("x:1".into())).unwrap();
    let told: BuilderKeys = files::read_json(&run.join(file::KEYS)).unwrap().unwrap();
    assert_eq!(told.all().collect::<Vec<_>>(), [&*own, TWO, ONE]);
    assert_eq!(fs::metadata(paths.mark_dir().join(TRUSTED)).unwrap().mode() & 0o777, 0o600);
    let refused = store(&paths, Change::Remove, &list(&[ONE, TWO])).unwrap_err();
    assert!(refused.to_string().contains("two-1"), "{refused}");
    store(&paths, Change::Remove, &list(&[ONE])).unwrap();
    assert!(ring.changed(&paths).unwrap());
    ring.write(&paths, None).unwrap();
    assert_eq!(fs::read_to_string(run.join(CONF)).unwrap(), format!("extra-trusted-public-keys = {own}\n"));
}

#[test]
fn one_key_of_each_name() {
    let (_dir, paths) = scratch();
    store(&paths, Change::Add, &list(&[ONE])).unwrap();
    let other = ONE.replace("6NCH", "7NCH");
    let own = ONE.replace("one-1", "own");
    for taken in [other, own] {
        let refused = store(&paths, Change::Add, &list(&[TWO, &taken])).unwrap_err();
        assert!(matches!(refused, Error::NameTaken(_)), "{refused}");
    }
    assert_eq!(added(&paths).unwrap(), [ONE], "nothing is added where one is refused");
}

#[test]
fn a_list_that_was_damaged_is_named() {
    let (_dir, paths) = scratch();
    fs::write(paths.mark_dir().join(TRUSTED), "nonsense\n").unwrap();
    let error = Keyring::open(&paths).unwrap().changed(&paths).unwrap_err();
    assert!(matches!(&error, Error::Damaged { path, .. } if path.ends_with(TRUSTED)), "{error}");
}
