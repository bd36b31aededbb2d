//! What kinds of principals there are: the configuration names them, logins confer them, policies see them.

/// What kind of principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrincipalKind {
    /// A person.
    Human,
    /// An autonomous agent.
    Agent,
    /// A service or pipeline.
    Service,
}

impl PrincipalKind {
    /// The lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Agent => "agent",
            Self::Service => "service",
        }
    }
}
