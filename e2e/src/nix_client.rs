//! The image's own Nix as that of this machine, whose own may be too old for what a scenario shows.

use std::path::{Path, PathBuf};

use crate::call::Call;
use crate::checkout::Checkout;
use crate::setting::setting;

/// Takes the image's store into the working directory and writes `client`, a `nix` that runs what is in there wherever it lies.
const TAKE: &str = "image=$(podman create \"$1\")
trap 'podman rm \"$image\" >/dev/null' EXIT
podman export \"$image\" | tar -x --wildcards 'nix/store/*'
one() { find \"$PWD/nix/store\" \"$@\" -print -quit; }
libraries=$(find \"$PWD/nix/store\" -name 'lib*.so*' \\( -path '*/lib/*' -o -path '*-linux-gnu/*' \\) -printf '%h\\n' | sort -u | paste -sd :)
printf '#!/bin/sh\\nexec %s --argv0 nix --library-path %s %s \"$@\"\\n' \
  \"$(one -name 'ld-linux-*.so*')\" \"$libraries\" \"$(one -path '*/bin/nix')\" >client
chmod +x client";

/// A Nix with a store of its own, in which nobody else builds.
#[derive(Debug)]
pub struct NixClient {
    dir: PathBuf,
}

impl NixClient {
    /// Beside a checkout.
    ///
    /// # Panics
    /// Without podman, or without the image.
    #[must_use]
    pub fn beside(tree: &Checkout) -> Self {
        let dir = tree.dir().with_file_name("nix-client");
        std::fs::create_dir_all(&dir).expect("a folder of ours");
        Call::new("sh").args(["-euc", TAKE, "sh", &setting().image]).in_dir(&dir).run().ok();
        Self { dir }
    }

    /// `nix ARGUMENT...`, which reaches hosts by the ssh configuration in `file`.
    #[must_use]
    pub fn call(&self, tree: &Checkout, file: &Path) -> Call {
        let nix = self.dir.join("client");
        let settings = format!(
            "substituters =\nbuild-users-group =\nexperimental-features = nix-command\n\
             store = local?root={}\nbuild-hook = {} __build-remote\n",
            self.dir.join("root").display(),
            nix.display()
        );
        tree.call(&nix.to_string_lossy())
            .env("NIX_CONFIG", settings)
            .env("NIX_SSHOPTS", format!("-F {}", file.display()))
    }
}
