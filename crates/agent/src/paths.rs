//! Where things are. The default is the image's layout; tests put everything below a scratch folder.

use std::path::{Path, PathBuf};

use contract::places::{self, Container};

/// All folders that an agent touches.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The run volume.
    pub run: PathBuf,
    /// Root of the chroot store on the store volume.
    pub volume_root: PathBuf,
    /// `/nix`.
    pub nix: PathBuf,
    /// The user's home.
    pub home: PathBuf,
    /// The volume of builds; absent in a pod that was made without one.
    pub build: PathBuf,
    /// The operator's file.
    pub config: PathBuf,
    /// `/opt/trampoline`.
    pub image: PathBuf,
    /// `/proc`.
    pub proc: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            run: places::RUN.into(),
            volume_root: places::VOLUME_ROOT.into(),
            nix: places::NIX.into(),
            home: places::HOME.into(),
            build: places::BUILD.into(),
            config: places::CONFIG_FILE.into(),
            image: places::IMAGE_DIR.into(),
            proc: "/proc".into(),
        }
    }
}

impl Paths {
    /// Everything below one scratch folder; `/proc` stays real.
    #[must_use]
    pub fn scratch(root: &Path) -> Self {
        Self {
            run: root.join("run"),
            volume_root: root.join("volume"),
            nix: root.join("nix"),
            home: root.join("home"),
            build: root.join("build"),
            config: root.join("config/trampoline.toml"),
            image: root.join("image"),
            proc: "/proc".into(),
        }
    }

    /// The same, where the store volume is mounted at `/nix` itself and not beside the image's own store.
    #[must_use]
    pub fn volume_at_nix(mut self) -> Self {
        self.volume_root = self.nix.parent().unwrap_or(&self.nix).to_owned();
        self
    }

    /// A container's folder on the run volume.
    #[must_use]
    pub fn run_dir(&self, container: Container) -> PathBuf {
        self.run.join(container.name())
    }

    /// The store volume's own root.
    #[must_use]
    pub fn volume(&self) -> PathBuf {
        self.volume_root.join("nix")
    }

    /// Our folder on the store volume.
    #[must_use]
    pub fn mark_dir(&self) -> PathBuf {
        self.volume().join(places::MARK_DIR)
    }

    /// The daemon's socket.
    #[must_use]
    pub fn daemon_socket(&self) -> PathBuf {
        self.nix.join("var/nix/daemon-socket/socket")
    }

    /// The profile that holds the image's programs.
    #[must_use]
    pub fn default_profile(&self) -> PathBuf {
        self.nix.join("var/nix/profiles/default")
    }

    /// Pushed trees.
    #[must_use]
    pub fn projects(&self) -> PathBuf {
        self.home.join("projects")
    }

    /// Jobs.
    #[must_use]
    pub fn jobs(&self) -> PathBuf {
        self.home.join(".local/state/trampoline/jobs")
    }

    /// The user's profiles.
    #[must_use]
    pub fn profiles(&self) -> PathBuf {
        self.home.join(".local/state/nix/profiles")
    }

    /// daemon-init's socket.
    #[must_use]
    pub fn daemon_control_socket(&self) -> PathBuf {
        self.run_dir(Container::Daemon).join(contract::handshake::file::CONTROL)
    }

    /// user-init's socket.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.run_dir(Container::User).join(contract::handshake::file::CONTROL)
    }
}
