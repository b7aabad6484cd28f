//! Whose signatures a builder takes, and what it signs itself.

use contract::exit::Exit;
use contract::keys;
use e2e::builder::Builder;
use e2e::call::Call;
use e2e::checkout::Checkout;
use e2e::nix_files::{derivation, slow};
use e2e::output::Output;
use e2e::setting::setting;
use serde_json::Value;

use crate::shared;

crate::scenarios! {
    Any: [
        what_is_built_here_arrives_signed,
        what_came_from_elsewhere_is_asked_about,
        keys_come_and_go_without_a_restart,
        what_is_built_there_is_signed_and_its_key_is_out_of_reach,
    ],
    Root: [
        trusted_user_needs_no_signature,
    ],
}

/// Stores of the scenario's own on this machine, whose builds need no build users.
struct Here<'a> {
    builder: &'a Builder,
    tree: Checkout,
}

impl<'a> Here<'a> {
    fn new(builder: &'a Builder, project: &str) -> Self {
        Self { builder, tree: builder.checkout(project, &[("file", "")]) }
    }

    fn store(&self) -> String {
        format!("local?root={}", self.tree.dir().join("store").display())
    }

    fn with(&self, call: Call) -> Call {
        call.env("NIX_REMOTE", self.store()).env(
            "NIX_CONFIG",
            "substituters =\nbuild-users-group =\nsandbox-paths = /bin /usr /lib /lib64\n\
             experimental-features = nix-command flakes",
        )
    }

    fn nix<'b>(&self, args: impl IntoIterator<Item = &'b str>) -> Call {
        self.with(self.tree.call("nix")).args(args)
    }

    fn cli<'b>(&self, args: impl IntoIterator<Item = &'b str>) -> Output {
        self.with(self.tree.cli(args)).run()
    }

    /// Builds something that nobody has signed; its path is no hash of its content.
    fn build(&self, name: &str) -> String {
        self.tree.write("it.nix", &derivation(name, &format!("echo {name} > $out")));
        let call = self.with(self.tree.call("nix-build")).args(["it.nix", "--no-out-link"]);
        call.run().ok().text().to_owned()
    }

    /// The same by Nix alone, over ssh: nothing is signed on the way.
    fn bare_copy(&self, path: &str) -> Output {
        let block = self.tree.cli(["ssh-config", "--stdout"]).run().ok().stdout;
        let file = self.builder.person().home().join(format!("block-{}", self.builder.name()));
        std::fs::write(&file, block).expect("a folder of ours");
        let call = self.nix(["copy", "--no-check-sigs", "--to"]);
        let call = call.arg(format!("ssh-ng://{}", self.builder.name())).arg(path);
        call.env("NIX_SSHOPTS", format!("-F {}", file.display())).run()
    }

    /// A key of one's own: its public half, and the file that holds both.
    fn key(&self, name: &str) -> (String, String) {
        let secret = self.nix(["key", "generate-secret", "--key-name", name]).run().ok().stdout;
        let file = format!("{name}.secret");
        self.tree.write(&file, &secret);
        let public = self.nix(["key", "convert-secret-to-public"]).input(secret).run().ok();
        (public.text().to_owned(), self.tree.dir().join(file).display().to_string())
    }

    fn listed(&self) -> Value {
        self.cli(["keys", "ls", "--json"]).ok().json()
    }

    fn is_there(&self, path: &str) -> bool {
        self.tree.shell(&format!("nix-store --check-validity {path}")).code == 0
    }
}

fn refused_unsigned(output: &Output) {
    assert!(output.code != 0 && output.stderr.contains("signature"), "{output}");
}

fn what_is_built_here_arrives_signed() {
    let here = Here::new(shared::builder(), "signed");
    let path = here.build(&format!("t-here-{}", std::process::id()));
    refused_unsigned(&here.bare_copy(&path));
    assert!(!here.is_there(&path));
    let copied = here.cli(["copy-closure", "--json", &path]).ok();
    assert_eq!(copied.json()["sent"], 1, "{copied}");
    let mine = here.listed()["mine"].as_str().expect("setup has made one").to_owned();
    let told = here.tree.shell(&format!("nix path-info --sigs {path} && cat {path}")).ok();
    assert!(told.stdout.contains(keys::name(&mine)) && told.stdout.contains("t-here"), "{told}");
    // Nothing of this machine's store was written.
    let own = here.nix(["path-info", "--sigs", &path]).run().ok();
    assert!(!own.stdout.contains(keys::name(&mine)), "{own}");
    assert_eq!(here.cli(["copy-closure", "--json", &path]).ok().json()["sent"], 0);
}

fn what_came_from_elsewhere_is_asked_about() {
    let here = Here::new(shared::builder(), "elsewhere");
    let there = Here::new(shared::builder(), "elsewhere-there");
    let path = there.build(&format!("t-elsewhere-{}", std::process::id()));
    here.nix(["copy", "--no-check-sigs", "--from", &there.store(), &path]).run().ok();
    let refused = here.cli(["copy-closure", &path]);
    assert!(refused.stderr.contains(&path) && refused.stderr.contains("--yes"), "{refused}");
    refused.refused(Exit::Usage, "from elsewhere, unsigned");
    assert!(!here.is_there(&path));
    here.cli(["copy-closure", "--yes", &path]).ok();
    assert!(here.is_there(&path));

    // With a signature that this machine trusts nobody need be asked.
    let path = there.build(&format!("t-trusted-{}", std::process::id()));
    let (public, secret) = there.key("t-trusted");
    there.nix(["store", "sign", "-k", &secret, &path]).run().ok();
    here.nix(["copy", "--no-check-sigs", "--from", &there.store(), &path]).run().ok();
    here.cli(["copy-closure", &path]).refused(Exit::Usage, "from elsewhere, unsigned");
    let config = here.with(here.tree.cli(["copy-closure", &path]));
    let trusting = format!(
        "substituters =\nexperimental-features = nix-command flakes\nextra-trusted-public-keys = {public}"
    );
    config.env("NIX_CONFIG", trusting).run().ok();
    assert!(here.is_there(&path));
}

fn keys_come_and_go_without_a_restart() {
    let builder = Builder::set_up(&[]);
    let here = Here::new(&builder, "keys");
    let before = builder.status()["pod"].clone();
    let mine = here.listed()["mine"].as_str().expect("setup has made one").to_owned();
    let nix = builder.pushed("slow", &[("default.nix", &*slow("t-slow", 8))]);
    let mut build = nix.cli(["build"]).start();
    build.line("begun");

    // Signed by a key that the builder does not know, and then knows, and then does not.
    let (public, secret) = here.key("t-other");
    let signed = |name: &str| {
        let path = here.build(name);
        here.nix(["store", "sign", "-k", &secret, &path]).run().ok();
        path
    };
    let (first, second) = (signed("t-key-first"), signed("t-key-second"));
    refused_unsigned(&here.bare_copy(&first));
    here.cli(["keys", "add", &secret]).refused(Exit::Usage, "secret");
    here.tree.write("t-other.pub", &format!("# of the other one\n{public}\n"));
    here.cli(["keys", "add", "t-other.pub"]).ok();
    here.bare_copy(&first).ok();
    let twin = format!("{}:{}", keys::name(&public), mine.split_once(':').expect("a key").1);
    here.cli(["keys", "add", &twin]).refused(Exit::Usage, "another key is called t-other");
    here.cli(["keys", "rm", "t-other"]).ok();
    refused_unsigned(&here.bare_copy(&second));
    here.cli(["keys", "rm", "t-other"]).refused(Exit::Usage, "keys ls");

    // Without one's own key, and with it.
    here.cli(["keys", "rm", &mine]).ok();
    here.cli(["copy-closure", &second]).refused(Exit::NoPermission, "keys add");
    assert!(!here.is_there(&second));
    here.cli(["keys", "add"]).ok();
    here.cli(["copy-closure", &second]).ok();

    // All that time the build went on, in the same pod under the same daemon-init.
    build.output().ok();
    let after = builder.status()["pod"].clone();
    assert_eq!((&before["life"], &before["ready"]), (&after["life"], &after["ready"]));

    // What was added is there after a stop, and what was removed is not; `trampoline.toml` is another place.
    here.cli(["keys", "add", "t-other.pub"]).ok();
    here.cli(["keys", "rm", keys::name(&mine)]).ok();
    builder.cli(["down"]).run().ok();
    builder
        .configure(&[("daemon.trusted-public-keys", &format!("[{twin:?}]").replace("t-other", "t-config"))]);
    builder.cli(["setup", "--yes"]).run().ok();
    let listed = here.listed();
    let from = |name: &str| {
        let all = listed["trusted"].as_array().expect("a list");
        let found = all.iter().find(|key| key["key"].as_str().is_some_and(|key| keys::name(key) == name));
        found.map(|key| key["from"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(from("t-other").as_deref(), Some("added"), "{listed}");
    assert_eq!(from("t-config").as_deref(), Some("config"), "{listed}");
    // setup has added it once more.
    assert_eq!(from(keys::name(&mine)).as_deref(), Some("added"), "{listed}");
    let status = builder.status_where(|status| status["pod"]["keys"]["own"] == listed["own"]);
    assert_eq!(status["pod"]["keys"]["own"], listed["own"]);
    here.cli(["keys", "rm", "t-config"]).refused(Exit::Usage, "trampoline.toml");
}

fn what_is_built_there_is_signed_and_its_key_is_out_of_reach() {
    let builder = shared::builder();
    let here = Here::new(builder, "signed-there");
    let name = format!("t-there-{}", std::process::id());
    let tree =
        builder.pushed("signed-there-nix", &[("default.nix", &*derivation(&name, "echo there > $out"))]);
    let path = tree.cli(["build"]).run().ok().text().to_owned();
    let own = here.listed()["own"].as_str().expect("the builder has one").to_owned();
    here.cli(["copy-closure", "--from", &path]).ok();
    let verify = |key: &str| {
        let words = [
            "store",
            "verify",
            "--no-contents",
            "--sigs-needed",
            "1",
            "--option",
            "trusted-public-keys",
            key,
        ];
        here.nix(words).arg(&path).run()
    };
    verify(&own).ok();
    let other = here.key("t-stranger").0;
    assert_ne!(verify(&other).code, 0);

    // The private half: root's, in a place that the user does not even enter.
    let key = "/nix/.trampoline/signing-key";
    let root =
        setting().engine.as_root(builder.name(), &format!("stat -c '%u %a' {key} && head -c 19 {key}")).ok();
    assert_eq!(root.text(), "0 600\ntrampoline-builder-");
    assert_ne!(tree.shell(&format!("cat {key}")).code, 0);
    assert_ne!(tree.shell("ls /nix/.trampoline").code, 0);
    let told = tree.shell("nix show-config 2>/dev/null || nix config show").ok();
    assert!(told.stdout.contains(&own) && !told.stdout.contains("signing-key"), "{told}");
}

fn trusted_user_needs_no_signature() {
    let builder = Builder::set_up(&[("daemon.trusted-users", "[\"nix\"]")]);
    let here = Here::new(&builder, "trusted");
    let path = here.build("t-unsigned");
    here.bare_copy(&path).ok();
    assert!(here.is_there(&path));
}
