//! What user-init says of sessions and the client looks for.

/// Of a session that was not let in, by the id that the client has given it: in the log of whoever did not let it in.
#[must_use]
pub fn refusal(id: &str) -> String {
    format!("session {id} is refused")
}
