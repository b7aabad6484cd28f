//! What the judge asks of an engine that has to be told (the API server of a cluster), and what it may hear. podman need not be
//! told: there the pod ends with its agents.

/// A question or an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// How does the scale stand?
    Read,
    /// Stop the builder, provided that nothing has been changed since this version.
    Stop {
        /// As read.
        version: String,
    },
}

/// The scale of the builder's `StatefulSet`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scale {
    /// Of the object: any change makes another one, a client's "I want this builder" included.
    pub version: String,
    /// Wanted.
    pub replicas: u32,
}

/// Each call is answered once, unless another has taken its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To [`Call::Read`].
    Scale(Result<Scale, Refusal>),
    /// To [`Call::Stop`]; after `Ok`, and after nothing else, the builder is certain to be stopped.
    Stop(Result<(), Refusal>),
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The object has been changed since it was read.
    Conflict,
    /// Forbidden, away, slow: for a person, with what to do.
    Trouble(String),
}
