//! Harness of the end-to-end scenarios: people with homes of their own drive `trampoline-cli`, and nothing else,
//! against a real engine. What only an engine can do (end a container behind the client's back, say what is left)
//! is in [`engine`] alone, so that the scenarios hold for any engine.

pub mod builder;
pub mod call;
pub mod checkout;
pub mod cluster;
pub mod disk;
pub mod engine;
pub mod nix_client;
pub mod nix_files;
pub mod output;
pub mod person;
pub mod podman;
pub mod process;
pub mod processes;
pub mod secrets;
pub mod setting;
pub mod terminal;
pub mod volume;
