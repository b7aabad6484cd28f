//! What is chosen from what is known.

use super::*;

const USERNS: Option<Isolation> = Some(Isolation::Userns);
const PRIVILEGED: Option<Isolation> = Some(Isolation::Privileged);

fn nodes(of: &[(&str, bool)]) -> Nodes {
    let lack = |able: bool| (!able).then(|| "its kubelet is v1.32.1".to_owned());
    Nodes::Seen(of.iter().map(|(name, able)| ((*name).to_owned(), lack(*able))).collect())
}

fn refused() -> Admission {
    Admission::Refused("violates PodSecurity \"baseline:latest\": privileged".to_owned())
}

fn unknown() -> Admission {
    Admission::Unknown("User \"bob\" cannot create resource \"pods\"".to_owned())
}

/// With what the privileged pod meets, if that is asked.
fn chosen(
    had: Option<Isolation>,
    nodes: &Nodes,
    userns: &Admission,
    privileged: &Admission,
) -> Result<Isolated> {
    match (fits(had, nodes, userns), had) {
        (Ok(why), None | USERNS) => Ok(Isolated::because(Isolation::Userns, &why)),
        (fits, had) => otherwise("gpu", had, fits, privileged),
    }
}

#[test]
fn the_choice_fits_nodes_and_policies_and_says_why() {
    use Admission::Admitted;
    let able = nodes(&[("a", true), ("b", true)]);
    let mixed = nodes(&[("a", true), ("b", false)]);
    let none = nodes(&[("b", false)]);
    let (refused, unknown) = (refused(), unknown());
    for (had, nodes, userns, privileged, isolation, why) in [
        (None, &able, &Admitted, &refused, Isolation::Userns, "its nodes map users (a, b)"),
        (None, &able, &unknown, &unknown, Isolation::Userns, "its nodes map users"),
        (
            None,
            &mixed,
            &Admitted,
            &Admitted,
            Isolation::Privileged,
            "not all nodes that it may run on map users (b: its kubelet",
        ),
        (None, &none, &Admitted, &unknown, Isolation::Privileged, "b: its kubelet is v1.32.1"),
        (
            None,
            &Nodes::Hidden,
            &Admitted,
            &refused,
            Isolation::Userns,
            "admits its pod, and its nodes may not be listed",
        ),
        (
            None,
            &Nodes::Hidden,
            &unknown,
            &unknown,
            Isolation::Userns,
            "`isolation = \"privileged\"` under [daemon]",
        ),
        (None, &Nodes::Seen(Vec::new()), &Admitted, &Admitted, Isolation::Userns, "are not there yet"),
        (
            None,
            &able,
            &refused,
            &Admitted,
            Isolation::Privileged,
            "does not admit the pod of a user namespace (violates",
        ),
        // What a builder has stays, as long as it can.
        (USERNS, &mixed, &Admitted, &Admitted, Isolation::Userns, "it is so already"),
        (USERNS, &none, &Admitted, &Admitted, Isolation::Privileged, "it cannot stay userns"),
        (
            PRIVILEGED,
            &able,
            &Admitted,
            &Admitted,
            Isolation::Privileged,
            "`isolation = \"userns\"` under [daemon] works",
        ),
        (PRIVILEGED, &able, &Admitted, &unknown, Isolation::Privileged, "has been so"),
        (PRIVILEGED, &none, &Admitted, &Admitted, Isolation::Privileged, "b: its kubelet"),
        (PRIVILEGED, &able, &Admitted, &refused, Isolation::Userns, "admits no privileged pod any more"),
    ] {
        let chosen = chosen(had, nodes, userns, privileged).unwrap_or_else(|error| panic!("{error:?}"));
        let line = chosen.why.expect("a choice says why");
        assert_eq!(chosen.isolation, isolation, "{line}");
        assert!(line.starts_with(&format!("isolation: {}", isolation.name())), "{line}");
        assert!(line.contains(why), "{line}");
    }
}

#[test]
fn privilege_is_no_way_out_where_it_is_refused() {
    use Admission::Admitted;
    let refused = refused();
    let mixed = nodes(&[("a", true), ("b", false)]);
    for (had, nodes, userns, exit, message, hint) in [
        (
            None,
            &mixed,
            &Admitted,
            Exit::Unsupported,
            "admits no privileged pod (violates",
            "nodes that do (a)",
        ),
        (None, &nodes(&[("b", false)]), &Admitted, Exit::Unsupported, "b: its kubelet", "containerd 2.0"),
        (PRIVILEGED, &mixed, &Admitted, Exit::Unsupported, "has no place", "node-selector"),
        (
            None,
            &Nodes::Hidden,
            &Admission::Refused("violates PodSecurity \"restricted:latest\": runAsUser=0".to_owned()),
            Exit::Engine,
            "does not admit the pod of builder gpu",
            "enforce=baseline",
        ),
    ] {
        let error = chosen(had, nodes, userns, &refused).unwrap_err();
        assert_eq!(error.exit, exit, "{error:?}");
        assert!(error.message.contains(message), "{error:?}");
        assert!(error.hint.as_ref().is_some_and(|text| text.contains(hint)), "{error:?}");
    }
}
