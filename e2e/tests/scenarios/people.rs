//! Two people, or two shells, at once.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use contract::exit::Exit;
use e2e::builder::Builder;
use e2e::call::Call;
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
    Podman: [
        port_that_another_program_takes_meanwhile_is_given_up,
    ],
}

fn somebody_else_is_asked_and_then_only_their_key_is_added() {
    let builder = shared::builder();
    let other = builder.seen_by(Person::with_key("id_ed25519"));
    let life = builder.status()["pod"]["life"].clone();
    other.cli(["setup"]).run().refused(Exit::Usage, builder.person().name());
    let added = other.cli(["setup", "--yes"]).run().ok();
    assert!(added.stderr.contains("belongs to"), "{added}");
    assert_eq!(builder.status()["pod"]["life"], life, "the pod was left alone");
    assert_eq!(builder.status()["owner"], other.cli(["status", "--json"]).run().ok().json()["owner"]);

    let block = other.cli(["ssh-config", "--stdout"]).run().ok();
    let file = other.person.home().join("block");
    std::fs::write(&file, block.stdout).expect("a folder of ours");
    let ssh = other.person.call("ssh").arg("-F").arg(file);
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

/// A podman that says which port it is told to publish, and waits for an answer, the first time that it makes a pod.
const TELLS: &str = r#"#!/bin/sh
case " $* " in *' kube play '*) ;; *) exec PODMAN "$@";; esac
[ ! -e DIR/played ] || exec PODMAN "$@"
cat >DIR/played
sed -n 's/.*"\{0,1\}hostPort"\{0,1\}: *\([0-9]*\).*/\1/p' DIR/played >DIR/port
read -r answer <DIR/taken
exec PODMAN "$@" <DIR/played
"#;

fn port_that_another_program_takes_meanwhile_is_given_up() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let place = dir.path().to_str().expect("a plain name");
    let podman = Call::new("sh").args(["-c", "command -v podman"]).run().ok();
    let program = dir.path().join("podman");
    fs::write(&program, TELLS.replace("DIR", place).replace("PODMAN", podman.text()))
        .expect("a folder of ours");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a file of ours");
    let [port, taken] = ["port", "taken"].map(|name| dir.path().join(name));
    Call::new("mkfifo").arg(&port).arg(&taken).run().ok();

    let builder = Builder::new(Person::new(), &[]);
    let path = format!("{place}:{}", std::env::var("PATH").expect("a path"));
    let setup = builder.cli(["setup", "--yes"]).env("PATH", path).start();
    let port: u16 = fs::read_to_string(&port).expect("it is told").trim().parse().expect("a port");
    let _listener = TcpListener::bind(("127.0.0.1", port)).expect("it was free");
    fs::write(&taken, "\n").expect("it is waited for");
    let setup = setup.output().ok();
    assert!(setup.stderr.contains(&format!("taken port {port}: trying another")), "{setup}");
    assert_ne!(builder.status()["ssh_port"], port, "it has another");
    builder.cli(["ssh", "--", "true"]).run().ok();
}
