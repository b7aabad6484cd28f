//! `push-tarball` up to the bytes that would be sent, which are held against `git archive`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use contract::tree::{self, Frame, Kind};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::sandbox::{Run, Sandbox};

/// Path to type, mode, content or target; folders end with a slash.
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
    let output = sandbox.path("out");
    let mut all = vec!["push-tarball", "--output", output.to_str().unwrap()];
    all.extend(args);
    let run = sandbox.cli(all);
    assert_eq!(run.code, 0, "{run:?}");
    (run, fs::read(output).unwrap())
}

fn head<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (head, rest) = bytes.split_at(N);
    *bytes = rest;
    head.try_into().unwrap()
}

/// What a builder makes of it.
fn entries(mut bytes: &[u8]) -> Entries {
    let length = usize::try_from(u64::from_le_bytes(head(&mut bytes))).unwrap();
    let (manifest, mut rest) = bytes.split_at(length);
    let listed = tree::parse(manifest).unwrap();
    let mut contents = BTreeMap::new();
    while let Frame::File { index, length } = Frame::parse(head::<{ tree::FRAME }>(&mut rest)) {
        let (content, next) = rest.split_at(usize::try_from(length).unwrap());
        contents.insert(usize::try_from(index).unwrap(), content.to_vec());
        rest = next;
    }
    assert!(rest.is_empty());
    let mut entries = BTreeMap::new();
    for (index, entry) in listed.into_iter().enumerate() {
        for folder in tree::folders(&entry.path) {
            entries.insert([folder, b"/"].concat(), (b'5', 0o755, Vec::new()));
        }
        let (path, what) = match entry.kind {
            Kind::Folder => ([&entry.path, &b"/"[..]].concat(), (b'5', 0o755, Vec::new())),
            Kind::Link { target } => (entry.path, (b'2', 0o777, target)),
            Kind::File { executable, id } => {
                let content = contents.remove(&index).unwrap();
                assert_eq!(id, git_id(&content, id.len()), "a builder would refuse it: {:?}", entry.path);
                (entry.path, (b'0', if executable { 0o755 } else { 0o644 }, content))
            }
        };
        entries.insert(path, what);
    }
    entries
}

fn git_id(content: &[u8], length: usize) -> String {
    let blob = [format!("blob {}\0", content.len()).as_bytes(), content].concat();
    let hash = if length == 40 { Sha1::digest(&blob).to_vec() } else { Sha256::digest(&blob).to_vec() };
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What `tar` makes of an archive.
fn tar_entries(archive: &Path) -> Entries {
    let root = tempfile::tempdir().unwrap();
    let tar = Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(root.path()).status().unwrap();
    assert!(tar.success());
    let mut entries = BTreeMap::new();
    let mut folders = vec![root.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root.path()).unwrap().as_os_str().as_bytes().to_vec();
            let meta = path.symlink_metadata().unwrap();
            let mode = meta.permissions().mode() & 0o777;
            if meta.is_symlink() {
                entries
                    .insert(name, (b'2', 0o777, fs::read_link(&path).unwrap().into_os_string().into_vec()));
            } else if meta.is_dir() {
                entries.insert([&name, &b"/"[..]].concat(), (b'5', mode, Vec::new()));
                folders.push(path);
            } else {
                entries.insert(name, (b'0', mode, fs::read(&path).unwrap()));
            }
        }
    }
    entries
}

/// What is sent of HEAD is what `git archive` makes of it.
fn assert_exact(sandbox: &Sandbox) -> Entries {
    let (_, bytes) = archive(sandbox, &[]);
    let found = entries(&bytes);
    let path = sandbox.path("reference.tar");
    sandbox.git(["-c", "tar.umask=0022", "archive", "-o", path.to_str().unwrap(), "HEAD"]);
    let expected = tar_entries(&path);
    let shown = |entries: &Entries| {
        entries
            .iter()
            .map(|(path, what)| format!("{:?} {what:?}", String::from_utf8_lossy(path)))
            .collect::<Vec<_>>()
    };
    assert_eq!(shown(&found), shown(&expected));
    found
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
    let found = assert_exact(&sandbox);
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
    let long = format!("{}/a\nnewline {}", "deep".repeat(30), "name".repeat(40));
    sandbox.write(
        ".gitattributes",
        "secret export-ignore\nonly/** export-ignore\nall export-ignore\nslash/ export-ignore\n\
         version export-subst\n*name export-subst\nident ident\ndos eol=crlf\nutf16 working-tree-encoding=UTF-16LE\n\
         *.up filter=up\nplain filter=absent\n[attr]mine export-subst\nmacro mine\nunset -export-subst\n\
         nested/*.txt text\n",
    );
    sandbox.git(["config", "filter.up.smudge", "/usr/bin/tr a-z A-Z"]);
    sandbox.git(["config", "filter.up.clean", "/usr/bin/tr A-Z a-z"]);
    for file in
        ["secret", "only/this", "only/deep/that", "all/of/it", "slash/x", "nested/slash/x", "nested/secret"]
    {
        sandbox.write(file, "s");
    }
    sandbox.write("nested/.gitattributes", "hidden export-ignore\n*.txt -text export-subst\n");
    sandbox.write("nested/hidden", "s");
    sandbox.write("nested/a.txt", "$Format:%H$\r\n");
    sandbox.write("empty-but-for/.gitattributes", "* export-ignore\n");
    for file in ["version", "macro", "unset", &*long] {
        sandbox.write(file, "$Format:%s$");
    }
    sandbox.write("ident", "$Id$");
    sandbox.write("dos", "one\ntwo\n");
    sandbox.write("shout.up", "shout\n");
    sandbox.write("plain", "as it is\n");
    fs::write(sandbox.work().join("utf16"), "h\0i\0\n\0").unwrap();
    sandbox.write("kept", "k");
    commit(&sandbox);
    let found = assert_exact(&sandbox);
    assert!(!found.contains_key(&b"secret"[..]) && !found.contains_key(&b"only/this"[..]));
    assert_eq!(found[&b"version"[..]].2, b"x");
    assert_eq!(found[&b"shout.up"[..]].2, b"SHOUT\n");
    assert!(found.contains_key(&b"kept"[..]));
    // Attributes that are in no commit.
    fs::write(sandbox.work().join(".git/info/attributes"), "kept export-ignore\nplain export-subst\n")
        .unwrap();
    assert!(!assert_exact(&sandbox).contains_key(&b"kept"[..]));
    // Of the commit, not of the working tree.
    sandbox.write(".gitattributes", "version export-ignore\n");
    sandbox.git(["add", "-A"]);
    assert!(assert_exact(&sandbox).contains_key(&b"version"[..]));
}

#[test]
fn what_configuration_makes_of_files_is_honoured() {
    let sandbox = repository();
    sandbox.write("text", "one\ntwo\n");
    sandbox.write("other", "three\n");
    commit(&sandbox);
    sandbox.git(["config", "core.autocrlf", "true"]);
    assert_eq!(assert_exact(&sandbox)[&b"text"[..]].2, b"one\r\ntwo\r\n");
    sandbox.git(["config", "core.autocrlf", "input"]);
    assert_eq!(assert_exact(&sandbox)[&b"text"[..]].2, b"one\ntwo\n");
    let old = sandbox.git(["rev-parse", "HEAD:text"]);
    let new = sandbox.git(["rev-parse", "HEAD:other"]);
    sandbox.git(["replace", old.trim(), new.trim()]);
    assert_eq!(assert_exact(&sandbox)[&b"text"[..]].2, b"three\n");
}

#[test]
fn what_git_wrongly_takes_for_unchanged_is_sent_from_its_objects_when_asked_again() {
    // The first answer may be wrong: the builder sees that by the id, and asks again. What must not happen is that the
    // manifest says what the working tree holds.
    let sandbox = repository();
    sandbox.write("file", "committed");
    commit(&sandbox);
    sandbox.git(["update-index", "--assume-unchanged", "file"]);
    sandbox.write("file", "something");
    let (_, bytes) = archive(&sandbox, &[]);
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let manifest = tree::parse(&bytes[8..8 + length]).unwrap();
    let id = git_id(b"committed", 40);
    assert_eq!(manifest[0].kind, Kind::File { executable: false, id });
}

#[test]
fn other_object_formats_work() {
    let sandbox = Sandbox::new();
    sandbox.borrow("git");
    sandbox.git(["init", "-q", "-b", "main", "--object-format=sha256"]);
    sandbox.write("file", "content");
    commit(&sandbox);
    assert_exact(&sandbox);
}

#[test]
fn changed_removed_and_replaced_files_of_the_working_tree_do_not_matter() {
    let sandbox = repository();
    for file in ["changed", "removed", "linked", "folder", "deep/in/it", "kept", "staged"] {
        sandbox.write(file, file);
    }
    commit(&sandbox);
    sandbox.write("changed", "other");
    sandbox.write("staged", "other");
    sandbox.git(["add", "staged"]);
    for file in ["removed", "linked", "folder"] {
        fs::remove_file(sandbox.work().join(file)).unwrap();
    }
    symlink("kept", sandbox.work().join("linked")).unwrap();
    fs::create_dir(sandbox.work().join("folder")).unwrap();
    fs::remove_dir_all(sandbox.work().join("deep")).unwrap();
    symlink("/", sandbox.work().join("deep")).unwrap();
    assert_exact(&sandbox);
    // An index that cannot be read.
    fs::write(sandbox.work().join(".git/index"), "no index").unwrap();
    assert_exact(&sandbox);
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
    assert_exact(&sandbox);
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
fn what_was_saved_in_the_second_of_a_commit_is_sent() {
    let sandbox = repository();
    // A stand-in for two changes within one tick: what git compares of the file is the same before and after.
    sandbox.git(["config", "core.trustctime", "false"]);
    let then = SystemTime::now() - Duration::from_secs(3600);
    let write = |content: &str| {
        let file = sandbox.write("file", content);
        File::options().write(true).open(file).unwrap().set_modified(then).unwrap();
    };
    write("1");
    commit(&sandbox);
    let index = sandbox.work().join(".git/index");
    File::options().write(true).open(index).unwrap().set_modified(then).unwrap();
    write("2");
    let (_, bytes) = archive(&sandbox, &["--dirty"]);
    assert_eq!(entries(&bytes)[&b"file"[..]].2, b"2");
    // And what is committed, at once from the objects.
    assert_exact(&sandbox);
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
