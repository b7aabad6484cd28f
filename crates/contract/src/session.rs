//! What user-init logs of sessions and the client looks for.

/// Of a session that was not let in, by the id that the client has given it.
#[must_use]
pub fn refusal(id: &str) -> String {
    format!("session {id} is refused")
}
