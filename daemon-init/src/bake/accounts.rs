//! Our users and groups, added to the image's own; `useradd` is not to be counted on.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use contract::places;

use super::{below, write_mode};
use crate::seed::error::StoreError;

/// As Nix's own installer numbers them.
const BUILD_GROUP: (&str, u32) = ("nixbld", 30000);
/// So many builds can run at once.
const BUILD_USERS: u32 = 32;
/// Never a login.
const NO_SHELL: &str = "/sbin/nologin";

/// A line of `/etc/passwd`.
struct Account<'a> {
    name: String,
    id: u32,
    group: u32,
    home: &'a str,
    shell: &'a str,
}

/// Adds what is absent; an entry of that name is left as it is.
pub(super) fn add(root: &Path) -> Result<(), StoreError> {
    let mut passwd = Table::read(root, "/etc/passwd", 0o644)?;
    let mut group = Table::read(root, "/etc/group", 0o644)?;
    let mut shadow = Table::read(root, "/etc/shadow", 0o600)?;
    // Also of use to an image of which the base has no accounts at all.
    passwd.add("root", "root:x:0:0:root:/root:/bin/sh");
    group.add("root", "root:x:0:");

    let shell = shell(root);
    let mut accounts = vec![
        Account {
            name: places::USER.into(),
            id: places::USER_UID,
            group: places::USER_GID,
            home: places::HOME,
            shell,
        },
        service("trampoline-maintenance", places::MAINTENANCE_UID),
        service("trampoline-monitor", places::MONITOR_UID),
    ];
    for account in &accounts {
        group.add(&account.name, &format!("{}:x:{}:", account.name, account.group));
    }
    if !group.has(BUILD_GROUP.0) {
        let names: Vec<String> = (1..=BUILD_USERS).map(|n| format!("{}{n}", BUILD_GROUP.0)).collect();
        group.add(BUILD_GROUP.0, &format!("{}:x:{}:{}", BUILD_GROUP.0, BUILD_GROUP.1, names.join(",")));
        accounts.extend(names.into_iter().zip(1..).map(|(name, n)| Account {
            name,
            id: BUILD_GROUP.1 + n,
            group: BUILD_GROUP.1,
            home: "/var/empty",
            shell: NO_SHELL,
        }));
    }
    for Account { name, id, group, home, shell } in &accounts {
        passwd.add(name, &format!("{name}:x:{id}:{group}:{name}:{home}:{shell}"));
        // `*`: no password fits. `!` would be a locked account, at which sshd turns keys away too.
        if !shadow.text.is_empty() {
            shadow.add(name, &format!("{name}:*:1::::::"));
        }
    }
    passwd.write()?;
    group.write()?;
    shadow.write()
}

fn service(name: &str, id: u32) -> Account<'static> {
    Account { name: name.into(), id, group: id, home: "/var/empty", shell: NO_SHELL }
}

/// A shell for people, by a name that outlives updates of the image.
fn shell(root: &Path) -> &'static str {
    const SHELLS: [&str; 2] = ["/nix/var/nix/profiles/default/bin/bash", "/bin/bash"];
    let is_there = |shell: &&&str| fs::symlink_metadata(below(root, shell)).is_ok();
    SHELLS.iter().find(is_there).copied().unwrap_or("/bin/sh")
}

/// One of the files, which may be a link into the store.
struct Table {
    path: std::path::PathBuf,
    text: String,
    mode: u32,
    changed: bool,
}

impl Table {
    fn read(root: &Path, name: &str, mode: u32) -> Result<Self, StoreError> {
        let path = below(root, name);
        // In an image build the root is `/`, and links lead where they say.
        let (text, mode) = match fs::read_to_string(&path) {
            Ok(text) => (text, fs::metadata(&path).map_or(mode, |m| m.mode() & 0o640 | mode)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (String::new(), mode),
            Err(error) => return Err(StoreError::io("read", &path, error)),
        };
        Ok(Self { path, text, mode, changed: false })
    }

    fn has(&self, name: &str) -> bool {
        self.text.lines().any(|line| line.split(':').next() == Some(name))
    }

    fn add(&mut self, name: &str, line: &str) {
        if self.has(name) {
            return;
        }
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self.text.push_str(line);
        self.text.push('\n');
        self.changed = true;
    }

    fn write(self) -> Result<(), StoreError> {
        if self.changed { write_mode(&self.path, self.text.as_bytes(), self.mode) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn links_become_files_and_what_is_there_stays() {
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc");
        fs::create_dir_all(&etc).unwrap();
        let base = root.path().join("base-passwd");
        fs::write(&base, "root:x:0:0::/root:/bin/bash\nnixbld1:x:30001:30000::/:/none").unwrap();
        symlink(&base, etc.join("passwd")).unwrap();
        fs::write(etc.join("group"), "root:x:0:\nnixbld:x:30000:nixbld1\n").unwrap();
        fs::write(etc.join("shadow"), "root:!:1::::::\n").unwrap();
        fs::set_permissions(etc.join("shadow"), fs::Permissions::from_mode(0o640)).unwrap();
        add(root.path()).unwrap();
        let first = fs::read_to_string(etc.join("passwd")).unwrap();
        add(root.path()).unwrap();

        assert_eq!(fs::read_to_string(etc.join("passwd")).unwrap(), first);
        assert!(
            first
                .starts_with("root:x:0:0::/root:/bin/bash\nnixbld1:x:30001:30000::/:/none\nnix:x:1000:1000:")
        );
        assert!(!fs::symlink_metadata(etc.join("passwd")).unwrap().is_symlink());
        assert!(!fs::read_to_string(&base).unwrap().contains("1000"));
        assert!(!first.contains("nixbld2"), "the image has build users of its own");
        let shadow = fs::read_to_string(etc.join("shadow")).unwrap();
        assert!(shadow.contains("\nnix:*:"));
        assert_eq!(fs::metadata(etc.join("shadow")).unwrap().mode() & 0o777, 0o640);
    }

    #[test]
    fn an_image_without_accounts_gets_build_users() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        add(root.path()).unwrap();
        let passwd = fs::read_to_string(root.path().join("etc/passwd")).unwrap();
        assert_eq!(passwd.lines().filter(|l| l.starts_with("nixbld")).count(), 32);
        assert!(passwd.contains("\nnix:x:1000:1000:nix:/home/nix:/bin/sh\n"));
        assert!(!root.path().join("etc/shadow").exists());
    }
}
