//! An address with a port, at which the pod listens.

use std::net::SocketAddr;

use crate::places::SSH_PORT;

/// What [`super::Text::Listen`] means; none of anything else.
#[must_use]
pub fn listen(text: &str) -> Option<SocketAddr> {
    text.parse().ok()
}

pub(super) fn check(text: &str) -> Result<(), String> {
    match listen(text) {
        None => Err("not an address and a port".to_owned()),
        Some(at) if at.port() == 0 => Err("port 0 is another one at each start".to_owned()),
        // uid 64101 may have no other, and sshd is there already.
        Some(at) if at.port() < 1024 => Err("a port below 1024 is root's".to_owned()),
        Some(at) if at.port() == SSH_PORT => Err(format!("port {SSH_PORT} is sshd's")),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn only_an_address_with_a_port_that_is_free() {
        for good in ["0.0.0.0:9464", "127.0.0.1:1024", "[::]:9464"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in
            ["9464", "localhost:9464", "0.0.0.0", "0.0.0.0:0", "0.0.0.0:80", "0.0.0.0:2222", "[::]:70000"]
        {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
