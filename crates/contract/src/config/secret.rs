//! Passwords in URLs. Whoever works in the builder reads trampoline.toml, its nix.conf and its variables, and in a cluster whoever
//! may read its objects does.

use std::borrow::Cow;

/// Whether a URL in this text has one: `scheme://user:password@host`.
pub(super) fn in_url(text: &str) -> bool {
    text.split("://").skip(1).any(|rest| {
        let authority = rest.split(|c: char| c.is_whitespace() || "/?#".contains(c)).next();
        let user = authority.and_then(|authority| authority.rsplit_once('@')).map_or("", |(user, _)| user);
        user.split_once(':').is_some_and(|(_, password)| !password.is_empty())
    })
}

/// Refuses one.
///
/// # Errors
/// What to do instead.
pub(super) fn refuse(text: &str, instead: &str) -> Result<(), String> {
    if in_url(text) {
        return Err(format!("holds a password, which everybody in the builder could read; {instead}"));
    }
    Ok(())
}

/// The text for a message, without what may be one: messages end up in logs.
pub(super) fn hidden(text: &str) -> Cow<'_, str> {
    match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if text.get(scheme + 3..at).is_some_and(|user| user.contains(':')) => {
            format!("{}://…{}", &text[..scheme], &text[at..]).into()
        }
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_found_and_nothing_else_taken_for_one() {
        for with in ["http://u:p@h:1", "https://a https://u:p:q@h/x", "x=ssh://u:p@ss@h?a", "http://:p@h"] {
            assert!(in_url(with), "{with}");
        }
        for without in
            ["http://u@h:1", "http://u:@h", "https://h:1/a@b:c", "https://h?x=a:b@c", "u:p@h", "a:b@c://h"]
        {
            assert!(!in_url(without), "{without}");
        }
    }

    #[test]
    fn what_may_be_one_is_not_shown() {
        assert_eq!(hidden("https://a.example https://u:p@ss@h:1/x"), "https://…@h:1/x");
        assert_eq!(hidden("http://u:p/q@h"), "http://…@h", "a broken one is one nevertheless");
        for same in ["http://u@h", "me@h", "https://h:1/x"] {
            assert_eq!(hidden(same), same);
        }
    }
}
