//! The options of what monitoring reads.

use crate::config::check::Text;
use crate::config::option::{Effect, Kind, Opt, Reader, field};

pub(super) static METRICS: [Opt; 1] = [Opt {
    table: "metrics",
    key: "listen",
    kind: Kind::Text(Text::Listen),
    example: "\"0.0.0.0:9464\"",
    doc: "Address and port in the pod at which all agents' metrics can be read, in Prometheus' text format: `/metrics`. \
          Whoever reaches it reads them. Under podman the port is that of 127.0.0.1 of this machine as well; in a \
          cluster it is let through to the pod. With an address of 127.0.0.1 only the pod itself reaches it, builds \
          that have the network included. Not set: nobody listens.",
    readers: &[Reader::Client, Reader::Maintenance],
    effect: Effect::Setup,
    field: field!(metrics.listen),
}];
