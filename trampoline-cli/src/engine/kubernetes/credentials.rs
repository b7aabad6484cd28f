//! Credentials that are not there, or that the cluster does not take. Neither the arguments of a plugin nor what it wrote
//! to its standard output are ever shown: both may be secrets.

use contract::exit::Exit;
use kube::client::AuthError;
use kube::config::{AuthInfo, ExecInteractiveMode};

use crate::engine::last_line;
use crate::error::CliError;

/// The program that the kubeconfig has credentials from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plugin {
    command: String,
    /// How to install it, as the kubeconfig's author says.
    install: Option<String>,
    /// It has our terminal, and has said there what is wrong.
    has_terminal: bool,
}

impl Plugin {
    /// None: credentials come from elsewhere. Others come before it, as in the library.
    pub(super) fn of(auth: &AuthInfo) -> Option<Self> {
        let exec = auth.exec.as_ref()?;
        Some(Self {
            command: exec.command.clone()?,
            install: exec.install_hint.clone(),
            has_terminal: exec.interactive_mode != Some(ExecInteractiveMode::Never),
        })
    }
}

/// `place`: `context minikube`.
pub(super) fn missing(place: &str, plugin: Option<&Plugin>, error: &AuthError) -> CliError {
    let name = plugin.map_or("of the kubeconfig", |plugin| plugin.command.as_str());
    let log_in = "log in to the cluster as its people say; `kubectl auth whoami` shows whether that worked";
    let (why, hint) = match error {
        AuthError::AuthExecStart(source) if source.kind() == std::io::ErrorKind::NotFound => {
            let install = plugin.and_then(|plugin| plugin.install.clone());
            let hint = install.map_or_else(
                || {
                    "install it, or have the kubeconfig name it by its path (`users[].user.exec.command`)"
                        .to_owned()
                },
                |install| install.split_whitespace().collect::<Vec<_>>().join(" "),
            );
            return no_credentials(place, &format!("plugin {name} is not installed, or not on PATH"))
                .hint(hint);
        }
        AuthError::AuthExecStart(source) => (format!("plugin {name} cannot be started: {source}"), log_in),
        AuthError::AuthExecRun { out, .. } => {
            let words = last_line(&out.stderr);
            let said = match plugin {
                _ if !words.is_empty() => format!(": {words}"),
                Some(plugin) if plugin.has_terminal => "; its own words stand above".to_owned(),
                _ => ", without a word".to_owned(),
            };
            (format!("plugin {name} failed ({}){said}", out.status), log_in)
        }
        // The parser would show what it found.
        AuthError::AuthExecParse(_) | AuthError::ExecPluginFailed => (
            format!("plugin {name} printed no credentials"),
            "it has to print an ExecCredential with a `status`: run it by hand, or ask whoever gave you the kubeconfig",
        ),
        AuthError::ReadTokenFile(source, path) => {
            (format!("cannot read the token file {}: {source}", path.display()), log_in)
        }
        other => (other.to_string(), log_in),
    };
    no_credentials(place, &why).hint(hint)
}

/// 401.
pub(super) fn refused(place: &str) -> CliError {
    no_credentials(place, "the cluster does not accept them (401): expired, or of another cluster").hint(
        "log in to the cluster again as its people say; `kubectl auth whoami` shows whether that worked",
    )
}

fn no_credentials(place: &str, why: &str) -> CliError {
    CliError::new(Exit::NoPermission, format!("no credentials for {place}: {why}"))
}
