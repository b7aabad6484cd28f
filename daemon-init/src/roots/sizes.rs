//! What each root holds alive, as the daemon's database says: paths, all that they refer to, and the derivations that these were built
//! from, which Nix keeps as well unless it is told otherwise.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::rc::Rc;

use contract::config::Config;
use contract::roots::{Holds, RootKind};
use worker_protocol::Connection;

use super::find::Found;

/// Paths that are alive, by number.
#[derive(Debug, Default)]
struct Graph {
    ids: HashMap<Rc<str>, usize>,
    names: Vec<Rc<str>>,
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    valid: bool,
    bytes: u64,
    needs: Vec<usize>,
}

impl Graph {
    fn id(&mut self, path: &str) -> usize {
        if let Some(id) = self.ids.get(path) {
            return *id;
        }
        let (id, name) = (self.names.len(), Rc::<str>::from(path));
        self.ids.insert(Rc::clone(&name), id);
        self.names.push(name);
        self.nodes.push(Node::default());
        id
    }
}

/// Whether Nix is left at its default, by which what is alive keeps the derivation that it was built from.
pub(super) fn keeps_derivations(config: &Config) -> bool {
    let set = |name| config.daemon.nix.get(name);
    let value = set("keep-derivations").or_else(|| set("gc-keep-derivations"));
    value.is_none_or(|value| value != "false")
}

/// Notes of each root what it holds. `progress` hears how many paths were looked at, and may end it.
///
/// # Errors
/// When the daemon does not answer, or as `progress` says.
pub(super) fn measure<S: Read + Write, E: From<worker_protocol::Error>>(
    connection: &mut Connection<S>,
    found: &mut [Found],
    keeps_derivations: bool,
    mut progress: impl FnMut(usize) -> Result<(), E>,
) -> Result<(), E> {
    let mut graph = Graph::default();
    let mut roots = Vec::new();
    for found in found.iter() {
        let paths = found.targets.iter().map(|path| graph.id(path)).collect();
        roots.push(Held { paths, lasting: found.root.kind != RootKind::InUse });
    }
    let mut id = 0;
    // Each may name others.
    while let Some(name) = graph.names.get(id).cloned() {
        if let Some(path) = connection.valid_path(&name)? {
            let derivation = Some(path.deriver).filter(|path| keeps_derivations && !path.is_empty());
            let needs = path.references.iter().chain(&derivation).map(|path| graph.id(path)).collect();
            graph.nodes[id] = Node { valid: true, bytes: path.nar_size, needs };
        }
        id += 1;
        progress(id)?;
    }
    for (found, holds) in found.iter_mut().zip(weigh(&graph.nodes, &roots)) {
        found.root.holds = Some(holds);
    }
    Ok(())
}

/// Paths that one root names.
struct Held {
    paths: Vec<usize>,
    /// Others do not count as holding what they name: what is in use now is not for long.
    lasting: bool,
}

/// Of the roots that last, who holds a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Nobody,
    One(usize),
    Several,
}

/// In the order of `roots`.
fn weigh(nodes: &[Node], roots: &[Held]) -> Vec<Holds> {
    let mut holders = vec![Holder::Nobody; nodes.len()];
    let mut seen = vec![usize::MAX; nodes.len()];
    let mut all = vec![Holds::default(); roots.len()];
    for (root, held) in roots.iter().enumerate() {
        let mut rest = held.paths.clone();
        while let Some(path) = rest.pop() {
            if !nodes[path].valid || std::mem::replace(&mut seen[path], root) == root {
                continue;
            }
            all[root].paths += 1;
            all[root].bytes = all[root].bytes.saturating_add(nodes[path].bytes);
            if held.lasting {
                holders[path] = match holders[path] {
                    Holder::Nobody => Holder::One(root),
                    Holder::One(_) | Holder::Several => Holder::Several,
                };
            }
            rest.extend(&nodes[path].needs);
        }
    }
    for (holder, node) in holders.iter().zip(nodes) {
        if let Holder::One(root) = holder {
            all[*root].alone = all[*root].alone.saturating_add(node.bytes);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(bytes: u64, needs: &[usize]) -> Node {
        Node { valid: true, bytes, needs: needs.to_vec() }
    }

    fn lasting(paths: &[usize]) -> Held {
        Held { paths: paths.to_vec(), lasting: true }
    }

    #[test]
    fn what_several_hold_is_nobodys_alone() {
        // 0 and 1 need 2, which needs itself and 3; 4 is not valid.
        let nodes = [node(1, &[2]), node(10, &[2, 4]), node(100, &[2, 3]), node(1000, &[]), Node::default()];
        let held = |roots: &[Held]| {
            let told = |holds: Holds| (holds.paths, holds.bytes, holds.alone);
            weigh(&nodes, roots).into_iter().map(told).collect::<Vec<_>>()
        };
        assert_eq!(held(&[lasting(&[0])]), [(3, 1101, 1101)]);
        assert_eq!(held(&[lasting(&[0]), lasting(&[1])]), [(3, 1101, 1), (3, 1110, 10)]);
        // Two of the same, and one of several.
        assert_eq!(held(&[lasting(&[3]), lasting(&[3])]), [(1, 1000, 0), (1, 1000, 0)]);
        assert_eq!(held(&[lasting(&[0, 1]), lasting(&[3])]), [(4, 1111, 111), (1, 1000, 0)]);
        let passing = Held { paths: vec![0], lasting: false };
        assert_eq!(held(&[lasting(&[0]), passing]), [(3, 1101, 1101), (3, 1101, 0)]);
        assert_eq!(held(&[lasting(&[4]), lasting(&[])]), [(0, 0, 0), (0, 0, 0)]);
    }
}
