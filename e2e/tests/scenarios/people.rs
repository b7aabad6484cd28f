//! Two people, or two shells, at once.

use contract::exit::Exit;
use e2e::builder::Builder;
use e2e::person::Person;
use e2e::setting::setting;

use crate::shared;

crate::scenarios! {
    Any: [
        somebody_else_is_asked_and_then_only_their_key_is_added,
    ],
    Root: [
        two_setups_at_once_make_one_builder,
        default_name_carries_the_user_s_name,
    ],
}

fn somebody_else_is_asked_and_then_only_their_key_is_added() {
    let builder = shared::builder();
    let other = builder.seen_by(Person::with_key());
    let life = builder.status()["pod"]["life"].clone();
    other.cli(["setup"]).run().refused(Exit::Usage, builder.person().name());
    let added = other.cli(["setup", "--yes"]).run().ok();
    assert!(added.stderr.contains("belongs to"), "{added}");
    assert_eq!(builder.status()["pod"]["life"], life, "the pod was left alone");
    assert_eq!(builder.status()["owner"], other.cli(["status", "--json"]).run().ok().json()["owner"]);

    let block = other.cli(["ssh-config", "--stdout"]).run().ok();
    let file = other.person.home().join("block");
    std::fs::write(&file, block.stdout).expect("a folder of ours");
    let key = other.person.home().join(".ssh/id_ed25519");
    let ssh = other.person.call("ssh").arg("-i").arg(key).arg("-F").arg(file);
    assert_eq!(ssh.args([builder.name(), "--", "echo", "in"]).run().ok().text(), "in");
    // And the first person's still opens.
    builder.cli(["ssh", "--", "true"]).run().ok();
}

fn two_setups_at_once_make_one_builder() {
    let builder = Builder::new(Person::new(), &[]);
    let setups = [builder.cli(["setup"]).start(), builder.cli(["setup"]).start()];
    for setup in setups {
        setup.output().ok();
    }
    assert_eq!(builder.state(), "running");
    builder.cli(["shell", "--", "true"]).run().ok();
    assert_eq!(setting().engine.pods(builder.name()), 1);
}

fn default_name_carries_the_user_s_name() {
    let person = Person::new();
    let engine: Vec<String> =
        setting().engine.options().iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    std::fs::write(person.work().join("trampoline.toml"), engine.concat()).expect("a folder of ours");
    let status = person.cli().args(["status", "--json"]).run().ok().json();
    assert_eq!(status["name"], person.name());
    assert_eq!(status["state"], "absent");
}
