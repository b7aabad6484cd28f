//! The system calls by which Nix makes a sandbox, tried by a process of our own: which of them is refused, and how, tells what
//! the pod lacks.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use agent::proc::status_field;
use contract::exit::Exit;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, chroot, getegid, geteuid, pivot_root, sethostname};

use super::{Error, ids, read};

/// The command of `daemon-init` that makes the trial; not for people.
pub const COMMAND: &str = "try-namespaces";
/// Its second half, in the new namespaces.
pub const WITHIN: &str = "within";
/// Any folder that is there.
const ROOT: &str = "/tmp";

/// What is tried, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Unshare,
    MapIds,
    Mount,
    MountProc,
    SetHostName,
    PivotRoot,
    Chroot,
    Umount,
}

const CALLS: [(Call, &str); 8] = [
    (Call::Unshare, "unshare"),
    (Call::MapIds, "write uid_map"),
    (Call::Mount, "mount"),
    (Call::MountProc, "mount proc"),
    (Call::SetHostName, "sethostname"),
    (Call::PivotRoot, "pivot_root"),
    (Call::Chroot, "chroot"),
    (Call::Umount, "umount2"),
];

impl Call {
    fn name(self) -> &'static str {
        CALLS.iter().find(|(call, _)| *call == self).map_or("", |(_, name)| name)
    }
}

/// A call that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refusal {
    call: Call,
    errno: Errno,
}

/// What `/proc` says of our own confinement.
#[derive(Debug, Default)]
struct Confinement {
    /// A filter of system calls stands.
    filtered: bool,
    /// What is mounted below `/proc`.
    hidden: Option<PathBuf>,
    /// By a security module.
    label: String,
}

/// Makes the trial, as a build user: root may not be root of another namespace without a capability that nothing else needs.
pub(super) fn prove(proc: &Path) -> Result<(), Error> {
    // By whatever name it was started.
    let program = proc.join("self/exe");
    let user = ids::build_users(ids::ETC.as_ref())?.pop().unwrap_or(ids::NOBODY);
    let tried = Command::new(&program)
        .arg(COMMAND)
        .uid(user.uid)
        .gid(user.gid)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .output()
        .map_err(|source| Error::Process { program: program.clone(), source })?;
    if tried.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&tried.stdout);
    let Some(refusal) = parse(&said) else {
        let source = io::Error::other(format!("{}: {}", tried.status, said.trim()));
        return Err(Error::Process { program, source });
    };
    Err(judge(refusal, confinement(proc)?))
}

fn parse(said: &str) -> Option<Refusal> {
    let (number, name) = said.trim().split_once(' ')?;
    let call = CALLS.iter().find(|(_, known)| *known == name)?.0;
    Some(Refusal { call, errno: Errno::from_raw(number.parse().ok()?) })
}

fn judge(Refusal { call, errno }: Refusal, confinement: Confinement) -> Error {
    let denied = matches!(errno, Errno::EPERM | Errno::EACCES);
    match (call, confinement.hidden) {
        (Call::MountProc, Some(hidden)) if errno == Errno::EPERM => Error::Proc { hidden },
        // Its answers: the runtimes' profiles say EPERM to what they know, and ENOSYS to what they do not.
        (call, _)
            if confinement.filtered
                && call != Call::MountProc
                && matches!(errno, Errno::EPERM | Errno::ENOSYS) =>
        {
            Error::Seccomp { call: call.name() }
        }
        _ => {
            let label = Some(confinement.label).filter(|label| denied && !label.is_empty());
            let confinement = label.map(|label| format!(", whose security label is {label}"));
            Error::Refused { call: call.name(), errno, confinement: confinement.unwrap_or_default() }
        }
    }
}

fn confinement(proc: &Path) -> Result<Confinement, Error> {
    let status = read(&proc.join("self/status"))?;
    let filtered = status_field(&status, "Seccomp") == Some("2");
    let mounts = read(&proc.join("self/mountinfo"))?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let hidden = points.filter(|point| point.starts_with("/proc/")).map(PathBuf::from).next();
    // Without a security module there is nothing to read.
    let label = fs::read_to_string(proc.join("self/attr/current")).unwrap_or_default();
    let label = label.trim_end_matches(['\0', '\n']).to_owned();
    Ok(Confinement { filtered, hidden, label: if label == "unconfined" { String::new() } else { label } })
}

/// The trial itself, in a process of its own: what it does to itself goes with it.
#[must_use]
pub fn child(within: bool) -> Exit {
    let tried = if within { build_root() } else { leave() };
    match tried {
        Ok(exit) => exit,
        Err(Refusal { call, errno }) => {
            // Without a reader nobody wants to know.
            let _ = writeln!(io::stdout(), "{} {}", errno as i32, call.name());
            Exit::Unsupported
        }
    }
}

/// Into namespaces of its own. Only a child is in the new one of processes.
fn leave() -> Result<Exit, Refusal> {
    let (uid, gid) = (geteuid(), getegid());
    let all = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    unshare(all).map_err(refused(Call::Unshare))?;
    for (file, text) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ] {
        fs::write(Path::new("/proc/self").join(file), text).map_err(|e| unmapped(&e))?;
    }
    let status = Command::new("/proc/self/exe").args([COMMAND, WITHIN]).status().map_err(|e| unmapped(&e))?;
    Ok(status.code().and_then(Exit::from_code).unwrap_or(Exit::ChildFailed))
}

/// As Nix does around a build.
fn build_root() -> Result<Exit, Refusal> {
    let root = Path::new(ROOT);
    let none = None::<&OsStr>;
    let here = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, here, none).map_err(refused(Call::Mount))?;
    mount(none, root, Some("tmpfs"), MsFlags::empty(), none).map_err(refused(Call::Mount))?;
    for folder in ["proc", "old"] {
        fs::create_dir(root.join(folder)).map_err(|e| Refusal {
            call: Call::Mount,
            errno: Errno::from_raw(e.raw_os_error().unwrap_or(0)),
        })?;
    }
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(none, &root.join("proc"), Some("proc"), quiet, none).map_err(refused(Call::MountProc))?;
    sethostname("localhost").map_err(refused(Call::SetHostName))?;
    chdir(root).map_err(refused(Call::PivotRoot))?;
    pivot_root(".", "old").map_err(refused(Call::PivotRoot))?;
    chroot(".").map_err(refused(Call::Chroot))?;
    umount2("/old", MntFlags::MNT_DETACH).map_err(refused(Call::Umount))?;
    Ok(Exit::Ok)
}

fn refused(call: Call) -> impl FnOnce(Errno) -> Refusal {
    move |errno| Refusal { call, errno }
}

fn unmapped(error: &io::Error) -> Refusal {
    Refusal { call: Call::MapIds, errno: Errno::from_raw(error.raw_os_error().unwrap_or(0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(call: Call, errno: Errno, confinement: Confinement) -> String {
        judge(Refusal { call, errno }, confinement).to_string()
    }

    #[test]
    fn what_is_said_is_understood() {
        let said = format!("{} {}\n", Errno::EPERM as i32, Call::MountProc.name());
        assert_eq!(parse(&said), Some(Refusal { call: Call::MountProc, errno: Errno::EPERM }));
        assert_eq!(parse("thread 'main' panicked"), None);
    }

    #[test]
    fn each_refusal_names_what_is_missing() {
        let filtered = || Confinement { filtered: true, ..Confinement::default() };
        let said = judged(Call::Unshare, Errno::EPERM, filtered());
        assert!(said.contains("seccomp profile") && said.contains("`unshare`"), "{said}");
        let said = judged(Call::PivotRoot, Errno::EPERM, filtered());
        assert!(said.contains("`pivot_root`") && said.contains("seccompDefault"), "{said}");

        let masked = Confinement { hidden: Some("/proc/kcore".into()), ..filtered() };
        let said = judged(Call::MountProc, Errno::EPERM, masked);
        assert!(said.contains("procMount: Unmasked") && said.contains("/proc/kcore"), "{said}");

        let label = || Confinement { label: "cri-containerd.apparmor.d (enforce)".into(), ..filtered() };
        let said = judged(Call::Mount, Errno::EACCES, label());
        assert!(said.contains("security label is cri-containerd"), "{said}");
        // The number of namespaces is limited: no label's doing.
        let said = judged(Call::Unshare, Errno::ENOSPC, label());
        assert!(said.contains("`unshare`") && !said.contains("label"), "{said}");
    }
}
