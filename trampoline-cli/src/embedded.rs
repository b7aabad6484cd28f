//! What the program carries: `container/` and the agents.

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// A file of `container/`.
pub(crate) fn container_file(path: &str) -> Option<&'static str> {
    let (_, bytes, _) = CONTAINER.iter().find(|(name, ..)| *name == path)?;
    std::str::from_utf8(bytes).ok()
}
