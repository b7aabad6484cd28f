//! Scratch images: a `/nix` with a registered store, baked as an image build does it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use contract::image::ImageManifest;
use daemon_init::bake::{self, Bake};
use daemon_init::seed::{Image, ImagePaths};
use sha2::{Digest, Sha256};

/// An image's root folder.
pub(crate) struct Scratch {
    pub(crate) root: PathBuf,
}

/// A store path to be made: name (with its hash part), references among the names.
pub(crate) struct StorePath {
    name: String,
    references: Vec<String>,
    shared: bool,
}

/// `nix-store` of this machine on the store below `root`, also by a root that may not give the store folder another group.
pub(crate) fn nix_store(root: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("nix-store");
    command.env_remove("NIX_REMOTE").arg("--store").arg(format!("local?root={}", root.display()));
    command.args(["--option", "build-users-group", ""]).args(args);
    command
}

/// Its output, where it must work.
pub(crate) fn nix_store_output(root: &Path, args: &[&str]) -> String {
    let output = nix_store(root, args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

impl Scratch {
    /// An image of about `bytes`, in some 30 paths. Two versions share two thirds of their paths.
    pub(crate) fn make(root: &Path, version: u32, bytes: usize) -> Self {
        let store = root.join("nix/store");
        fs::create_dir_all(&store).unwrap();
        fs::create_dir_all(root.join("nix/var/nix/profiles")).unwrap();
        let mut paths: Vec<StorePath> = Vec::new();
        for n in 0..30_u32 {
            let of = if n % 3 == 0 { version } else { 0 };
            let name = format!("{}-part-{n}", digits(of, n));
            fill(&store.join(&name), u64::from(of * 1000 + n), bytes / 30);
            // What is shared refers to what is shared.
            let mut others: Vec<&StorePath> = paths.iter().rev().collect();
            others.retain(|p| of != 0 || p.shared);
            let references = others.iter().take(2).map(|p| p.name.clone()).collect();
            paths.push(StorePath { name, references, shared: of == 0 });
        }
        let env = format!("{}-user-env", digits(version, 99));
        fs::create_dir_all(store.join(&env).join("bin")).unwrap();
        symlink(format!("/nix/store/{}/file-0", paths[0].name), store.join(&env).join("bin/tool")).unwrap();
        let references = paths.iter().rev().take(4).map(|p| p.name.clone()).collect();
        symlink("default-1-link", root.join("nix/var/nix/profiles/default")).unwrap();
        symlink(format!("/nix/store/{env}"), root.join("nix/var/nix/profiles/default-1-link")).unwrap();
        paths.push(StorePath { name: env, references, shared: false });
        let scratch = Self { root: root.into() };
        canonical(&store);
        let registration: String = paths.iter().map(|p| scratch.registration(p)).collect();
        load_db(root, &registration);
        scratch.bake();
        scratch
    }

    pub(crate) fn bake(&self) -> ImageManifest {
        bake::run(&Bake { root: self.root.clone(), base: "scratch".into() }).unwrap()
    }

    pub(crate) fn image(&self) -> Image {
        Image::load(ImagePaths {
            nix: self.root.join("nix"),
            manifest: self.root.join("opt/trampoline/image.json"),
            registration: self.root.join("opt/trampoline/registration"),
        })
        .unwrap()
    }

    fn registration(&self, path: &StorePath) -> String {
        let (hash, size) = nar(&self.root.join("nix/store").join(&path.name));
        let references: String = path.references.iter().map(|r| format!("/nix/store/{r}\n")).collect();
        format!("/nix/store/{}\n{hash}\n{size}\n\n{}\n{references}", path.name, path.references.len())
    }
}

/// Adds a path that a user has built, rooted by a link of the user's.
pub(crate) fn add_users_path(volume_root: &Path, name: &str) -> String {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join(name);
    fs::write(&file, name).unwrap();
    let path = nix_store_output(volume_root, &["--add", file.to_str().unwrap()]).trim().to_owned();
    let root = volume_root.join("nix/var/nix/gcroots").join(name);
    symlink(&path, root).unwrap();
    path
}

pub(crate) fn load_db(root: &Path, registration: &str) {
    use std::io::Write;
    let mut child = nix_store(root, &["--load-db"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(registration.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// sha256 (hex) and size of the path's archive.
fn nar(path: &Path) -> (String, usize) {
    let output = Command::new("nix-store").arg("--dump").arg(path).output().unwrap();
    assert!(output.status.success());
    let hash = Sha256::digest(&output.stdout).iter().map(|b| format!("{b:02x}")).collect();
    (hash, output.stdout.len())
}

/// 32 characters of the alphabet that Nix uses for hashes.
fn digits(version: u32, n: u32) -> String {
    let seed = Sha256::digest(format!("{version}/{n}"));
    let alphabet = b"0123456789abcdfghijklmnpqrsvwxyz";
    seed.iter().map(|b| char::from(alphabet[usize::from(b % 32)])).collect()
}

/// A folder with one large, some small files, an empty one, a program, links, and an empty folder.
fn fill(path: &Path, seed: u64, bytes: usize) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = |n: usize| -> Vec<u8> {
        std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .take(n.div_ceil(8))
        .flatten()
        .take(n)
        .collect()
    };
    if seed % 7 == 3 {
        // A store path may be a single file.
        return fs::write(path, random(bytes)).unwrap();
    }
    fs::create_dir_all(path.join("share/empty")).unwrap();
    fs::write(path.join("file-0"), random(bytes / 2)).unwrap();
    for n in 0..10 {
        fs::write(path.join(format!("share/small-{n}")), random(bytes / 40)).unwrap();
    }
    fs::write(path.join("empty"), "").unwrap();
    fs::set_permissions(path.join("file-0"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("share/small-1", path.join("link")).unwrap();
    symlink("/nowhere/at/all", path.join("dangling")).unwrap();
}

/// The metadata that Nix gives store paths.
fn canonical(path: &Path) {
    let status = Command::new("find")
        .arg(path)
        .args(["-mindepth", "1", "-not", "-type", "l", "-exec", "chmod", "a-w,a+rX", "{}", "+"])
        .status()
        .unwrap();
    assert!(status.success());
    let status = Command::new("find")
        .arg(path)
        .args(["-mindepth", "1", "-exec", "touch", "-h", "-d", "@1", "{}", "+"])
        .status()
        .unwrap();
    assert!(status.success());
}
