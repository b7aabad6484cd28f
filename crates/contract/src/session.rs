//! What user-init says of sessions and the client looks for.

/// Written by a session that is let in to its stderr, before all that its command says, where its client listens for it.
#[must_use]
pub fn begun(id: &str) -> String {
    format!("<session {id} has begun>")
}

/// Written in place of that word by a session that is not let in. Neither contains the other.
#[must_use]
pub fn turned_away(begun: &str) -> String {
    format!("<refused: {}", begun.trim_start_matches('<'))
}

/// Of a session that was not let in, by the id that the client has given it: in the log of whoever did not let it in.
#[must_use]
pub fn refusal(id: &str) -> String {
    format!("session {id} is refused")
}
