//! Trees arrive whole or not at all.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier};

use common::tree::{Tree, sample};
use common::{BOOT, listing, push, push_bytes, push_with};
use contract::job::{Generation, PushAnswer};
use contract::tree::{Frame, MTIME};
use user_init::project::{Links, Project, after_job, before_job, prune};

fn done(answer: PushAnswer) -> Generation {
    match answer {
        PushAnswer::Done(generation) => generation,
        PushAnswer::Send { .. } => panic!("content was asked for and nothing more"),
    }
}

fn put(projects: &Path, tree: &Tree) -> Generation {
    done(push(projects, tree).unwrap())
}

/// The same, and what was asked for.
fn put_asked(projects: &Path, tree: &Tree, boot: &str) -> (Generation, Vec<Vec<u32>>) {
    let (asked, answer) = push_with(projects, "p", tree, boot, |_, files| tree.frames(files));
    (done(answer.unwrap()), asked)
}

#[test]
fn a_tree_arrives_as_it_was_sent() {
    let dir = tempfile::tempdir().unwrap();
    let (one, asked) = put_asked(dir.path(), &sample(), BOOT);
    assert_eq!((one.generation, one.current, one.unchanged), (1, true, false));
    let tree = dir.path().join("p/000001");
    assert_eq!(one.path, tree.display().to_string());
    assert_eq!(asked, [[0, 1, 4, 6, 8]], "each content once, and of files alone: {:?}", sample().0);
    let expected = [
        r#""bin"/ 755"#,
        r#""bin/run" 755"#,
        r#""default.nix" 644"#,
        r#""empty"/ 755"#,
        r#""empty/deep"/ 755"#,
        r#""out" -> "/nowhere/outside""#,
        r#""src"/ 755"#,
        r#""src/\xFF\xFE" 644"#,
        r#""src/a b\nc" 644"#,
        r#""src/link" -> "../default.nix""#,
        r#""src/nothing" 644"#,
        r#""src/twin" 755"#,
    ];
    let mut found = listing(&tree);
    found.sort();
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (line, expected) in found.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line} is not {expected}");
        assert!(line.contains(&MTIME.to_string()), "{line} has another time");
    }
    assert_eq!(fs::read_to_string(tree.join("src/twin")).unwrap(), "{ }");
}

#[test]
fn an_unchanged_tree_needs_no_bytes() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &sample());
    assert_eq!(put(dir.path(), &sample().file("more", "x")).generation, 2);
    let (again, asked) = put_asked(dir.path(), &sample(), BOOT);
    assert_eq!((again.generation, again.current, again.unchanged), (1, true, true));
    assert!(asked.is_empty());
    assert_eq!(fs::read_link(dir.path().join("p/current")).unwrap(), Path::new("000001"));
    assert_eq!(again.label, "main 1a2b3c4");

    // A machine that crashed may have lost what was not synced: it is made again, of what is still right.
    let (again, asked) = put_asked(dir.path(), &sample(), "another-boot");
    assert_eq!((again.generation, again.unchanged), (3, false));
    assert!(asked.is_empty(), "{asked:?}");
    let hole = dir.path().join("p/000002/src/nothing");
    fs::OpenOptions::new().write(true).open(hole).unwrap().set_len(8).unwrap();
    let tree = sample().file("more", "x");
    let (again, _) = put_asked(dir.path(), &tree, "a-third-boot");
    assert_eq!(fs::read(dir.path().join(format!("p/{:06}/src/nothing", again.generation))).unwrap(), b"");
}

#[test]
fn what_is_there_is_not_sent_and_the_tree_is_the_same() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tree = sample().file("large", vec![7; 5 << 20]).exec("src/moved", "#!/bin/sh\n");
    put(a.path(), &tree);
    put(b.path(), &sample().file("another name", vec![7; 5 << 20]).file("gone", "gone"));
    let (second, asked) = put_asked(b.path(), &tree, BOOT);
    assert!(asked.is_empty(), "moved and copied files are known by their content: {asked:?}");
    assert!(!second.unchanged);
    assert_eq!(listing(&a.path().join("p/000001")), listing(&b.path().join("p/000002")));
    let more = tree.file("more", "new");
    let (_, asked) = put_asked(b.path(), &more, BOOT);
    assert_eq!(asked, [[more.index("more")]]);
}

#[test]
fn what_a_person_changed_in_a_tree_is_not_taken_for_what_was_pushed() {
    let changes: [fn(&Path); 8] = [
        |tree| fs::write(tree.join("default.nix"), "edited").unwrap(),
        |tree| {
            // Of the same length, with the old time: only the time of change tells.
            let file = fs::File::options().write(true).open(tree.join("bin/run")).unwrap();
            let time = file.metadata().unwrap().modified().unwrap();
            file.write_all_at(b"#?", 0).unwrap();
            file.set_modified(time).unwrap();
        },
        |tree| fs::remove_file(tree.join("src/twin")).unwrap(),
        |tree| fs::write(tree.join("empty/deep/more"), "").unwrap(),
        |tree| fs::write(tree.join("flake.lock"), "{}").unwrap(),
        |tree| fs::set_permissions(tree.join("default.nix"), fs::Permissions::from_mode(0o600)).unwrap(),
        |tree| {
            fs::remove_file(tree.join("bin/run")).unwrap();
            std::os::unix::fs::symlink("../default.nix", tree.join("bin/run")).unwrap();
        },
        |tree| fs::rename(tree.join("src"), tree.join("elsewhere")).unwrap(),
    ];
    let clean = tempfile::tempdir().unwrap();
    let pristine = sample().file("note", "n");
    put(clean.path(), &pristine);
    let expected = listing(&clean.path().join("p/000001"));
    for (number, change) in changes.iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), &pristine);
        change(&dir.path().join("p/000001"));
        let edited = listing(&dir.path().join("p/000001"));
        // The same tree, and one that differs by another file.
        let (again, _) = put_asked(dir.path(), &pristine, BOOT);
        assert_eq!((again.generation, again.unchanged), (2, false), "{number}");
        assert_eq!(listing(&dir.path().join("p/000002")), expected, "{number}");
        fs::remove_dir_all(dir.path().join("p/000002")).unwrap();
        put(dir.path(), &sample().file("note", "another"));
        fs::remove_dir_all(dir.path().join("p/000001")).unwrap();
        let more = listing(&dir.path().join("p/000002"));
        let same =
            |lines: &[String]| lines.iter().filter(|l| !l.contains("note")).cloned().collect::<Vec<_>>();
        assert_eq!(same(&more), same(&expected), "{number}");
        assert_ne!(edited, expected, "{number}: the test changed nothing");
    }
}

#[test]
fn links_to_results_are_no_change() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &sample());
    let project = Project::new(dir.path(), "p").unwrap();
    let made = Links { job: "1-1".into(), links: vec![("result".into(), "/nix/store/abc-hello".into())] };
    after_job(&project, 1, made, true).unwrap();
    assert!(put(dir.path(), &sample()).unchanged);
}

#[test]
fn what_is_cut_off_or_corrupt_leaves_the_old_tree() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &sample());
    let before = listing(&dir.path().join("p"));
    let tree = sample().file("big", vec![7; 400_000]).file("later", "z");
    let files = [tree.index("big"), tree.index("later")];
    let whole = [tree.beginning("p"), tree.frames(&files)].concat();
    let step = whole.len() / 50;
    let ends =
        (0..900.min(whole.len())).step_by(23).chain((0..whole.len()).step_by(step)).chain([whole.len() - 1]);
    for end in ends {
        let error = push_bytes(dir.path(), &whole[..end]).unwrap_err();
        assert!(error.contains("ended"), "{end}: {error}");
        assert_eq!(listing(&dir.path().join("p")), before, "{end}");
    }
    let beginning = tree.beginning("p").len();
    for at in (0..1000).step_by(17).chain((beginning..whole.len()).step_by(whole.len() / 30)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x20;
        // A label in another case, or another name for whoever pushed, is no damage to the tree.
        if push_bytes(dir.path(), &bytes).is_ok() {
            assert!(at < beginning, "{at}");
            fs::remove_dir_all(dir.path().join("p")).unwrap();
            put(dir.path(), &sample());
        }
        assert_eq!(without_times(&dir.path().join("p")), without_times_of(&before), "{at}");
    }
    // And then it still works; what follows the end mark is not read.
    let mut more = whole.clone();
    more.extend_from_slice(b"more");
    assert_eq!(done(push_bytes(dir.path(), &more).unwrap()).generation, 2);
}

fn without_times(root: &Path) -> Vec<String> {
    without_times_of(&listing(root))
}

/// Records and locks aside: what is in the trees, and how many there are.
fn without_times_of(lines: &[String]) -> Vec<String> {
    lines.iter().filter(|line| !line.contains(".meta") && !line.contains("current")).cloned().collect()
}

#[test]
fn content_that_is_wrong_is_asked_for_again_once() {
    let dir = tempfile::tempdir().unwrap();
    let tree = sample().file("large", vec![7; 5 << 20]);
    let wrong = tree.clone().file("x", "").0.into_iter().map(|(mut entry, mut content)| {
        entry.path.retain(|_| true);
        if let Some(last) = content.last_mut() {
            *last ^= 1;
        }
        (entry, content)
    });
    let wrong = Tree(wrong.filter(|(entry, _)| entry.path != b"x").collect());
    // A file that was saved while it was sent.
    let (asked, answer) = push_with(dir.path(), "p", &tree, BOOT, |round, files| {
        if round == 0 { wrong.frames(files) } else { tree.frames(files) }
    });
    assert_eq!(done(answer.unwrap()).generation, 1);
    let mut again = asked[1].clone();
    again.sort_unstable();
    assert_eq!(asked.len(), 2);
    assert_eq!(again, asked[0].iter().copied().filter(|i| !tree.content(*i).is_empty()).collect::<Vec<_>>());
    assert_eq!(fs::read(dir.path().join("p/000001/large")).unwrap(), vec![7; 5 << 20]);
    assert!(listing(&dir.path().join("p/000001")).iter().all(|line| line.contains(&MTIME.to_string())));
    // One that lies.
    let tree = tree.file("more", "x");
    let wrong = |files: &[u32]| {
        let frames =
            files.iter().flat_map(|&index| [&Frame::File { index, length: 1 }.encode()[..], b"y"].concat());
        frames.chain(Frame::End.encode()).collect::<Vec<_>>()
    };
    let (asked, answer) = push_with(dir.path(), "p", &tree, BOOT, |_, files| wrong(files));
    assert!(answer.unwrap_err().contains("\"more\" is not what was announced"));
    assert_eq!(asked.len(), 2);
    assert_eq!(fs::read_link(dir.path().join("p/current")).unwrap(), Path::new("000001"));
    assert!(!dir.path().join("p/000002").exists() && !dir.path().join("p/.incoming").exists());
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_large_file_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::default().file("a", vec![1; 13 << 20]).file("b", "b");
    for left in [5 << 20, 12 << 20, (13 << 20) + 12] {
        let (_, answer) =
            push_with(dir.path(), "p", &tree, BOOT, |_, files| tree.frames(files)[..left].to_vec());
        assert!(answer.unwrap_err().contains("ended"), "{left}");
        assert!(!dir.path().join("p/000001").exists() && !dir.path().join("p/.incoming").exists());
    }
    put(dir.path(), &tree);
    assert_eq!(fs::read(dir.path().join("p/000001/a")).unwrap(), vec![1; 13 << 20]);
}

#[test]
fn only_what_was_asked_for_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let tree = sample();
    let link = tree.index("out");
    let cases: [(&[u32], &str); 4] = [
        (&[0, 0, 1, 4, 5, 7], "nobody asked"),
        (&[0, 99], "nobody asked"),
        (&[link], "nobody asked"),
        (&[0, 1], "did not send 3"),
    ];
    for (files, expected) in cases {
        let frames: Vec<u8> = files
            .iter()
            .flat_map(|&index| {
                let content = if index == 99 { b"" } else { tree.content(index) };
                [&Frame::File { index, length: content.len() as u64 }.encode()[..], content].concat()
            })
            .chain(Frame::End.encode())
            .collect();
        let (_, answer) = push_with(dir.path(), "p", &tree, BOOT, |_, _| frames.clone());
        let error = answer.unwrap_err();
        assert!(error.contains(expected), "{files:?}: {error}");
        assert!(!dir.path().join("p/000001").exists() && !dir.path().join("p/.incoming").exists());
    }
}

#[test]
fn hostile_trees_are_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let projects = dir.path().join("projects");
    fs::create_dir(&projects).unwrap();
    let outside = dir.path().join("outside").display().to_string();
    for tree in [
        Tree::default().file(&outside, "x"),
        Tree::default().file("../../outside", "x"),
        Tree::default().link("l", "../..").file("l/outside", "x"),
        Tree::default().folder("a/../../../outside"),
        Tree::default().file("f", "x").file("f/x", "x"),
    ] {
        let error = push(&projects, &tree).unwrap_err();
        assert!(error.contains("the tree is refused"), "{error}");
    }
    for project in ["../p", "", "a/b", ".x"] {
        assert!(push_bytes(&projects, &sample().bytes(project)).is_err(), "{project:?}");
    }
    let mut header = sample().header("p");
    header.sha256 = "0".repeat(64);
    let bytes = [serde_json::to_vec(&header).unwrap(), b"\n".to_vec(), sample().manifest()].concat();
    assert!(push_bytes(&projects, &bytes).unwrap_err().contains("not what was sent"));
    assert!(push_bytes(&projects, b"{}\n").is_err());
    assert_eq!(fs::read_dir(&projects).unwrap().count(), 0);
    assert!(!Path::new(&outside).exists());
}

#[test]
fn concurrent_pushes_do_not_mix_and_say_that_they_wait() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let start = Arc::new(Barrier::new(6));
    let pushes: Vec<_> = (0..6)
        .map(|n| {
            let (dir, start) = (Arc::clone(&dir), Arc::clone(&start));
            std::thread::spawn(move || {
                let mut tree = Tree::default();
                for file in 0..40 {
                    tree = tree.file(format!("d/{file}"), format!("{n} {file}").repeat(2000));
                }
                let bytes = tree.bytes("p");
                let (mut output, mut waited) = (Vec::new(), false);
                let mut input = std::io::Cursor::new(bytes);
                start.wait();
                user_init::project::receive(dir.path(), BOOT, &mut input, &mut output, |_| waited = true)
                    .unwrap();
                waited
            })
        })
        .collect();
    let waited = pushes.into_iter().map(|t| t.join().unwrap()).filter(|w| *w).count();
    assert!(waited > 0, "somebody must have waited");
    for generation in 1..=6 {
        let tree = dir.path().join(format!("p/{generation:06}/d"));
        let whose = fs::read_to_string(tree.join("0")).unwrap()[..1].to_owned();
        for file in 0..40 {
            let content = fs::read_to_string(tree.join(file.to_string())).unwrap();
            assert!(content == format!("{whose} {file}").repeat(2000), "{generation}");
        }
    }
    assert!(!dir.path().join("p/.incoming").exists());
}

#[test]
fn a_killed_push_leaves_nothing_that_counts() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &sample());
    // As one that was killed left it.
    fs::create_dir(dir.path().join("p/.incoming")).unwrap();
    fs::write(dir.path().join("p/.incoming/half"), "").unwrap();
    fs::write(dir.path().join("p/.meta/000002.json"), "{").unwrap();
    assert_eq!(put(dir.path(), &sample().file("x", "")).generation, 2);
    assert!(!dir.path().join("p/000002/half").exists());
}

#[test]
fn old_trees_go_unless_somebody_is_in_them() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..6 {
        put(dir.path(), &sample().file("n", n.to_string()));
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
    assert_eq!(put(dir.path(), &sample().file("n", "new")).generation, 7);
}

#[test]
fn results_are_linked_again_in_the_next_tree() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &sample());
    let project = Project::new(dir.path(), "p").unwrap();
    let made = Links { job: "1-1".into(), links: vec![("result".into(), "/nix/store/abc-hello".into())] };
    after_job(&project, 1, made, true).unwrap();
    let link = |generation: u64| fs::read_link(project.tree(generation).join("result")).ok();
    assert!(link(1).is_some());
    put(dir.path(), &sample().file("x", ""));
    assert_eq!(link(2).unwrap(), Path::new("/nix/store/abc-hello"));
    // While a build evaluates there is none; a failed one gives the old one back.
    before_job(&project, 2).unwrap();
    assert_eq!(link(2), None);
    after_job(&project, 2, Links::default(), false).unwrap();
    assert_eq!(link(2), None, "another job still evaluates");
    after_job(&project, 2, Links::default(), true).unwrap();
    assert!(link(2).is_some());
    // What came with the tree is content.
    put(dir.path(), &sample().link("result", "/nix/store/theirs"));
    before_job(&project, 3).unwrap();
    assert_eq!(link(3).unwrap(), Path::new("/nix/store/theirs"));
}
