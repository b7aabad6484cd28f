//! A build is a job of the builder: whoever wants to can leave it, come back to it, or end it, and its log is whole for all.

use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};

use contract::exit::Exit;
use e2e::builder::Builder;
use e2e::call::Call;
use e2e::engine::Need;
use e2e::nix_files::{derivation, failing, slow};
use e2e::person::Person;
use e2e::process::Live;
use e2e::setting::setting;
use e2e::terminal::{CONTROL_C, Terminal};
use e2e::{checkout::Checkout, cluster};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::cluster::kubeconfig;
use crate::shared;

crate::scenarios! {
    Any: [
        detached_build_is_followed_and_ended_by_others,
        control_c_asks_and_whoever_leaves_ends_nothing,
        log_is_whole_however_often_the_connection_is_cut,
        end_of_the_builder_interrupts_and_is_told,
    ],
}

/// How often a connection is cut.
const CUTS: &str = "E2E_CUTS";

fn endless(builder: &Builder, project: &str) -> Checkout {
    let script = "echo begun; sleep 600; echo $out > $out";
    builder.pushed(project, &[("default.nix", &*derivation(&format!("t-{project}"), script))])
}

/// What `jobs --json` says of this build.
fn job(builder: &Builder, id: &str) -> Value {
    let all = builder.cli(["jobs", "--json"]).run().ok().json();
    let found = all.as_array().and_then(|all| all.iter().find(|job| job["id"] == id));
    found.unwrap_or_else(|| panic!("no build {id} in {all}")).clone()
}

/// The newest build's number; others build in a shared builder as well.
fn newest(builder: &Builder, project: &str) -> String {
    let all = builder.cli(["jobs", "--json"]).run().ok().json();
    let newest = all.as_array().and_then(|all| all.iter().find(|job| job["request"]["project"] == project));
    newest
        .and_then(|job| job["id"].as_str())
        .unwrap_or_else(|| panic!("no build of {project} in {all}"))
        .to_owned()
}

fn detached_build_is_followed_and_ended_by_others() {
    let builder = shared::builder();
    let other = builder.seen_by(Person::new());
    let files = [("default.nix", &*slow("t-detached", 3)), ("bad.nix", &failing("t-detached-bad"))];
    let tree = builder.pushed("detached", &files);
    let id = tree.cli(["build", "--detach"]).run().ok().text().to_owned();
    assert!(id.bytes().all(|b| b.is_ascii_digit()), "{id}");
    let told = job(builder, &id);
    assert!(told["request"]["project"] == "detached" && told["request"]["from"].is_string(), "{told}");
    let attached = other.cli(["attach", &id]).run().ok();
    assert!(attached.text().ends_with("-t-detached") && attached.stderr.contains("ended"), "{attached}");
    assert_eq!(job(builder, &id)["state"], "finished");
    let log = other.cli(["logs", &id]).run().ok();
    assert!(log.stdout.contains("begun") && log.stdout.contains("ended"), "{log}");
    let last = other.cli(["logs", &id, "--tail", "1"]).run().ok();
    assert!(last.stdout.lines().count() == 1 && log.stdout.ends_with(&last.stdout), "{last}");

    let bad = tree.cli(["build", "--detach", "--json", "-f", "bad.nix"]).run().ok().json();
    let bad_id = bad["job"].as_str().expect("its number").to_owned();
    let attached = other.cli(["attach", &bad_id]).run();
    assert!(attached.code == 1 || attached.code == 100, "the build's own code: {attached}");
    let table = other.cli(["jobs"]).run().ok();
    assert!(table.stdout.contains("failed (") && table.stdout.contains("-f bad.nix"), "{table}");

    other.cli(["attach", "999999"]).run().refused(Exit::Usage, "no build \"999999\"");
    other.cli(["logs", "999999"]).run().refused(Exit::Usage, "its newest are");
    other.cli(["logs", "999999", "--previous"]).run().refused(Exit::Usage, "--previous is for containers");

    // Somebody else ends what I follow.
    let tree = endless(builder, "ended");
    let mut build = tree.cli(["build"]).start();
    build.line("begun");
    let id = newest(builder, "ended");
    other.cli(["cancel", &id]).run().ok();
    let build = build.output();
    assert!(build.code != 0 && build.stderr.contains("was cancelled"), "{build}");
    assert_eq!(job(builder, &id)["state"], "cancelled");
    let late = other.cli(["cancel", &bad_id]).run().ok();
    assert!(late.stderr.contains("had ended before: it is failed"), "{late}");
}

fn control_c_asks_and_whoever_leaves_ends_nothing() {
    let builder = shared::builder();
    let tree = endless(builder, "leave");
    let words = [setting().cli.as_os_str(), "build".as_ref()];
    let mut terminal = Terminal::run(tree.call("script").within(60), &words);
    terminal.shows("begun");
    let id = newest(builder, "leave");
    // Enter follows it again, and the next one leaves it.
    terminal.press(CONTROL_C);
    terminal.shows("interrupted; build");
    terminal.press(b"\n");
    terminal.shows("following build");
    terminal.press(CONTROL_C);
    terminal.shows("interrupted; build");
    terminal.press(b"d\n");
    let (output, code) = terminal.end();
    assert!(code == 130 && output.stdout.contains(&format!("attach {id}")), "{output}");
    assert_eq!(job(builder, &id)["state"], "running");

    // So does a second one where the question stands.
    let words = [setting().cli.as_os_str(), "attach".as_ref(), id.as_ref()];
    let mut terminal = Terminal::run(tree.call("script").within(60), &words);
    terminal.shows("begun");
    terminal.press(CONTROL_C);
    terminal.shows("interrupted; build");
    terminal.press(CONTROL_C);
    let (output, code) = terminal.end();
    assert_eq!(code, 130, "{output}");

    // What ends a client ends no build.
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let mut attached = builder.cli(["attach", &id]).start();
        attached.line("begun");
        attached.signal(signal);
        let attached = attached.output().ended(128 + signal as i32);
        assert!(attached.stderr.contains("left build"), "{attached}");
    }
    assert_eq!(job(builder, &id)["state"], "running");

    // Nobody can be asked here, so that it means the build.
    let mut attached = builder.cli(["attach", &id]).start();
    attached.line("begun");
    attached.signal(Signal::SIGINT);
    let attached = attached.output();
    assert!(attached.code != 0 && attached.stderr.contains("was cancelled"), "{attached}");
    assert_eq!(job(builder, &id)["state"], "cancelled");
}

/// Cuts the connections of a client, not what they are for.
struct Cutter {
    tunnels: Option<Arc<Mutex<Vec<TcpStream>>>>,
    address: String,
}

impl Cutter {
    fn new() -> Self {
        if !setting().engine.meets(Need::Cluster) {
            return Self { tunnels: None, address: String::new() };
        }
        let (address, tunnels) = kubeconfig::proxy();
        Self { tunnels: Some(tunnels), address }
    }

    /// A client whose connections can be cut.
    fn through(&self, builder: &Builder, call: Call) -> Call {
        if self.tunnels.is_none() {
            return call;
        }
        let mut config = cluster::admin();
        config["clusters"][0]["cluster"]["proxy-url"] = format!("http://{}", self.address).into();
        let file = builder.person().home().join("through-a-proxy");
        std::fs::write(&file, config.to_string()).expect("a folder of ours");
        call.env("KUBECONFIG", file)
    }

    fn cut(&self, client: &Live) {
        match &self.tunnels {
            Some(tunnels) => {
                for tunnel in tunnels.lock().expect("nobody panics").drain(..) {
                    // It may have ended by itself.
                    let _ = tunnel.shutdown(Shutdown::Both);
                }
            }
            // podman is what carries the bytes. It may have ended by itself, too.
            None => children(client.pid()).for_each(|child| kill(child, Signal::SIGKILL).unwrap_or_default()),
        }
    }
}

fn children(of: i32) -> impl Iterator<Item = Pid> {
    let parent = move |stat: &str| stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok();
    let processes = std::fs::read_dir("/proc").expect("it is there").flatten();
    processes.filter_map(move |entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        (parent(&stat) == Some(of)).then(|| Pid::from_raw(pid))
    })
}

fn log_is_whole_however_often_the_connection_is_cut() {
    let builder = shared::builder();
    let cuts: u32 = std::env::var(CUTS).map_or(8, |text| text.parse().expect("a number"));
    let script = format!(
        "i=0; while [ $i -lt {cuts} ]; do j=0; \
           while [ $j -lt 400 ]; do echo \"burst $i, line $j\"; j=$((j+1)); done; sleep 1; i=$((i+1)); \
         done; echo $i > $out"
    );
    let tree = builder.pushed("cuts", &[("default.nix", &*derivation("t-cuts", &script))]);
    let id = tree.cli(["build", "--detach"]).run().ok().text().to_owned();
    let cutter = Cutter::new();
    let call = |args: [&str; 4]| cutter.through(builder, builder.cli(args).within(120 + 4 * u64::from(cuts)));
    let mut log = call(["logs", &id, "-f", "--json"]).start();
    for burst in 0..cuts {
        log.line(&format!("burst {burst}, line"));
        cutter.cut(&log);
    }
    let log = log.output().ok();
    assert!(log.stderr.contains("connection to the builder was lost"), "it was cut: {log}");
    let file = builder.shell(&format!("cat /home/nix/.local/state/trampoline/jobs/{id}/log")).ok().stdout;
    assert_eq!(log.stdout.len(), file.len(), "bytes of the log");
    assert!(log.stdout == file, "the same bytes in the same order");
    let last = format!("burst {}, line 399", cuts - 1);
    assert_eq!((file.matches(&last).count(), file.matches("burst 0, line 399").count()), (1, 1));
}

fn end_of_the_builder_interrupts_and_is_told() {
    let builder = Builder::set_up(&[]);
    // Different ones, as the daemon may still be ending the first one's when the second begins.
    let trees = ["lost", "cut", "gone"].map(|project| endless(&builder, project));
    let begin = |tree: &Checkout| {
        let mut build = tree.cli(["build"]).start();
        build.line("begun");
        build
    };
    // The container that leads the build is killed: the engine starts it again.
    let build = begin(&trees[0]);
    setting().engine.crash(builder.name(), "user");
    let build = build.output().ended(i32::from(Exit::Stopping.code()));
    assert!(build.stderr.contains("build 1 was interrupted"), "{build}");
    builder.cli(["up"]).run().ok();
    assert_eq!(job(&builder, "1")["state"], "interrupted");
    builder.cli(["attach", "1"]).run().ended(i32::from(Exit::Stopping.code()));
    builder.cli(["attach"]).run().refused(Exit::Usage, "no build runs");

    // So is the one that has all builds. Where podman has no cgroups, as without root on version 1, they do not even notice.
    let build = begin(&trees[1]);
    if setting().engine.meets(Need::Podman) || setting().engine.meets(Need::Cluster) {
        setting().engine.crash(builder.name(), "daemon");
        let build = build.output().ended(i32::from(Exit::Stopping.code()));
        assert!(build.stderr.contains("build 2 was interrupted: the daemon container ended"), "{build}");
        builder.cli(["up"]).run().ok();
        assert_eq!(job(&builder, "2")["state"], "interrupted");
    } else {
        builder.cli(["cancel", "2"]).run().ok();
        drop(build.output());
    }

    // The whole pod is gone.
    let build = begin(&trees[2]);
    setting().engine.vanish(builder.name());
    let build = build.output().ended(i32::from(Exit::Stopping.code()));
    // Half gone it looks like one that has left by itself.
    let told = ["build 3 was interrupted", "how build 3 ended was not heard"];
    assert!(told.iter().any(|told| build.stderr.contains(told)), "{build}");
    builder.cli(["jobs"]).run().refused(Exit::Stopping, "does not run");
    let up = builder.cli(["up"]).run().ok();
    // Where the daemon's container went first, the build had come to its end when the others did.
    if !build.stderr.contains("the daemon container ended") {
        assert!(up.stderr.contains("build 3 (gone) was interrupted"), "the next start names it: {up}");
        builder.says("interrupted   build 3 (gone)");
    }
    assert_eq!(job(&builder, "3")["state"], "interrupted");
}
