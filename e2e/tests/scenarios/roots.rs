//! What keeps store paths from collection: roots with a name, for as long as they are to live, links that were forgotten, and old
//! generations of profiles.

use e2e::builder::Builder;
use e2e::checkout::Checkout;
use e2e::nix_files::quick;
use e2e::output::Output;
use serde_json::Value;

crate::scenarios! {
    Any: [
        a_root_keeps_what_was_built_until_it_goes,
        what_is_needed_outlives_every_collection,
    ],
}

const FOLDER: &str = "/nix/var/nix/gcroots/trampoline-named";

struct Scene<'a> {
    builder: &'a Builder,
    tree: Checkout,
}

impl Scene<'_> {
    /// Builds something new, and returns its store path.
    fn build(&self, name: &str) -> String {
        self.tree.write("it.nix", &quick(name, name));
        self.tree.cli(["push-tarball", "--dirty"]).run().ok();
        self.tree.cli(["build", "-f", "it.nix"]).run().ok().text().to_owned()
    }

    fn roots(&self, args: &[&str]) -> Output {
        self.tree.cli([&["roots"], args].concat()).run()
    }

    fn listed(&self) -> Vec<Value> {
        let listed = self.roots(&["ls", "--json"]).ok().json();
        listed.as_array().expect("a list").clone()
    }

    fn of_path(&self, path: &str, kind: &str) -> Option<Value> {
        self.listed().into_iter().find(|root| root["path"] == path && root["kind"] == kind)
    }

    fn is_there(&self, path: &str) -> bool {
        self.builder.shell(&format!("[ -e {path} ]")).code == 0
    }

    /// A question that the builder's user asks daemon-init.
    fn ask(&self, what: &str, with: &str) -> Output {
        let line = format!("echo '{{\"ask\": \"{what}\"{with}}}' | /opt/trampoline/bin/daemon-init ask");
        self.builder.shell(&line)
    }

    /// Jobs keep what they have built as well; here only other roots count.
    fn without_jobs(&self) {
        self.builder.shell("rm -f ~/.local/state/trampoline/jobs/*/result*").ok();
    }
}

fn a_root_keeps_what_was_built_until_it_goes() {
    let builder = &Builder::set_up(&[]);
    let tree = builder.checkout("roots", &[("file", "")]);
    let scene = Scene { builder, tree };
    let missing = scene.roots(&["add", "result", "--as", "early"]);
    assert!(missing.code == 64 && missing.stderr.contains("not of a pushed project"), "{missing}");

    let kept = scene.build("t-kept");
    let said = scene.roots(&["add", ".", "--as", "kept", "--ttl", "14d"]).ok();
    assert!(said.stderr.contains(&kept) && said.stderr.contains("expires in 1"), "{said}");
    let job = scene.of_path(&kept, "job").expect("its job keeps it as well");
    assert_eq!(job["holds"]["alone"], 0, "{job}");
    let brief = scene.build("t-brief");
    // `--name` names what is no builder.
    let nameless = scene.roots(&["add", &brief]);
    assert!(nameless.code == 64 && nameless.stderr.contains("--as NAME"), "{nameless}");
    let builders = scene.roots(&["add", &brief, "--name", builder.name()]);
    assert!(builders.code == 64 && builders.stderr.contains("is a builder"), "{builders}");
    let said = scene.roots(&["add", &brief, "--name", "brief-1.2", "--ttl", "1h"]).ok();
    assert!(said.stderr.contains(builder.name()) && said.stderr.contains("as brief-1.2"), "{said}");
    let other = scene.build("t-other");
    let taken = scene.roots(&["add", &other, "--as", "kept"]);
    assert!(taken.code == 68 && taken.stderr.contains(&kept), "{taken}");
    scene.without_jobs();

    let named = scene.of_path(&kept, "named").expect("it is listed");
    assert!(named["holds"]["alone"].as_u64() > Some(0) && named["expires"].is_u64(), "{named}");
    assert!(scene.listed().iter().any(|root| root["kind"] == "image"), "what the image brought is listed");
    let shown = scene.roots(&["ls"]).ok();
    assert!(shown.stdout.lines().any(|line| line.starts_with("named") && line.contains("kept")), "{shown}");
    // A user may look, and keeps nobody's roots from being kept.
    assert!(scene.ask("roots", "").ok().stdout.contains("\"kept\""));
    let refused = scene.ask("remove-root", ", \"name\": \"kept\"");
    assert!(refused.code == 77 && refused.stderr.contains("may not ask"), "{refused}");
    builder.cli(["maintenance"]).run().ok();
    assert!(scene.is_there(&kept) && scene.is_there(&brief) && !scene.is_there(&other));

    // Its hour is over.
    let expire = format!("sed -i 's/\"expires\":[0-9]*/\"expires\":1/' {FOLDER}/.brief-1.2");
    e2e::setting::setting().engine.as_root(builder.name(), &expire).ok();
    assert!(scene.of_path(&brief, "named").is_none(), "it holds nothing any more");
    builder.shell("nix-collect-garbage").ok();
    assert!(scene.is_there(&kept) && !scene.is_there(&brief));

    // Over a restart, until it is taken away.
    builder.cli(["down"]).run().ok();
    builder.cli(["maintenance"]).run().ok();
    assert!(scene.is_there(&kept));
    scene.roots(&["rm", "kept"]).ok();
    let again = scene.roots(&["rm", "kept"]);
    assert!(again.code == 64 && again.stderr.contains("no root is called kept"), "{again}");
    builder.cli(["maintenance"]).run().ok();
    assert!(!scene.is_there(&kept));
    forgotten(&scene);
}

/// A link and a generation of long ago.
fn forgotten(scene: &Scene<'_>) {
    let builder = scene.builder;
    let made = "set -e; cd ~; echo old >old; path=$(nix-store --add old); echo new >new; new=$(nix-store --add new); \
                nix-store --realise $path --add-root ~/forgotten >/dev/null; \
                dir=~/.local/state/nix/profiles; mkdir -p $dir; \
                echo gen1 >gen1; gen=$(nix-store --add gen1); \
                nix-env -p $dir/mine --set $gen; nix-env -p $dir/mine --set $path; nix-env -p $dir/mine --set $new; \
                touch -h -d '100 days ago' ~/forgotten $dir/mine-1-link $dir/mine-2-link; echo $path $gen";
    let made = builder.shell(made).ok();
    let (path, generation) = made.text().split_once(' ').expect("two paths");
    assert!(scene.of_path(path, "link").is_some() && scene.of_path(generation, "generation").is_some());
    let dry = builder.cli(["maintenance", "--dry-run"]).run().ok();
    assert!(dry.stderr.contains("/forgotten: an old link") && dry.stderr.contains("mine-1-link"), "{dry}");
    // A user's own collection lets nothing go.
    builder.shell("nix-collect-garbage").ok();
    assert!(scene.is_there(path) && scene.is_there(generation));
    builder.cli(["maintenance"]).run().ok();
    // The second generation was current when the month began, and holds it.
    assert!(scene.is_there(path) && !scene.is_there(generation));
    assert!(scene.of_path(path, "link").is_none());
    builder.shell("[ -L ~/forgotten ]").ok();
}

/// Makes a path that a process has open, without being called by it, one that a link in the home keeps, and one to be named. Prints
/// them, and the process.
const NEEDED: &str = "\
    set -e; mkdir -p ~/needed; cd ~/needed; rm -f *; mkfifo idle; \
    for name in open linked named; do echo $name >$name; eval $name=$(nix-store --add $name); done; \
    nix-store --realise $linked --add-root ~/needed/result >/dev/null; \
    ( exec 3<$open; exec sh -c 'read -r line <>idle' ) >/dev/null 2>&1 </dev/null & echo $open $linked $named $!";

/// A build that runs until it is ended, and has an input that nothing else needs.
const RUNNING: &str = "derivation {
  name = \"t-running\"; system = builtins.currentSystem; builder = \"/bin/sh\";
  input = builtins.toFile \"t-input\" \"needed\";
  args = [ \"-c\" \"echo input $input; sleep 3600\" ];
}
";

fn what_is_needed_outlives_every_collection() {
    let builder = &Builder::set_up(&[]);
    let tree = builder.pushed("needed", &[("running.nix", RUNNING)]);
    let scene = Scene { builder, tree };
    let made = builder.shell(NEEDED).ok();
    let words: Vec<&str> = made.text().split(' ').collect();
    let [open, linked, named, process] = words[..] else { panic!("{made}") };
    scene.roots(&["add", named, "--as", "named"]).ok();
    let job = scene.tree.cli(["build", "-f", "running.nix", "--detach"]).run().ok();
    let job = job.text();
    let said = "end=$(($(date +%s) + 120)); \
                while ! grep -m 1 -o '/nix/store/[^ \"]*-t-input' ~/.local/state/trampoline/jobs/*/log; do \
                  [ $(date +%s) -lt $end ] || exit 1; \
                done";
    let input = builder.shell(said).ok();
    let input = input.text();
    let image = builder.shell("readlink -f /nix/var/nix/profiles/default").ok();
    let image = image.text();
    for round in 0..4 {
        let litter = builder.shell(&format!("echo {round} >litter; nix-store --add litter")).ok();
        if round % 2 == 0 {
            builder.shell("nix-collect-garbage").ok();
        } else {
            builder.cli(["maintenance"]).run().ok();
        }
        let all = format!(
            "[ ! -e {} ] && kill -0 {process} && ls -d {open} {linked} {named} {input} {image}",
            litter.text()
        );
        builder.shell(&all).ok();
    }
    let jobs = scene.tree.cli(["jobs", "--json"]).run().ok().json();
    assert!(jobs[0]["id"] == job && jobs[0]["state"] == "running", "{jobs}");
    scene.tree.cli(["cancel", job]).run().ok();
    builder.shell(&format!("kill {process}; rm ~/needed/result")).ok();
    scene.roots(&["rm", "named"]).ok();
    builder.cli(["maintenance"]).run().ok();
    for gone in [open, linked, named, input] {
        assert!(!scene.is_there(gone), "{gone}: nothing needs it any more");
    }
}
