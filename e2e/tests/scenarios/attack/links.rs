//! Names and links that lead elsewhere, in what the user hands to those who are more than the user.

use e2e::builder::Builder;
use e2e::checkout::Checkout;
use e2e::nix_files::quick;
use e2e::setting::setting;
use serde_json::Value;

use super::{all_fail, as_root};
use crate::shared;

crate::scenarios! {
    Any: [
        archives_stay_within_their_path,
        pushed_trees_stay_within_their_folder,
        names_of_jobs_and_projects_lead_nowhere,
        links_that_change_while_root_looks_lead_nowhere,
    ],
}

/// Shell lines that make a binary cache in `$cache` with one content-addressed path `$out`, which needs no signature: a folder
/// made by `make`, whose archive has the letters of `from` replaced by those of `to`.
fn archive(name: &str, make: &str, from: &str, to: &str) -> String {
    format!(
        r#"
        set -e
        cache=/home/nix/t-archive-{name}
        rm -rf $cache; mkdir -p $cache/nar $cache/d; cd $cache
        ( cd d; {make} )
        nix-store --dump d | tr '{from}' '{to}' >nar/it.nar
        hash=$(nix-hash --flat --type sha256 --base32 nar/it.nar)
        out=$(nix-store --print-fixed-path --recursive sha256 $hash t-archive-{name})
        base=$(basename $out)
        echo 'StoreDir: /nix/store' >nix-cache-info
        printf '%s\n' "StorePath: $out" 'URL: nar/it.nar' 'Compression: none' "NarHash: sha256:$hash" \
          "NarSize: $(wc -c <nar/it.nar)" 'References: ' "CA: fixed:r:sha256:$hash" >"${{base%%-*}}.narinfo"
        set +e
        "#
    )
}

fn archives_stay_within_their_path() {
    let builder = shared::builder();
    // The letters stand in none of the archive's own words.
    let into = "echo planted >Q; echo planted >QQ; echo planted >QWt-escaped; echo planted >WtmpWt-escaped";
    for (name, make, from, to, taken) in [
        ("plain", into, "Q", "P", true),
        ("up", "echo planted >QQ", "Q", ".", false),
        ("slash", "echo planted >QQWt-escaped", "QW", "./", false),
        ("root", "echo planted >WtmpWt-escaped", "QW", "./", false),
        ("self", "echo planted >Q", "Q", ".", false),
        // A link, and a folder of the same name behind it.
        ("twice", "ln -s /nix/var/nix Q; mkdir W; echo planted >W/t-escaped", "QW", "aa", false),
    ] {
        let before = format!(
            "export NIX_CONFIG='extra-experimental-features = nix-command'\n{}",
            archive(name, make, from, to)
        );
        let line = format!("{before}\nnix copy --from file://$cache $out; nix-store --check-validity $out");
        let output = builder.shell(&line);
        assert_eq!(output.code == 0, taken, "{name}: {output}");
    }
    let line = "ls -d /tmp/t-escaped /t-escaped /nix/t-escaped /nix/store/t-escaped /nix/var/nix/t-escaped /nix/store/.. 2>/dev/null";
    // The last is always there.
    assert_eq!(as_root(builder, &format!("{line}; true")).text(), "/nix/store/..");
    builder.shell("rm -rf ~/t-archive-*").ok();
}

/// A commit whose tree has these entries, whatever git thinks of them.
fn commit(tree: &Checkout, entries: &[(&str, &str, &str)]) -> String {
    let blob = tree.call("git").args(["hash-object", "-w", "--stdin"]).input("planted\n").run().ok();
    let mut bytes = Vec::new();
    for (mode, name, id) in entries {
        let id = if id.is_empty() { blob.text() } else { id };
        bytes.extend(format!("{mode} {name}\0").bytes());
        bytes.extend(
            (0..id.len()).step_by(2).map(|at| u8::from_str_radix(&id[at..at + 2], 16).expect("an id")),
        );
    }
    let made = ["hash-object", "-t", "tree", "-w", "--literally", "--stdin"];
    let made = tree.call("git").args(made).input(bytes).run().ok();
    tree.git(["commit-tree", "-m", "hostile", made.text()]).ok().text().to_owned()
}

/// The id of the tree of a commit.
fn tree_of(tree: &Checkout, commit: &str) -> String {
    tree.git(["rev-parse", &format!("{commit}^{{tree}}")]).ok().text().to_owned()
}

fn pushed_trees_stay_within_their_folder() {
    let builder = shared::builder();
    let tree = builder.pushed("hostile", &[("kept", "kept")]);
    let planted = tree_of(&tree, &commit(&tree, &[("100644", "t-escaped", "")]));
    for entries in [
        [("40000", "..", &*planted)],
        [("40000", ".", &*planted)],
        [("100644", "../t-escaped", "")],
        [("100644", "/tmp/t-escaped", "")],
        [("100644", "", "")],
        [("40000", ".git", &*planted)],
    ] {
        let hostile = commit(&tree, &entries);
        let refused = tree.cli(["push-tarball", &hostile]).run();
        let seen = tree.shell("cat kept").ok();
        assert!(refused.code != 0 && seen.text() == "kept", "{entries:?}: {refused}");
    }
    // A link that leads out is a link, and stays one; what is pushed next does not go through it.
    std::os::unix::fs::symlink("/home/nix", tree.dir().join("way")).expect("a folder of ours");
    tree.commit();
    tree.cli(["push-tarball"]).run().ok();
    std::fs::remove_file(tree.dir().join("way")).expect("a folder of ours");
    tree.write("way/t-escaped", "planted");
    tree.commit();
    tree.cli(["push-tarball"]).run().ok();
    assert_eq!(tree.shell("cat way/t-escaped").ok().text(), "planted");
    let left = builder.shell(
        "ls -d ~/t-escaped ~/projects/t-escaped ~/projects/*/t-escaped /tmp/t-escaped 2>/dev/null; true",
    );
    assert_eq!(left.stdout, "", "{left}");
}

fn names_of_jobs_and_projects_lead_nowhere() {
    let builder = shared::builder();
    builder.shell("mkdir -p ~/.local/state/trampoline/t-outside; echo '{}' >~/.local/state/trampoline/t-outside/request.json").ok();
    let agent = "/opt/trampoline/bin/user-init";
    let mut tries = Vec::new();
    for name in ["../t-outside", "..", "/home/nix", "a/../../t-outside", "-x", "", "*"] {
        for line in [
            format!("{agent} job follow '{name}'"),
            format!("{agent} job cancel '{name}'"),
            format!("{agent} session --kind exec --project '{name}' -- true"),
            format!(
                "echo '{{\"project\":\"{name}\",\"manifest\":0,\"sha256\":\"\",\"label\":\"\",\"from\":\"\"}}' | {agent} receive"
            ),
        ] {
            tries.push((line.clone(), line));
        }
    }
    all_fail(builder, "", &tries);
    builder.shell("rm -r ~/.local/state/trampoline/t-outside").ok();
    for name in ["../t-outside", "/tmp", ".x"] {
        let refused = builder.cli(["shell", "--project", name, "--", "true"]).run();
        assert_ne!(refused.code, 0, "{refused}");
    }
}

/// Shell lines that change links where root looks, over and over, until `t-swapping` is gone.
fn swapping(line: &str) -> String {
    format!("cd ~ && touch t-swapping && echo begun && while [ -e t-swapping ]; do {line}; done")
}

/// The file in the user's folder that root reads and makes at each start.
const IDENTITY: &str = "for target in /etc/shadow /nix/t-planted /trampoline/volume/nix/t-planted /etc/t-planted; do \
                          rm -rf .trampoline-home; ln -s $target .trampoline-home; \
                        done; rm -rf .trampoline-home; mkfifo .trampoline-home; rm -rf .trampoline-home; mkdir .trampoline-home";

/// A folder of root's, with a link of the name of the user's: where it leads is nobody's business.
const HIDDEN: &str = "/nix/.trampoline/t-hidden";

/// What takes the place of a link that root looks at, one after another.
fn targets(link: &str) -> String {
    let links = ["/nix/store", "/etc", link, "/proc/1/root", "/nix/var/nix/profiles", HIDDEN];
    let links: String = links.iter().map(|target| format!("ln -sfn {target} {link}; ")).collect();
    format!("{links} rm -f {link}; mkdir {link}; rmdir {link}; mkfifo {link}; rm -f {link}")
}

/// A folder on the way to a link of the user's, which comes and goes, and leads where root alone may go.
fn parent(folder: &str) -> String {
    let swap = |target: &str| {
        format!("mv {folder} {folder}.away; ln -s {target} {folder}; rm {folder}; mv {folder}.away {folder}")
    };
    [HIDDEN, "/nix/var/nix/profiles"].map(swap).join("; ")
}

fn links_that_change_while_root_looks_lead_nowhere() {
    let builder = Builder::set_up(&[]);
    let tree = builder.pushed("swapped", &[("default.nix", &*quick("t-swapped", "kept"))]);
    let path = tree.cli(["build"]).run().ok();
    let path = path.text();
    // Nothing else knows of what it names.
    let hide = format!(
        "mkdir {HIDDEN} && echo hidden >/tmp/t-hidden && path=$(NIX_REMOTE=daemon nix-store --add /tmp/t-hidden) && \
         ln -s $path {HIDDEN}/result && ln -s $path /nix/var/nix/profiles/result && rm /tmp/t-hidden && echo $path"
    );
    let hidden = as_root(&builder, &hide).ok();
    let hidden = hidden.text();
    let seen = || {
        let look = format!("cksum </etc/shadow; ls -a / /etc /nix /nix/var/nix/profiles; ls -l {HIDDEN}");
        as_root(&builder, &look).ok().stdout
    };
    let before = seen();
    let with = |line: &str, meanwhile: &dyn Fn()| {
        let mut swaps = builder.cli(["shell", "--", "sh", "-c", &swapping(line)]).start();
        swaps.line("begun");
        (0..3).for_each(|_| meanwhile());
        builder.shell("rm ~/t-swapping").ok();
        drop(swaps.output());
        assert_eq!(seen(), before, "{line}");
    };
    let made = format!(
        "set -e; cd ~; mkdir t-parent; \
         for link in t-kept t-link t-parent/result; do nix-store --add-root ~/$link --realise {path}; done >&2; \
         touch -h -d '100 days ago' t-parent/result; ls -d ~/.local/state/trampoline/jobs/*/result"
    );
    let job = builder.shell(&made).ok();
    let workspace = tree.shell("[ -L result ] && echo $PWD/result").ok();
    let all = ["/home/nix/t-link", "/home/nix/t-parent/result", job.text(), workspace.text()];
    // As Nix does it for whoever asks; what it finds to lead nowhere it takes away again.
    let enter = all.map(|link| format!("ln -sfn {link} /nix/var/nix/gcroots/auto/t-$((n+=1))")).join("; ");
    // It tells of what the user's links name, and not of what another's of the same name does.
    let look = || {
        as_root(&builder, &enter).ok();
        for _ in 0..3 {
            let told = builder.cli(["roots", "ls", "--json"]).run().ok().json();
            let told = told.as_array().expect("a list");
            let in_home =
                |root: &&Value| root["name"].as_str().is_some_and(|name| name.starts_with("/home/nix/"));
            assert!(told.iter().filter(in_home).all(|root| root["path"] != hidden), "{told:?}");
        }
        builder.cli(["maintenance"]).run().ok();
        builder.shell("nix-collect-garbage").ok();
    };
    with(&parent("t-parent"), &look);
    with(&parent(job.text().strip_suffix("/result").expect("one job")), &look);
    with(&all.map(targets).join("; "), &look);
    with(IDENTITY, &|| {
        let ready = builder.status()["pod"]["ready"].clone();
        setting().engine.crash(builder.name(), "daemon");
        builder.cli(["up"]).run().ok();
        assert_ne!(builder.ready_after(&ready), ready);
    });
    // To root this is another home now. Nothing is collected until somebody says that it is the right one, and then it is.
    builder.shell("cd ~; rm -rf .trampoline-home").ok();
    let accepted = builder.cli(["maintenance", "--accept-home"]).run().ok();
    assert!(accepted.stdout.contains("paths deleted"), "{accepted}");
    assert_eq!(builder.shell(&format!("cat {path}")).ok().text(), "kept");
}
