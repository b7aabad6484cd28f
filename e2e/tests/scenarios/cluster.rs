//! What only a cluster does to a builder.

pub(crate) mod access;
pub(crate) mod account;
pub(crate) mod claims;
pub(crate) mod isolation;
pub(crate) mod kubeconfig;
pub(crate) mod lab;
pub(crate) mod lab_userns;
pub(crate) mod life;
pub(crate) mod start;
pub(crate) mod userns;

use e2e::builder::Builder;
use e2e::checkout::Checkout;
use e2e::nix_files::slow;
use e2e::process::Live;

/// A build that has begun, and the number that its output will hold.
fn building(builder: &Builder, seconds: u32) -> (Checkout, Live, String) {
    let tree = builder.pushed("busy", &[("default.nix", &*slow("t-busy", seconds))]);
    let mut build = tree.cli(["build"]).start();
    let begun = build.line("begun ");
    let id = begun.trim().rsplit_once(' ').expect("begun NUMBER").1.to_owned();
    (tree, build, id)
}

fn pod(builder: &Builder) -> String {
    format!("pod/trampoline-{}-0", builder.name())
}

fn set(builder: &Builder) -> String {
    format!("statefulset/trampoline-{}", builder.name())
}
