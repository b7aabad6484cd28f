//! trampoline.toml.
