//! Trees whose content travels as zstd.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;

use common::tree::{Tree, sample};
use common::{listing, push_bytes};
use contract::job::{Generation, PushAnswer, PushHeader};
use contract::tree::WINDOW_LOG;

/// Large enough for pieces; compressible, and not.
fn tree() -> Tree {
    let noise =
        (0..300_000u64).flat_map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (n << 7)).to_le_bytes());
    sample().file("large", vec![7; 5 << 20]).file("noise", noise.collect::<Vec<u8>>())
}

fn beginning(tree: &Tree) -> Vec<u8> {
    let header = PushHeader { zstd: true, ..tree.header("p") };
    [serde_json::to_vec(&header).unwrap(), b"\n".to_vec(), tree.manifest()].concat()
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn done(answer: Result<PushAnswer, String>) -> Generation {
    match answer.unwrap() {
        PushAnswer::Done(generation) => generation,
        PushAnswer::Send { .. } => panic!("content was asked for and nothing more"),
    }
}

fn nothing_is_there(projects: &Path) {
    assert!(!projects.join("p/000001").exists() && !projects.join("p/.incoming").exists());
}

#[test]
fn a_packed_tree_is_the_same_tree() {
    let (plain, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tree = tree();
    done(push_bytes(plain.path(), &tree.bytes("p")));
    let content = packed(&tree.frames(&tree.files()));
    assert!(content.len() < 3 << 20, "5 MiB of sevens are not sent as such: {}", content.len());
    done(push_bytes(dir.path(), &[beginning(&tree), content].concat()));
    assert_eq!(listing(&dir.path().join("p/000001")), listing(&plain.path().join("p/000001")));
}

#[test]
fn what_is_asked_for_again_is_a_frame_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let tree = tree();
    let wrong = Tree(tree.0.iter().map(|(entry, content)| (entry.clone(), vec![0; content.len()])).collect());
    let files = tree.files();
    let again: Vec<u32> = files.iter().copied().filter(|index| !tree.content(*index).is_empty()).collect();
    let frames = [packed(&wrong.frames(&files)), packed(&tree.frames(&again))].concat();
    assert_eq!(done(push_bytes(dir.path(), &[beginning(&tree), frames].concat())).generation, 1);
    assert_eq!(fs::read(dir.path().join("p/000001/large")).unwrap(), vec![7; 5 << 20]);
}

#[test]
fn what_is_cut_off_corrupt_or_too_much_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let tree = sample();
    let (beginning, files) = (beginning(&tree), tree.files());
    let content = packed(&tree.frames(&files));
    let push = |content: &[u8]| {
        let answer = push_bytes(dir.path(), &[&beginning, content].concat());
        answer.inspect_err(|_| nothing_is_there(dir.path()))
    };
    for end in 0..content.len() {
        let error = push(&content[..end]).unwrap_err();
        assert!(error.contains("ended"), "{end}: {error}");
    }
    assert!(push(&tree.frames(&files)).unwrap_err().contains("could not be read"), "it is not packed");
    let more = packed(&[tree.frames(&files), b"more".to_vec()].concat());
    assert!(push(&more).unwrap_err().contains("more than it was asked for"));
    let mut wide = zstd::Encoder::new(Vec::new(), 1).unwrap();
    wide.window_log(WINDOW_LOG + 1).unwrap();
    wide.write_all(&tree.frames(&files)).unwrap();
    assert!(push(&wide.finish().unwrap()).unwrap_err().contains("could not be read"), "a window of 16 MiB");
    assert_eq!(done(push(&content)).generation, 1);
}

#[test]
fn who_does_not_know_of_it_sends_and_is_sent_what_is_plain() {
    let header = PushHeader { zstd: true, ..sample().header("p") };
    let older = serde_json::to_string(&header).unwrap().replace(",\"zstd\":true", "");
    assert!(!older.contains("zstd") && !serde_json::from_str::<PushHeader>(&older).unwrap().zstd);
    let answer: PushAnswer = serde_json::from_str(r#"{"answer":"send","files":[1]}"#).unwrap();
    assert_eq!(answer, PushAnswer::Send { files: vec![1], zstd: false });
}
