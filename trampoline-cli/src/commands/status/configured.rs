//! Which trampoline.toml a builder runs with, and where from.

use contract::handshake::BuilderStatus;

use crate::context::Context;
use crate::render::digest;

/// For `status`.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Configured {
    /// First digits of the file's sha256.
    pub(crate) digest: String,
    /// Where the agents find it.
    pub(crate) from: String,
    /// Agents that run with another one: they have not read it yet, or refuse it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) others: Vec<String>,
    /// The file that this client read, if it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) differs_from: Option<String>,
}

/// Of a builder that runs.
pub(crate) fn of(context: &Context, pod: &BuilderStatus) -> Option<Configured> {
    let from = context.engine.config_place(&context.name);
    let here =
        context.settings.file.as_ref().map(|file| (file.display().to_string(), &*context.settings.text));
    judge(pod, from, here)
}

fn judge(pod: &BuilderStatus, from: String, here: Option<(String, &str)>) -> Option<Configured> {
    let agents = || pod.agents.iter().filter(|agent| !agent.config.is_empty());
    // What most have, the first of them where it is a draw.
    let count = |digest: &str| agents().filter(|agent| agent.config == digest).count();
    let digest = agents().rev().max_by_key(|agent| count(&agent.config))?.config.clone();
    let others = agents().filter(|agent| agent.config != digest).map(|agent| agent.agent.clone()).collect();
    let differs = |(_, text): &(String, &str)| self::digest(text.as_bytes()) != digest;
    let differs_from = here.filter(differs).map(|(file, _)| file);
    Some(Configured { digest, from, others, differs_from })
}

impl std::fmt::Display for Configured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.digest, self.from)?;
        if !self.others.is_empty() {
            write!(f, ", but for {}", self.others.join(", "))?;
        }
        match &self.differs_from {
            Some(file) => write!(f, "; {file} is another: `trampoline-cli config apply`"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use contract::handshake::{AgentStatus, Life, Phase};

    use super::*;

    fn pod(digests: &[&str]) -> BuilderStatus {
        let agents = digests.iter().enumerate().map(|(number, digest)| AgentStatus {
            life: Life("a".into()),
            agent: format!("agent-{number}"),
            version: String::new(),
            phase: Phase::Running,
            message: String::new(),
            exit: None,
            progress: None,
            config: (*digest).to_owned(),
            config_note: None,
            at: 0,
        });
        let status = serde_json::json!({ "life": "a", "agents": agents.collect::<Vec<_>>() });
        serde_json::from_value(status).unwrap()
    }

    #[test]
    fn who_runs_with_what_is_told() {
        let text = "x = 1\n";
        let ours = digest(text.as_bytes());
        let shown = |digests: &[&str], here: Option<&str>| {
            let here = here.map(|text| ("f.toml".to_owned(), text));
            judge(&pod(digests), "ConfigMap m".into(), here).map(|configured| configured.to_string())
        };
        assert_eq!(shown(&[&ours, &ours], Some(text)).unwrap(), format!("{ours} of ConfigMap m"));
        assert_eq!(shown(&[&ours, ""], None).unwrap(), format!("{ours} of ConfigMap m"));
        assert_eq!(
            shown(&["old", &ours, &ours], Some(text)).unwrap(),
            format!("{ours} of ConfigMap m, but for agent-0")
        );
        assert!(
            shown(&[&ours], Some("other"))
                .unwrap()
                .ends_with("; f.toml is another: `trampoline-cli config apply`")
        );
        assert_eq!(shown(&[""], None), None);
    }
}
