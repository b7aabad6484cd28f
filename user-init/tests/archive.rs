//! Archives of others: what is taken is exactly the tree, and nothing lands outside of it.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use common::listing;
use common::tar::{Archive, TIME, sample};
use user_init::archive::{Refused, Unpacked, unpack};

/// A folder to unpack into with a precious neighbour.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/precious"), "precious").unwrap();
        Self(dir)
    }

    fn tree(&self) -> PathBuf {
        self.0.path().join("tree")
    }

    fn unpack(&self, archive: &[u8]) -> Result<Unpacked, Refused> {
        unpack(archive, &self.tree())
    }

    fn outside(&self) -> Vec<String> {
        let mut names: Vec<String> =
            listing(self.0.path()).into_iter().filter(|l| !l.starts_with("\"tree")).collect();
        // Times of folders show what was made in them and removed again.
        names.sort();
        names
    }
}

#[test]
fn everything_that_is_allowed() {
    let scratch = Scratch::new();
    let done = scratch.unpack(&sample().end()).unwrap();
    assert_eq!(done.latest, i64::try_from(TIME).unwrap());
    let tree = scratch.tree();
    let expected = [
        r#""bin/" 755"#,
        r#""bin/run" 755"#,
        r#""default.nix" 644"#,
        r#""empty/" 755"#,
        r#""out" -> "/nowhere/outside""#,
        r#""src/" 755"#,
        r#""src/\xFF\xFE" 644"#,
        r#""src/a b\nc" 644"#,
        r#""src/hard" 644"#,
        r#""src/link" -> "../default.nix""#,
    ];
    let mut found: Vec<String> = listing(&tree).iter().map(|l| l.replace("\"/ ", "/\" ")).collect();
    found.sort();
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (line, expected) in found.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line} is not {expected}");
        assert!(line.contains(&TIME.to_string()), "{line} has not the archive's time");
    }
    assert_eq!(fs::metadata(&tree).unwrap().mtime(), done.latest);
    assert_eq!(
        fs::metadata(tree.join("src/hard")).unwrap().ino(),
        fs::metadata(tree.join("default.nix")).unwrap().ino()
    );
}

#[test]
fn long_names_of_either_kind() {
    let scratch = Scratch::new();
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    let target = format!("/{}", "t".repeat(150));
    let archive = Archive::default()
        .pax(&[("path", long.as_bytes()), ("mtime", b"1600000000.5")])
        .file("short", "pax")
        .gnu_long(b'L', format!("{long}g").as_bytes())
        .file("short", "gnu")
        .gnu_long(b'K', target.as_bytes())
        .link("l", "short")
        .pax(&[("path", b"new\nline=1"), ("linkpath", b"\xff")])
        .link("l2", "x");
    scratch.unpack(&archive.end()).unwrap();
    let tree = scratch.tree();
    assert_eq!(fs::read_to_string(tree.join(&long)).unwrap(), "pax");
    assert_eq!(fs::metadata(tree.join(&long)).unwrap().mtime(), 1_600_000_000);
    assert_eq!(fs::read_to_string(tree.join(format!("{long}g"))).unwrap(), "gnu");
    assert_eq!(fs::read_link(tree.join("l")).unwrap().to_str(), Some(target.as_str()));
    assert_eq!(fs::read_link(tree.join("new\nline=1")).unwrap().as_os_str().as_bytes(), b"\xff");
    assert!(!tree.join("short").exists());
}

#[test]
fn later_entries_replace_earlier_ones_and_never_write_into_them() {
    let scratch = Scratch::new();
    let archive = Archive::default()
        .file("a", "one")
        .hard("b", "a")
        .file("b", "two")
        .link("c", "../outside/precious")
        .file("c", "three")
        .dir("d/")
        .dir("d/");
    scratch.unpack(&archive.end()).unwrap();
    let read = |name: &str| fs::read_to_string(scratch.tree().join(name)).unwrap();
    assert_eq!((read("a"), read("b"), read("c")), ("one".into(), "two".into(), "three".into()));
    assert_eq!(fs::read_to_string(scratch.0.path().join("outside/precious")).unwrap(), "precious");
}

#[test]
fn results_that_came_along_are_told() {
    let scratch = Scratch::new();
    let done = scratch
        .unpack(&Archive::default().link("result", "/nix/store/x").file("a/result", "").end())
        .unwrap();
    assert_eq!(done.results, ["result"]);
}

type Case = (&'static str, Archive, fn(&Refused) -> bool);

/// One archive per way out of the tree, and per kind of thing that has no place in it.
fn hostile(outside: &str) -> Vec<Case> {
    let new = Archive::default;
    let through: fn(&Refused) -> bool = |e| matches!(e, Refused::Through { .. });
    let parent: fn(&Refused) -> bool = |e| matches!(e, Refused::Parent(_));
    let absolute: fn(&Refused) -> bool = |e| matches!(e, Refused::Absolute(_));
    let kind: fn(&Refused) -> bool = |e| matches!(e, Refused::Kind { .. });
    let hard: fn(&Refused) -> bool = |e| matches!(e, Refused::HardLink { .. });
    let malformed: fn(&Refused) -> bool = |e| matches!(e, Refused::Malformed(_));
    let replaces: fn(&Refused) -> bool = |e| matches!(e, Refused::Replaces(_));
    let name: fn(&Refused) -> bool = |e| matches!(e, Refused::Name(_));
    vec![
        ("absolute", new().file(format!("{outside}/x"), "x"), absolute),
        (
            "absolute in pax",
            new().pax(&[("path", format!("{outside}/x").as_bytes())]).file("x", "x"),
            absolute,
        ),
        ("absolute folder", new().dir("/tmp/"), absolute),
        ("parent", new().file("../outside/x", "x"), parent),
        ("parent inside", new().file("a/../../outside/x", "x"), parent),
        ("parent that stays inside", new().file("a/../x", "x"), parent),
        ("parent in a long name", new().gnu_long(b'L', b"a/../../outside/x").file("x", "x"), parent),
        ("parent folder", new().dir(".."), parent),
        ("through a link", new().link("l", "../outside").file("l/x", "x"), through),
        ("through an absolute link", new().link("l", outside).file("l/precious", "x"), through),
        ("through a link to the tree", new().dir("d/").link("l", "d").file("l/x", "x"), through),
        (
            "through a link in the middle",
            new().dir("a/").link("a/l", "../../outside").file("a/l/b/x", "x"),
            through,
        ),
        ("folder through a link", new().link("l", "../outside").dir("l/new/"), through),
        ("link through a link", new().link("l", "../outside").link("l/x", "y"), through),
        (
            "through a hard link to a link",
            new().link("l", "../outside").hard("h", "l").file("h/x", "x"),
            through,
        ),
        ("through a file", new().file("f", "x").file("f/x", "x"), through),
        ("folder over a link", new().link("l", "../outside").dir("l/"), replaces),
        ("folder over a file", new().file("l", "").dir("l"), replaces),
        ("file over a folder", new().dir("d/").file("d", "x"), replaces),
        ("link over a folder", new().dir("d/").file("d/x", "x").link("d", "../outside"), replaces),
        ("hard link out", new().hard("h", "../outside/precious"), hard),
        ("hard link to an absolute name", new().hard("h", &format!("{outside}/precious")), hard),
        ("hard link through a link", new().link("l", "../outside").hard("h", "l/precious"), hard),
        ("hard link to nothing", new().hard("h", "nothing"), hard),
        ("hard link to itself", new().file("h", "x").hard("h", "h"), hard),
        ("hard link to a folder", new().dir("d/").hard("h", "d"), hard),
        ("character device", new().entry(b'3', b"null", b"", 0o666, b""), kind),
        ("block device", new().entry(b'4', b"sda", b"", 0o666, b""), kind),
        ("pipe", new().entry(b'6', b"pipe", b"", 0o666, b""), kind),
        ("sparse file", new().entry(b'S', b"s", b"", 0o644, b""), kind),
        ("pax sparse file", new().pax(&[("GNU.sparse.major", b"1")]).file("s", ""), kind),
        ("unknown", new().entry(b'V', b"volume", b"", 0o644, b""), kind),
        ("two sizes", new().pax(&[("size", b"1")]).file("x", "xx"), kind),
        ("no name", new().file("", "x"), name),
        ("only dots", new().file("./.", "x"), name),
        ("a zero byte", new().pax(&[("path", b"a\0b")]).file("x", "x"), name),
        ("a part too long", new().pax(&[("path", "x".repeat(256).as_bytes())]).file("x", "x"), name),
        ("a name too long", new().pax(&[("path", "x/".repeat(3000).as_bytes())]).file("x", "x"), name),
        ("records too long", new().pax(&[("comment", &[b'x'; 70_000])]).file("x", "x"), malformed),
        ("broken records", new().entry(b'x', b"p", b"", 0o644, b"99 path=x\n").file("x", "x"), malformed),
        ("a name without a file", new().gnu_long(b'L', b"x"), malformed),
        ("no archive", Archive(vec![b'x'; 1024]), malformed),
    ]
}

#[test]
fn nothing_lands_outside() {
    for (what, _, _) in hostile("/x") {
        let scratch = Scratch::new();
        let outside = scratch.0.path().join("outside").display().to_string();
        let (_, archive, expected) = hostile(&outside).into_iter().find(|c| c.0 == what).unwrap();
        let before = scratch.outside();
        let error = scratch.unpack(&archive.end()).unwrap_err();
        assert!(expected(&error), "{what}: {error:?}");
        assert_eq!(scratch.outside(), before, "{what}");
        assert!(!agent::status::chain(&error).is_empty());
    }
}

#[test]
fn an_archive_that_ends_anywhere_else_than_between_entries_is_refused() {
    let whole = sample().0;
    let mut good = 0;
    for end in (0..whole.len()).step_by(97) {
        let scratch = Scratch::new();
        match scratch.unpack(&whole[..end]) {
            Ok(_) => {
                assert_eq!(end % 512, 0, "{end}");
                good += 1;
            }
            Err(Refused::Malformed(_)) => {}
            Err(e) => panic!("{end}: {e:?}"),
        }
    }
    assert!(good <= 1, "the hash of the whole guards what an early end marker cannot");
}
