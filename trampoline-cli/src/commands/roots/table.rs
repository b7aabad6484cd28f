//! Roots for people.

use contract::roots::{Holds, Root};

use crate::nixlog::clean;
use crate::ui::{ago, bytes, table};

const HEAD: [&str; 6] = ["KIND", "ALONE", "SHARED", "SINCE", "EXPIRES", "ROOT"];

/// A column that says nothing is left out.
pub(super) fn lines(roots: &[Root], now: u64) -> impl Iterator<Item = String> {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(roots.iter().map(|root| row(root, now)));
    table(&rows, |column| rows[1..].iter().any(|row| !row[column].is_empty())).into_iter()
}

fn row(root: &Root, now: u64) -> [String; 6] {
    let when = |at: Option<u64>| at.map(|at| ago(at, now)).unwrap_or_default();
    let size = |of: fn(&Holds) -> u64| root.holds.map(|holds| bytes(of(&holds))).unwrap_or_default();
    // Users choose the names of what is in their home.
    let name = clean(&root.name, false);
    let what = root.path.as_ref().map(|path| format!("{name} -> {path}"));
    [
        root.kind.name().to_owned(),
        size(|holds| holds.alone),
        size(Holds::shared),
        when(root.since),
        when(root.expires),
        what.unwrap_or(name),
    ]
}

#[cfg(test)]
mod tests {
    use contract::roots::RootKind;

    use super::*;

    #[test]
    fn columns_line_up_and_empty_ones_are_left_out() {
        let root = |kind, name: &str, holds| Root {
            kind,
            name: name.into(),
            path: Some("/nix/store/x".into()),
            since: Some(100),
            expires: None,
            holds,
        };
        let holds = Holds { paths: 2, bytes: 3 << 20, alone: 1 << 20 };
        let mut roots =
            vec![root(RootKind::Named, "a", Some(holds)), root(RootKind::Link, "/home/\x1b[2Jb", None)];
        let shown: Vec<String> = lines(&roots, 160).collect();
        assert_eq!(
            shown,
            [
                "KIND   ALONE    SHARED   SINCE      ROOT",
                "named  1.0 MiB  2.0 MiB  1 min ago  a -> /nix/store/x",
                "link                     1 min ago  /home/b -> /nix/store/x",
            ]
        );
        roots[0].expires = Some(220);
        assert!(lines(&roots, 160).nth(1).unwrap().contains("in 1 min"));
        assert_eq!(lines(&[], 0).count(), 1);
    }
}
