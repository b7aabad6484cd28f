//! `push-tarball` up to the bytes that would be sent.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::sandbox::{Run, Sandbox};

/// Path to type, mode, content or target.
type Entries = BTreeMap<Vec<u8>, (u8, u32, Vec<u8>)>;

fn repository() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.borrow("git");
    sandbox.git(["init", "-q", "-b", "main"]);
    sandbox
}

fn commit(sandbox: &Sandbox) {
    sandbox.git(["add", "-A"]);
    sandbox.git(["commit", "-q", "-m", "x"]);
}

fn archive(sandbox: &Sandbox, args: &[&str]) -> (Run, Vec<u8>) {
    let output = sandbox.path("out.tar");
    let mut all = vec!["push-tarball", "--output", output.to_str().unwrap()];
    all.extend(args);
    let run = sandbox.cli(all);
    assert_eq!(run.code, 0, "{run:?}");
    let bytes = fs::read(output).unwrap();
    for entry in tar::Archive::new(&*bytes).entries().unwrap() {
        assert_eq!(entry.unwrap().header().mtime().unwrap(), 315_532_800, "times do not depend on anything");
    }
    (run, bytes)
}

fn entries(bytes: &[u8]) -> Entries {
    let mut archive = tar::Archive::new(bytes);
    let mut entries = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header();
        let (kind, mode) = (header.entry_type().as_byte(), header.mode().unwrap());
        let path = entry.path_bytes().into_owned();
        let mut content = entry.link_name_bytes().map(|name| name.into_owned()).unwrap_or_default();
        entry.read_to_end(&mut content).unwrap();
        entries.insert(path, (kind, mode, content));
    }
    entries
}

/// What `git archive` itself holds.
fn reference(sandbox: &Sandbox) -> Entries {
    let path = sandbox.path("reference.tar");
    sandbox.git(["-c", "tar.umask=0022", "archive", "-o", path.to_str().unwrap(), "HEAD^{tree}"]);
    entries(&fs::read(path).unwrap())
}

#[test]
fn odd_names_modes_and_links_arrive_as_they_are() {
    let sandbox = repository();
    let odd = std::ffi::OsString::from_vec(b"bytes \xff\xfe".to_vec());
    sandbox.write("a space", "1");
    sandbox.write("a\nnewline", "2");
    sandbox.write("-dash", "3");
    fs::write(sandbox.work().join(odd), "4").unwrap();
    let long = format!("{}/{}", "deep".repeat(30), "name".repeat(40));
    sandbox.write(&long, "5");
    let tool = sandbox.write("tool", "#!/bin/sh\n");
    fs::set_permissions(tool, fs::Permissions::from_mode(0o755)).unwrap();
    symlink("a space", sandbox.work().join("link")).unwrap();
    symlink("/absent/outside", sandbox.work().join("dangling")).unwrap();
    sandbox.write("empty", "");
    commit(&sandbox);
    let (_, bytes) = archive(&sandbox, &[]);
    let found = entries(&bytes);
    assert_eq!(found, reference(&sandbox));
    assert_eq!(found[&b"bytes \xff\xfe"[..]].2, b"4");
    assert_eq!(found[&b"a\nnewline"[..]].2, b"2");
    assert_eq!(found[long.as_bytes()].2, b"5");
    assert_eq!(found[&b"tool"[..]].1 & 0o777, 0o755);
    assert_eq!(found[&b"link"[..]], (b'2', 0o777, b"a space".to_vec()));
}

#[test]
fn the_same_tree_is_the_same_bytes() {
    let sandbox = repository();
    sandbox.write("file", "content");
    commit(&sandbox);
    let (_, first) = archive(&sandbox, &[]);
    sandbox.git(["commit", "-q", "--allow-empty", "-m", "another commit of the same tree"]);
    let (_, second) = archive(&sandbox, &[]);
    assert!(first == second, "an unchanged tree must be found in the builder by its hash");
    let (_, dirty) = archive(&sandbox, &["--dirty"]);
    assert!(first == dirty, "a clean working tree is HEAD");
    sandbox.write("sub/folder/file", "x");
    let (_, dirty) = archive(&sandbox, &["--dirty"]);
    commit(&sandbox);
    let (_, committed) = archive(&sandbox, &[]);
    assert!(dirty == committed, "what is pushed before a commit is there after it");
}

#[test]
fn attributes_are_honoured() {
    let sandbox = repository();
    sandbox.write(".gitattributes", "secret export-ignore\nonly/** export-ignore\nversion export-subst\n");
    sandbox.write("secret", "s");
    sandbox.write("only/this", "s");
    sandbox.write("version", "$Format:%s$");
    sandbox.write("kept", "k");
    commit(&sandbox);
    let (_, bytes) = archive(&sandbox, &[]);
    let found = entries(&bytes);
    assert!(!found.contains_key(&b"secret"[..]) && !found.contains_key(&b"only/this"[..]));
    assert_eq!(found[&b"version"[..]].2, b"x");
    assert!(found.contains_key(&b"kept"[..]));
}

#[test]
fn submodules_are_named_and_arrive_empty() {
    let sandbox = repository();
    sandbox.write("file", "x");
    commit(&sandbox);
    let head = sandbox.git(["rev-parse", "HEAD"]);
    sandbox.git(["update-index", "--add", "--cacheinfo", &format!("160000,{},vendor/lib", head.trim())]);
    sandbox.git(["commit", "-q", "-m", "submodule"]);
    let (run, bytes) = archive(&sandbox, &[]);
    assert!(run.stderr.contains("warning: vendor/lib is a submodule"), "{run:?}");
    assert_eq!(entries(&bytes)[&b"vendor/lib/"[..]].0, b'5');
}

#[test]
fn an_old_revision_and_a_folder_below_the_top_work() {
    let sandbox = repository();
    sandbox.write("a/file", "old");
    commit(&sandbox);
    sandbox.git(["tag", "v1"]);
    sandbox.write("a/file", "new");
    commit(&sandbox);
    let output = sandbox.path("out.tar");
    let mut command = sandbox.command(
        env!("CARGO_BIN_EXE_trampoline-cli"),
        ["push-tarball", "v1", "--output", output.to_str().unwrap()],
    );
    assert!(command.current_dir(sandbox.work().join("a")).status().unwrap().success());
    let found = entries(&fs::read(output).unwrap());
    assert_eq!(found[&b"a/file"[..]].2, b"old", "the whole tree, wherever one stands: {:?}", found.keys());
}

#[test]
fn dirty_adds_the_working_tree_and_leaves_the_repository_alone() {
    let sandbox = repository();
    sandbox.write(".gitignore", "ignored\n");
    sandbox.write("kept", "1");
    sandbox.write("changed", "1");
    sandbox.write("removed", "1");
    sandbox.write("staged", "1");
    commit(&sandbox);
    sandbox.write("staged", "2");
    sandbox.git(["add", "staged"]);
    sandbox.write("changed", "2");
    fs::remove_file(sandbox.work().join("removed")).unwrap();
    sandbox.write("new file", "n");
    sandbox.write("ignored", "i");
    let before = snapshot(&sandbox);
    let (_, bytes) = archive(&sandbox, &["--dirty"]);
    assert!(before == snapshot(&sandbox), "the user's repository was written to");
    let found = entries(&bytes);
    let content = |name: &str| found.get(name.as_bytes()).map(|entry| entry.2.clone());
    assert_eq!(content("changed"), Some(b"2".to_vec()));
    assert_eq!(content("staged"), Some(b"2".to_vec()));
    assert_eq!(content("new file"), Some(b"n".to_vec()));
    assert_eq!((content("removed"), content("ignored")), (None, None));
}

#[test]
fn dirty_works_before_the_first_commit() {
    let sandbox = repository();
    sandbox.write("file", "x");
    let (_, bytes) = archive(&sandbox, &["--dirty"]);
    assert_eq!(entries(&bytes)[&b"file"[..]].2, b"x");
}

/// Every file of `.git` with its content.
fn snapshot(sandbox: &Sandbox) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![sandbox.work().join(".git")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                found.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
    }
    found
}
