//! Trees arrive whole or not at all.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier};

use common::tar::{Archive, sample};
use common::{BOOT, header, listing, push, push_bytes, push_in};
use contract::job::{Generation, PushAnswer};
use user_init::project::{Links, Project, after_job, before_job, prune};

fn done(answer: PushAnswer) -> Generation {
    match answer {
        PushAnswer::Done(generation) => generation,
        PushAnswer::Send => panic!("the bytes were asked for and nothing more"),
    }
}

fn put(projects: &Path, archive: &[u8]) -> Generation {
    done(push(projects, &push_bytes(&header("p", archive), archive)).unwrap())
}

#[test]
fn a_tree_arrives_and_an_unchanged_one_needs_no_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (first, other) = (sample().end(), sample().file("more", "x").end());
    let one = put(dir.path(), &first);
    assert_eq!((one.generation, one.current, one.unchanged), (1, true, false));
    assert_eq!(one.path, dir.path().join("p/000001").display().to_string());
    assert_eq!(put(dir.path(), &other).generation, 2);

    // The header alone.
    let again = done(push(dir.path(), &push_bytes(&header("p", &first), b"")).unwrap());
    assert_eq!((again.generation, again.current, again.unchanged), (1, true, true));
    assert_eq!(fs::read_link(dir.path().join("p/current")).unwrap(), Path::new("000001"));
    assert_eq!(again.label, "main 1a2b3c4");

    // A machine that crashed may have lost what was not synced.
    let error = push_in(dir.path(), &push_bytes(&header("p", &first), b""), "another-boot").unwrap_err();
    assert!(error.contains("after 0 of"), "{error}");
}

#[test]
fn the_same_archive_gives_the_same_tree() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let archive = sample().end();
    put(a.path(), &archive);
    put(b.path(), &sample().file("before", "").end());
    put(b.path(), &archive);
    assert_eq!(listing(&a.path().join("p/000001")), listing(&b.path().join("p/000002")));
}

#[test]
fn what_is_cut_off_or_corrupt_leaves_the_old_tree() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &sample().end());
    let before = listing(&dir.path().join("p"));
    let archive = sample().file("big", vec![7; 700_000]).end();
    let whole = push_bytes(&header("p", &archive), &archive);
    let step = whole.len() / 150;
    let ends =
        (0..300.min(whole.len())).step_by(13).chain((0..whole.len()).step_by(step)).chain([whole.len() - 1]);
    for end in ends {
        let error = push(dir.path(), &whole[..end]).unwrap_err();
        assert!(error.contains("ended"), "{end}: {error}");
        assert_eq!(listing(&dir.path().join("p")), before, "{end}");
    }
    for at in (whole.len() - archive.len()..whole.len()).step_by(archive.len() / 60) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x20;
        let error = push(dir.path(), &bytes).unwrap_err();
        assert!(error.contains("sha256") || error.contains("refused"), "{at}: {error}");
        assert_eq!(listing(&dir.path().join("p")), before, "{at}");
    }
    let mut wrong = header("p", &archive);
    wrong.sha256 = "0".repeat(64);
    let error = push(dir.path(), &push_bytes(&wrong, &archive)).unwrap_err();
    assert!(error.contains("not what was sent"), "{error}");
    assert_eq!(listing(&dir.path().join("p")), before);
    // And then it still works; what follows the N bytes is not read.
    let mut more = whole.clone();
    more.extend_from_slice(b"more");
    assert_eq!(done(push(dir.path(), &more).unwrap()).generation, 2);
}

#[test]
fn wrong_headers_are_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let archive = sample().end();
    for project in ["../p", "", "a/b", ".x"] {
        assert!(push(dir.path(), &push_bytes(&header(project, &archive), &archive)).is_err(), "{project:?}");
    }
    let mut upper = header("p", &archive);
    upper.sha256 = upper.sha256.to_uppercase();
    assert!(push(dir.path(), &push_bytes(&upper, &archive)).is_err());
    assert!(push(dir.path(), b"{}\n").is_err());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn an_archive_may_end_with_anything_behind_its_marker() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = sample().end();
    archive.resize(archive.len() + (20 << 20), 0);
    assert_eq!(put(dir.path(), &archive).generation, 1);
}

#[test]
fn concurrent_pushes_do_not_mix_and_say_that_they_wait() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let start = Arc::new(Barrier::new(6));
    let pushes: Vec<_> = (0..6)
        .map(|n| {
            let (dir, start) = (Arc::clone(&dir), Arc::clone(&start));
            std::thread::spawn(move || {
                let mut archive = Archive::default();
                for file in 0..40 {
                    archive = archive.file(format!("d/{file}"), format!("{n}").repeat(5000));
                }
                let archive = archive.end();
                let bytes = push_bytes(&header("p", &archive), &archive);
                let (mut output, mut waited) = (Vec::new(), false);
                start.wait();
                user_init::project::receive(dir.path(), BOOT, &mut Cursor::new(bytes), &mut output, |_| {
                    waited = true
                })
                .unwrap();
                waited
            })
        })
        .collect();
    let waited = pushes.into_iter().map(|t| t.join().unwrap()).filter(|w| *w).count();
    assert!(waited > 0, "somebody must have waited");
    for generation in 1..=6 {
        let tree = dir.path().join(format!("p/{generation:06}/d"));
        let first = fs::read(tree.join("0")).unwrap();
        for file in 1..40 {
            assert_eq!(fs::read(tree.join(file.to_string())).unwrap(), first, "{generation}");
        }
    }
    assert!(!dir.path().join("p/.incoming").exists());
}

#[test]
fn a_killed_push_leaves_nothing_that_counts() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &sample().end());
    // As one that was killed left it.
    fs::create_dir(dir.path().join("p/.incoming")).unwrap();
    fs::write(dir.path().join("p/.incoming/half"), "").unwrap();
    fs::write(dir.path().join("p/.meta/000002.json"), "{").unwrap();
    assert_eq!(put(dir.path(), &sample().file("x", "").end()).generation, 2);
    assert!(!dir.path().join("p/000002/half").exists());
}

#[test]
fn old_trees_go_unless_somebody_is_in_them() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..6 {
        put(dir.path(), &sample().file("n", n.to_string()).end());
    }
    let project = Project::new(dir.path(), "p").unwrap();
    let mut shell = Command::new("cat")
        .current_dir(dir.path().join("p/000001/src"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let gone = prune(&project, 2, &BTreeSet::from([3]), Path::new("/proc")).unwrap();
    assert_eq!(gone, [2, 4]);
    assert_eq!(project.numbers().unwrap(), [1, 3, 5, 6]);
    drop(shell.stdin.take());
    shell.wait().unwrap();
    assert_eq!(prune(&project, 2, &BTreeSet::new(), Path::new("/proc")).unwrap(), [1, 3]);
    // A number is never used again.
    assert_eq!(put(dir.path(), &sample().file("n", "new").end()).generation, 7);
}

#[test]
fn results_are_linked_again_in_the_next_tree() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &sample().end());
    let project = Project::new(dir.path(), "p").unwrap();
    let made = Links { job: "1-1".into(), links: vec![("result".into(), "/nix/store/abc-hello".into())] };
    after_job(&project, 1, made, true).unwrap();
    let link = |generation: u64| fs::read_link(project.tree(generation).join("result")).ok();
    assert!(link(1).is_some());
    put(dir.path(), &sample().file("x", "").end());
    assert_eq!(link(2).unwrap(), Path::new("/nix/store/abc-hello"));
    // While a build evaluates there is none; a failed one gives the old one back.
    before_job(&project, 2).unwrap();
    assert_eq!(link(2), None);
    after_job(&project, 2, Links::default(), false).unwrap();
    assert_eq!(link(2), None, "another job still evaluates");
    after_job(&project, 2, Links::default(), true).unwrap();
    assert!(link(2).is_some());
    // What came with the archive is content.
    put(dir.path(), &sample().link("result", "/nix/store/theirs").end());
    before_job(&project, 3).unwrap();
    assert_eq!(link(3).unwrap(), Path::new("/nix/store/theirs"));
}
