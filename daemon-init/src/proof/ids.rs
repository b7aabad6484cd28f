//! Whose ids the pod has, and whether build users are among them.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use super::{Error, read};

/// Where accounts are.
pub const ETC: &str = "/etc";
/// `build-users-group` of the image's nix.conf.
const GROUP: &str = "nixbld";
/// One more than the largest id.
const ALL_IDS: u64 = u32::MAX as u64;

/// Ids from 0 on are not the node's, and reach as far as those of build users.
///
/// # Errors
/// [`Error::HostIds`], [`Error::FewIds`].
pub(super) fn prove(proc: &Path, etc: &Path) -> Result<(), Error> {
    let users = build_users(etc)?;
    for (map, ids) in [
        ("self/uid_map", users.iter().map(|user| user.uid).collect::<Vec<_>>()),
        ("self/gid_map", users.iter().map(|user| user.gid).collect()),
    ] {
        judge(&read(&proc.join(map))?, &ids)?;
    }
    Ok(())
}

fn judge(map: &str, ids: &[u32]) -> Result<(), Error> {
    let ranges: Vec<[u64; 3]> = map.lines().filter_map(range).collect();
    if ranges.iter().any(|[inside, outside, count]| inside == outside && *count >= ALL_IDS) {
        return Err(Error::HostIds);
    }
    let has =
        |id: u32| ranges.iter().any(|[inside, _, count]| (*inside..inside + count).contains(&u64::from(id)));
    ids.iter().find(|id| !has(**id)).map_or(Ok(()), |id| Err(Error::FewIds { id: *id }))
}

/// `INSIDE OUTSIDE COUNT`.
fn range(line: &str) -> Option<[u64; 3]> {
    let mut numbers = line.split_ascii_whitespace().map(|word| word.parse().ok());
    Some([numbers.next()??, numbers.next()??, numbers.next()??])
}

/// One of those who build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BuildUser {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Where an image has no build users.
pub(super) const NOBODY: BuildUser = BuildUser { uid: 65534, gid: 65534 };

/// Members of the build group. The C library would want to load others to tell.
pub(super) fn build_users(etc: &Path) -> Result<Vec<BuildUser>, Error> {
    let (group, passwd) = (read(&etc.join("group"))?, read(&etc.join("passwd"))?);
    let entry = |text: &str, name: &str| -> Option<Vec<String>> {
        let fields = text.lines().map(|line| line.split(':'));
        fields.map(|fields| fields.map(str::to_owned).collect::<Vec<_>>()).find(|fields| fields[0] == name)
    };
    let Some(gid) = entry(&group, GROUP).and_then(|fields| fields.get(2)?.parse().ok()) else {
        return Ok(Vec::new());
    };
    let members = entry(&group, GROUP).and_then(|fields| fields.get(3).cloned()).unwrap_or_default();
    let uid = |name: &str| entry(&passwd, name)?.get(2)?.parse().ok();
    Ok(members.split(',').filter_map(|name| Some(BuildUser { uid: uid(name)?, gid })).collect())
}

/// A file on the volume can belong to a build user.
///
/// # Errors
/// [`Error::Owner`].
pub fn prove_on(folder: &Path) -> Result<(), Error> {
    let Some(user) = build_users(ETC.as_ref())?.pop() else { return Ok(()) };
    let path = folder.join("owner");
    let given = give(&path, user);
    // Root's folder: nobody else can have put something there.
    let _ = fs::remove_file(&path);
    given.map_err(|source| Error::Owner { path, id: user.uid, source })
}

fn give(path: &Path, to: BuildUser) -> io::Result<()> {
    // What is left of a start that was killed.
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    fchown(&file, Some(to.uid), Some(to.gid))?;
    let owner = file.metadata()?;
    let same = (owner.uid(), owner.gid()) == (to.uid, to.gid);
    if same { Ok(()) } else { Err(io::Error::other(format!("it still belongs to user {}", owner.uid()))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_the_node_are_told_from_those_of_a_pod() {
        judge("         0 2147418112      65536\n", &[30001, 65535]).unwrap();
        // Rootless, and a range in two parts.
        judge("0 1000 1\n1 100000 65536\n", &[0, 30001]).unwrap();
        assert!(matches!(judge("         0          0 4294967295\n", &[30001]), Err(Error::HostIds)));
        let few = judge("0 2147418112 1024\n", &[1000, 30001]).unwrap_err();
        assert!(matches!(few, Error::FewIds { id: 30001 }), "{few}");
    }

    #[test]
    fn build_users_are_the_groups_members() {
        let etc = tempfile::tempdir().unwrap();
        fs::write(etc.path().join("group"), "root:x:0:\nnixbld:x:30000:nixbld1,nixbld2,gone\n").unwrap();
        let passwd = "root:x:0:0::/root:/bin/sh\nnixbld1:x:30001:30000::/:/n\nnixbld2:x:30002:30000::/:/n\n";
        fs::write(etc.path().join("passwd"), passwd).unwrap();
        let users = build_users(etc.path()).unwrap();
        assert_eq!(users, [BuildUser { uid: 30001, gid: 30000 }, BuildUser { uid: 30002, gid: 30000 }]);
    }

    #[test]
    fn a_file_is_given_away_and_removed_again() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("owner");
        give(&path, BuildUser { uid: 30001, gid: 30000 }).unwrap();
        let error = give(Path::new("/proc/sys/kernel/domainname"), BuildUser { uid: 30001, gid: 30000 });
        assert!(error.is_err(), "a file of a file system without owners");
        prove_on(folder.path()).unwrap();
        assert!(!path.exists());
    }
}
