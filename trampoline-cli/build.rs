//! Embeds `container/` and, where `TRAMPOLINE_AGENTS_DIR` is set, the agents' binaries, so that
//! `trampoline-cli image build` works from any folder.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let source = PathBuf::from(env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?);
    let container = source.join("../container");
    let mut list = String::from("/// `container/`: path, content, whether it may be run.\n");
    list.push_str("pub(crate) const CONTAINER: &[(&str, &[u8], bool)] = &[\n");
    println!("cargo::rerun-if-changed={}", container.display());
    if container.is_dir() {
        add(&container, &container, &mut list)?;
    }
    list.push_str("];\n\n/// The agents' binaries; empty where the program was built without them.\n");
    list.push_str("pub(crate) const AGENTS: &[(&str, &[u8], bool)] = &[\n");
    println!("cargo::rerun-if-env-changed=TRAMPOLINE_AGENTS_DIR");
    if let Some(agents) = env::var_os("TRAMPOLINE_AGENTS_DIR").map(PathBuf::from) {
        println!("cargo::rerun-if-changed={}", agents.display());
        for agent in ["daemon-init", "user-init", "shutdown-monitor", "maintenance-agent"] {
            entry(&agents.join(agent), agent, true, &mut list)?;
        }
    }
    list.push_str("];\n");
    let out = PathBuf::from(env::var("OUT_DIR").map_err(io::Error::other)?);
    fs::write(out.join("embedded.rs"), list)
}

fn add(root: &Path, dir: &Path, list: &mut String) -> io::Result<()> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(dir)?.map(|entry| entry.map(|e| e.path())).collect::<io::Result<_>>()?;
    paths.sort();
    for path in paths {
        let name = path.strip_prefix(root).map_err(io::Error::other)?.to_string_lossy().into_owned();
        if path.is_dir() {
            add(root, &path, list)?;
        } else if path.is_file() && !name.ends_with(".tmp") {
            entry(&path, &name, executable(&path)?, list)?;
        }
    }
    Ok(())
}

fn entry(path: &Path, name: &str, executable: bool, list: &mut String) -> io::Result<()> {
    let path = path.canonicalize()?;
    writeln!(list, "    ({name:?}, include_bytes!({path:?}), {executable}),").map_err(io::Error::other)
}

fn executable(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::metadata(path)?.permissions().mode() & 0o111 != 0)
}
