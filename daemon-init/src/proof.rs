//! `serve --isolation userns` believes nothing of its pod: before ready, what Nix needs is tried, and what is missing is named
//! as the field of the pod that would give it. Without this some of it shows as a build that hangs.

pub mod ids;
pub mod namespaces;
pub mod trial;

mod capabilities;

use std::path::{Path, PathBuf};

use agent::paths::Paths;
use contract::exit::Exit;
use nix::errno::Errno;

/// What the pod lacks, and who can give it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something to judge by is not as it always is.
    #[error("look at {}", path.display())]
    Look {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No user namespace.
    #[error(
        "root of this pod is root of its node: the pod needs `hostUsers: false`, and a node that heeds it (Kubernetes 1.33, containerd 2.0 or CRI-O 1.25, runc 1.2 or crun 1.9, or newer); `isolation = \"privileged\"` under [daemon] does without"
    )]
    HostIds,
    /// A small one.
    #[error(
        "the pod's user namespace has no id {id}, which builds need: ask who runs the node for at least 65536 ids a pod (`userNamespaces.idsPerPod` of its kubelet)"
    )]
    FewIds {
        /// The first that is missing.
        id: u32,
    },
    /// Some are not there. Without `DAC_OVERRIDE` builds hang.
    #[error(
        "the daemon container lacks {}: its `securityContext.capabilities.add` must name CHOWN, DAC_OVERRIDE, FOWNER, SETUID and SETGID, which count only within the pod; a policy of the cluster may have taken them out", missing.join(", ")
    )]
    Capabilities {
        /// Their names.
        missing: Vec<&'static str>,
    },
    /// A system call is refused by the filter that stands.
    #[error(
        "the seccomp profile of the daemon container refuses `{call}`: leave its `securityContext.seccompProfile` out; if the node puts the runtime's default in its place (`seccompDefault` of the kubelet), ask who runs it for the profile of container/seccomp, and set `seccomp = \"localhost/profiles/nix-trampoline.json\"` under [daemon] (see docs/userns.md)"
    )]
    Seccomp {
        /// The first that was refused.
        call: &'static str,
    },
    /// A build's `/proc` would show more than ours.
    #[error(
        "a build cannot have a /proc of its own, since parts of this container's are hidden ({hidden} first): the daemon container needs `securityContext.procMount: Unmasked`"
    )]
    Proc {
        /// What is mounted over it.
        hidden: PathBuf,
    },
    /// Neither of the two.
    #[error(
        "the kernel refuses `{call}` to the daemon container ({errno}){confinement}: sandboxes need user namespaces within the pod's (see docs/userns.md)"
    )]
    Refused {
        /// What was tried.
        call: &'static str,
        /// The kernel's answer.
        errno: Errno,
        /// By whom, as far as that can be seen.
        confinement: String,
    },
    /// The trial of the above could not be made.
    #[error("try a sandbox's system calls by a process of {}", program.display())]
    Process {
        /// Ourselves.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The volume knows no owners but one.
    #[error(
        "no file on the store volume {} can be given to build user {id}: its file system must be one that can be mounted with other ids (ext4, xfs, btrfs; not NFS, nor one in user space): give the builder a claim of another storage class", path.display()
    )]
    Owner {
        /// A file there.
        path: PathBuf,
        /// The user.
        id: u32,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

impl Error {
    /// The code to end with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Look { .. } => Exit::Io,
            Self::Process { .. } => Exit::Internal,
            _ => Exit::Unsupported,
        }
    }
}

/// What can be told without a daemon, and without the volume.
///
/// # Errors
/// The first that is missing.
pub fn of_the_pod(paths: &Paths) -> Result<(), Error> {
    ids::prove(&paths.proc, ids::ETC.as_ref())?;
    capabilities::prove(&paths.proc)?;
    namespaces::prove(&paths.proc)
}

/// Text of a file below `/proc` or `/etc`.
fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Look { path: path.to_owned(), source })
}
