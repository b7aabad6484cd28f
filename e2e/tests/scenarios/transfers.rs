//! Store paths between this machine's Nix and the builder's.

use std::os::unix::fs::symlink;

use contract::exit::Exit;
use e2e::call::Call;
use e2e::checkout::Checkout;

use crate::shared;

crate::scenarios! {
    Any: [
        content_addressed_paths_travel_both_ways,
        without_a_local_nix_it_says_what_works,
    ],
    Root: [
        flake_arrives_with_its_inputs,
    ],
}

/// A store of the scenario's own, so that the machine's is left alone.
pub(crate) fn with_store(call: Call, tree: &Checkout) -> Call {
    let root = tree.dir().join("../local-nix");
    call.env("NIX_REMOTE", format!("local?root={}", root.display()))
        .env("NIX_CONFIG", "substituters =\nbuild-users-group =\nexperimental-features = nix-command flakes")
}

fn content_addressed_paths_travel_both_ways() {
    let builder = shared::builder();
    let tree = builder.checkout("closure", &[("source/file", "from here\n")]);
    let add = with_store(tree.call("nix-store"), &tree).args(["--add", "source"]).run().ok();
    let path = add.text();
    with_store(tree.cli(["copy-closure", path]), &tree).run().ok();
    assert_eq!(
        tree.shell(&format!("nix-store --check-validity {path} && cat {path}/file")).ok().text(),
        "from here"
    );

    let there =
        tree.shell("mkdir -p /tmp/back && echo from there >/tmp/back/file && nix-store --add /tmp/back").ok();
    with_store(tree.cli(["copy-closure", "--from", there.text()]), &tree).run().ok();
    let real = tree.dir().join("../local-nix").join(there.text().trim_start_matches('/')).join("file");
    assert_eq!(std::fs::read_to_string(&real).ok().as_deref(), Some("from there\n"), "{}", real.display());

    let missing = "/nix/store/00000000000000000000000000000000-missing";
    with_store(tree.cli(["copy-closure", missing]), &tree)
        .run()
        .refused(Exit::Usage, "not in this machine's store");
}

fn flake_arrives_with_its_inputs() {
    let builder = shared::builder();
    let input = builder.checkout("flake-input", &[("data", "of the input\n")]);
    let flake = format!(
        "{{ inputs.data = {{ url = \"path:{}\"; flake = false; }}; outputs = {{ self, data }}: {{ inherit data; }}; }}\n",
        input.dir().display()
    );
    let tree = builder.checkout("flake", &[("flake.nix", &flake)]);
    let pushed = with_store(tree.cli(["push-flake", "--json"]), &tree).run().ok().json();
    let path = pushed["path"].as_str().expect("where it is");
    let input = pushed["inputs"]["data"]["path"].as_str().expect("where its input is");
    tree.shell(&format!("grep -q outputs {path}/flake.nix && grep -q 'of the input' {input}/data")).ok();
}

fn without_a_local_nix_it_says_what_works() {
    let builder = shared::builder();
    let tree = builder.checkout("no-nix", &[("file", "")]);
    let bin = tree.dir().join("../no-nix-bin");
    std::fs::create_dir(&bin).expect("a folder of ours");
    for program in ["podman", "git", "ssh", "sh", "setpriv"] {
        symlink(format!("/usr/bin/{program}"), bin.join(program)).expect("a folder of ours");
    }
    for args in [&["copy-closure", "/nix/store/x"][..], &["push-flake"]] {
        let call = tree.cli(args.iter().copied()).env("PATH", &bin);
        call.run().refused(Exit::Unsupported, "push-tarball");
    }
}
