//! What arrives of a checkout, and what a push leaves alone.

use std::time::Duration;

use e2e::builder::Builder;
use e2e::checkout::Checkout;
use e2e::nix_files::quick;
use e2e::podman;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::shared;

crate::scenarios! {
    Any: [
        tree_is_what_git_archive_holds_whatever_the_names,
        push_keeps_earlier_results_and_open_shells,
    ],
    Root: [
        unchanged_tree_sends_nothing,
        only_what_is_lacking_is_sent_and_what_was_edited_there_does_not_come_along,
        dirty_adds_the_working_tree_and_touches_nothing,
        concurrent_pushes_do_not_mix,
        killed_push_leaves_a_whole_tree,
        build_of_what_was_never_pushed_says_what_to_do,
    ],
}

/// Pushes that are cut off.
const CUTS: u32 = 6;
/// About what one takes.
const PUSH: Duration = Duration::from_millis(1000);

/// Prints all that git knows of a tree, and its times, as one hash each.
const LISTING: &str = "find . -mindepth 1 \\( -type d -printf 'd %p\\0' \\) -o \\( -type l -printf 'l %p %l\\0' \\) -o \
     \\( -perm -u+x -printf 'x %s %p\\0' \\) -o -printf 'f %s %p\\0' | LC_ALL=C sort -z | sha256sum; \
     find . -type f -print0 | LC_ALL=C sort -z | xargs -0 cat | sha256sum";
const TIMES: &str = "find . -printf '%p %T@\\0' | LC_ALL=C sort -z | sha256sum";

fn local(tree: &Checkout, line: &str) -> String {
    tree.call("sh").args(["-euc", line]).run().ok().text().to_owned()
}

fn tree_is_what_git_archive_holds_whatever_the_names() {
    let builder = shared::builder();
    let tree =
        builder.checkout("odd", &[("plain", "text\n"), ("secret/key", "no\n"), ("run.sh", "#!/bin/sh\n")]);
    local(
        &tree,
        "printf x >' two  spaces '; printf y >\"$(printf 'new\\nline')\"; printf z >\"$(printf 'b\\377d')\"; \
         printf w >-rf; printf v >'quote\"s and $(x) `y`'; mkdir -p 'a b/c'; printf u >'a b/c/d'; \
         ln -s plain link; ln -s /nowhere/at/all dangling; ln -s 'a b' folder; chmod +x run.sh; \
         echo 'secret export-ignore' >.gitattributes",
    );
    tree.commit();
    let told = tree.cli(["push-tarball"]).run().ok();
    assert!(told.stdout.starts_with("/home/nix/projects/odd/"), "{told}");
    let expected = local(
        &tree,
        &format!("mkdir ../odd.x; git archive HEAD | tar -x -C ../odd.x; cd ../odd.x; {LISTING}"),
    );
    assert_eq!(tree.shell(LISTING).ok().text(), expected);
    tree.shell("test ! -e secret && ./run.sh").ok();

    let times = tree.shell(TIMES).ok();
    tree.cli(["push-tarball", "--project", "odd-later"]).run().ok();
    let later = tree.cli(["shell", "--project", "odd-later", "--", "sh", "-c", TIMES]).run().ok();
    assert_eq!(times.stdout, later.stdout, "times do not tell when it was pushed");
}

fn unchanged_tree_sends_nothing() {
    let tree = shared::builder().checkout("same", &[("file", "one\n")]);
    let push = || tree.cli(["push-tarball", "--json"]).run().ok().json();
    let first = push();
    assert_eq!(first["unchanged"], false);
    // Another commit of the same tree.
    tree.commit();
    let second = push();
    assert_eq!((&second["unchanged"], &second["generation"]), (&true.into(), &first["generation"]));
    tree.write("file", "two\n");
    tree.commit();
    let third = push();
    assert_eq!(third["unchanged"], false);
    assert_ne!(third["generation"], first["generation"]);
}

fn only_what_is_lacking_is_sent_and_what_was_edited_there_does_not_come_along() {
    let tree = shared::builder().checkout("delta", &[("a/one", "one\n"), ("two", "two\n")]);
    let push = || tree.cli(["push-tarball"]).run().ok();
    assert!(push().stderr.contains("2 of 2 files"));
    tree.write("two", "other\n");
    tree.commit();
    let told = push();
    assert!(told.stderr.contains("1 of 2 files"), "{told}");
    tree.shell("echo edited >a/one; echo made >a/made").ok();
    let again = push();
    assert!(again.stderr.contains("1 of 2 files"), "what was edited there is sent again: {again}");
    assert_ne!(again.stdout, told.stdout, "a tree that was edited stays beside it");
    tree.shell("grep -qx one a/one && grep -qx other two && test ! -e a/made").ok();
    assert!(push().stderr.contains("there already"));
    // The working tree is not what is sent, whatever git takes it for.
    tree.git(["update-index", "--assume-unchanged", "two"]).ok();
    tree.write("two", "hiding\n");
    tree.cli(["push-tarball", "--project", "delta-later"]).run().ok();
    let later = tree.cli(["shell", "--project", "delta-later", "--", "cat", "two"]).run().ok();
    assert_eq!(later.text(), "other");
}

fn dirty_adds_the_working_tree_and_touches_nothing() {
    let tree = shared::builder()
        .checkout("dirty", &[("file", "committed\n"), (".gitignore", "ignored\n"), ("gone", "")]);
    tree.write("file", "changed\n");
    tree.write("new", "untracked\n");
    tree.write("ignored", "no\n");
    std::fs::remove_file(tree.dir().join("gone")).expect("it was written");
    let status = tree.git(["status", "--porcelain"]).ok();
    let told = tree.cli(["push-tarball"]).run().ok();
    assert!(told.stderr.contains("--dirty"), "{told}");
    assert_eq!(tree.shell("cat file").ok().text(), "committed");
    tree.cli(["push-tarball", "--dirty"]).run().ok();
    tree.shell("grep -q changed file && grep -q untracked new && test ! -e ignored && test ! -e gone").ok();
    assert_eq!(tree.git(["status", "--porcelain"]).ok().stdout, status.stdout);
    assert_eq!(tree.git(["stash", "list"]).ok().stdout, "");
}

fn push_keeps_earlier_results_and_open_shells() {
    // Nothing but what holds it spares a path there.
    let builder = Builder::set_up(&[]);
    let tree =
        builder.pushed("later", &[("default.nix", &*quick("t-later", "first")), ("note", "of the first\n")]);
    let built = tree.cli(["build"]).run().ok();
    let mut session =
        tree.cli(["shell", "--", "sh", "-c", "echo standing in $PWD; read x; cat note"]).start_typing();
    session.line("standing in");
    for n in ["second", "third", "fourth"] {
        tree.write("note", n);
        tree.commit();
        tree.cli(["push-tarball"]).run().ok();
    }
    builder.cli(["maintenance"]).run().ok();
    tree.shell(&format!("nix-store --check-validity {}", built.text())).ok();
    assert_eq!(tree.shell("readlink result").ok().text(), built.text(), "the new tree has the last result");
    session.type_in(b"\n");
    let session = session.output().ok();
    assert!(session.stdout.contains("of the first"), "{session}");
}

fn concurrent_pushes_do_not_mix() {
    let builder = shared::builder();
    let ours = builder.checkout("both", &[("default.nix", &*quick("t-ours", "ours"))]);
    let theirs = ours.cloned("both-clone");
    theirs.write("default.nix", &quick("t-theirs", "theirs"));
    theirs.commit();
    let push = |tree: &Checkout| tree.cli(["push-tarball", "--project", "both"]).start();
    let pushes = [push(&ours), push(&theirs)];
    for push in pushes {
        push.output().ok();
    }
    let builds = [&ours, &theirs].map(|tree| tree.cli(["build"]).start());
    let built = builds.map(|build| build.output().ok());
    assert!(built[0].text().ends_with("-t-ours") && built[1].text().ends_with("-t-theirs"), "{built:?}");
    let spoken = built.iter().filter(|build| build.stderr.contains("building generation")).count();
    assert_eq!(spoken, 1, "whose tree is not the current one is told so: {built:?}");
}

fn killed_push_leaves_a_whole_tree() {
    // Whoever pushes to a builder that others use would be killed as well.
    let builder = Builder::set_up(&[]);
    let tree = builder.checkout("cut", &[]);
    let commit = |n: u32| {
        let make = "head -c 8000000 /dev/urandom >big; sha256sum big note >sums";
        local(&tree, &format!("echo {n} >note; {make}"));
        tree.commit();
    };
    commit(0);
    tree.cli(["push-tarball"]).run().ok();
    // What receives it goes on without its client, which holds no more than the other end of a pipe.
    let receivers = "for p in /proc/[0-9]*; do \
        if tr '\\0' ' ' <$p/cmdline | grep -q 'user-init receiv[e]'; then kill -9 ${p#/proc/}; fi; \
      done 2>/dev/null; true";
    for n in 1..=CUTS {
        commit(n);
        let push = tree.cli(["push-tarball"]).start();
        // Not a wait for something: the cut is to fall anywhere.
        std::thread::sleep(podman::moment_within(PUSH));
        // It may have ended.
        let _ = kill(Pid::from_raw(push.pid()), Signal::SIGKILL);
        builder.shell(receivers).ok();
        drop(push);
        // The current one, which may be newer than what a client that was killed could note.
        let check = ["shell", "--project", "cut", "--", "sha256sum", "--quiet", "-c", "sums"];
        builder.cli(check).run().ok();
    }
    tree.cli(["push-tarball"]).run().ok();
    assert_eq!(tree.shell("sha256sum --quiet -c sums && cat note").ok().text(), CUTS.to_string());
}

fn build_of_what_was_never_pushed_says_what_to_do() {
    let tree = shared::builder().checkout("never-pushed", &[("default.nix", "{ }")]);
    let refused = tree.cli(["build"]).run();
    assert!(refused.code != 0 && refused.stderr.contains("push-tarball"), "{refused}");
}
