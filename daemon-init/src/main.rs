//! `daemon-init`: makes the store and runs nix-daemon. See the library.

use std::process::ExitCode;

use agent::args;

const ABOUT: &str = "daemon-init: seeds the store volume from the image, mounts it over /nix, runs nix-daemon and says when it is ready.

Usage: daemon-init [OPTIONS] [COMMAND]

Commands:
  serve [--adopt-store]     the container's entry point (default): mount the volume, seed it, serve it
  serve --isolation userns  the same in a user namespace of the pod's: serve the volume at /nix, seeded by `prepare --seed`
  prepare                   only set up the run volume and the mount points (a root init container)
  prepare --seed [--adopt-store]
                            bring the image's store onto the volume as well
  leave                     ask all agents of the pod to end, without waiting for work if they are ending already
  keys add | keys rm        take signatures by the public keys on standard input, or take them no longer; no restart
  logs CONTAINER [--previous]
                            what that container's agent logged last, in this life of the pod or the one before
  ask                       put the question on standard input to the daemon-init that serves; the answer is JSON, a line each
  accept-home               the mounted home volume is the one for this store: collections may run again
  bake [BASE]               while an image is built: write down what its store holds

--adopt-store takes over a store that was copied onto the volume by other means.";

fn main() -> ExitCode {
    let args = args::parse("daemon-init", env!("CARGO_PKG_VERSION"), ABOUT);
    ExitCode::from(daemon_init::run(&args).code())
}
