//! Clouds hand the credentials of a machine to whoever asks a certain address from there, and fixed-output builds and users share the
//! pod's network. In a privileged pod a route that leads nowhere keeps them from it; elsewhere that is for the cluster's network.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::Path;

use contract::places::METADATA;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// Closes the way to all of them, for as long as the pod's network is there. What cannot be closed is told: a builder without it
/// still works.
pub fn close(resolv_conf: &Path) {
    let text = fs::read_to_string(resolv_conf).unwrap_or_default();
    for address in METADATA {
        // On one cloud it is the name server, too.
        if resolves(&text, address) {
            tracing::warn!(
                "{address} is a name server here, so builds may ask it for the machine's credentials as well"
            );
            continue;
        }
        match lead_nowhere(address) {
            Ok(()) => {}
            // Without that family there is no way there.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            Err(error) => {
                tracing::warn!(%error, "builds may reach {address}, where clouds hand out the machine's credentials")
            }
        }
    }
}

fn resolves(resolv_conf: &str, address: IpAddr) -> bool {
    let words = |line: &str| -> Option<IpAddr> {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok())?
    };
    resolv_conf.lines().filter_map(words).any(|server| server == address)
}

/// `ip route replace unreachable ADDRESS`; images have no `ip`.
fn lead_nowhere(address: IpAddr) -> io::Result<()> {
    let netlink =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    let request = request(address);
    send(netlink.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut answer = [0; 512];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    match outcome(&answer[..length]) {
        Some(0) => Ok(()),
        Some(code) => Err(Errno::from_raw(code.saturating_neg()).into()),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer to a new route is none")),
    }
}

/// `nlmsghdr`, `rtmsg` and one attribute, all in this machine's order of bytes.
fn request(address: IpAddr) -> Vec<u8> {
    let (family, bytes) = match address {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
    };
    let family = u8::try_from(family).unwrap_or_default();
    let bits = u8::try_from(bytes.len() * 8).unwrap_or_default();
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
    let mut body = vec![
        family,
        bits,
        0,
        0,
        libc::RT_TABLE_MAIN,
        libc::RTPROT_STATIC,
        libc::RT_SCOPE_UNIVERSE,
        libc::RTN_UNREACHABLE,
    ];
    body.extend([0; 4]);
    body.extend(u16::try_from(4 + bytes.len()).unwrap_or_default().to_ne_bytes());
    body.extend(libc::RTA_DST.to_ne_bytes());
    body.extend(bytes);
    let mut message = u32::try_from(16 + body.len()).unwrap_or_default().to_ne_bytes().to_vec();
    message.extend(libc::RTM_NEWROUTE.to_ne_bytes());
    message.extend(u16::try_from(flags).unwrap_or_default().to_ne_bytes());
    // A number and a port, neither of which matters to one question.
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// The code in an `nlmsgerr`: 0, or an errno below it.
fn outcome(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let code = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (i32::from(kind) == libc::NLMSG_ERROR).then_some(code)
}

#[cfg(test)]
mod tests {
    use nix::sched::{CloneFlags, unshare};

    use super::*;

    #[test]
    fn a_name_server_is_left_alone() {
        let text = "# 169.254.169.254\nsearch example\nnameserver 10.0.0.1\nnameserver\t169.254.169.254\n";
        assert!(resolves(text, METADATA[0]) && !resolves(text, METADATA[1]));
        assert!(!resolves("nameserver 169.254.169.253\nnameserver", METADATA[0]));
    }

    #[test]
    fn a_route_that_leads_nowhere_is_there_afterwards() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        // Of this thread alone.
        std::thread::spawn(|| {
            if unshare(CloneFlags::CLONE_NEWNET).is_err() {
                return;
            }
            let routes = || fs::read_to_string("/proc/thread-self/net/route").unwrap();
            assert!(!routes().contains("FEA9FEA9"));
            close("/dev/null".as_ref());
            close("/dev/null".as_ref());
            let rejected = routes().lines().filter(|line| line.contains("FEA9FEA9\t00000000\t0205")).count();
            assert_eq!(rejected, 1, "{}", routes());
        })
        .join()
        .unwrap();
    }
}
