//! Everything that the operator wrote, read and checked as a whole: the configuration and the files it names.
//! All or nothing: an error names the file, the key and the mend, and leaves what runs as it is.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use crate::config::Config;
use crate::net::server_config;
use crate::plugin::Plugins;
use crate::policy::{LabelRules, Policies};
use crate::schema::Labels;
use crate::secret::Secret;

use super::GatewayError;

/// Longest configuration or policy file: far above real ones, so that a wrong path can't fill memory.
const MAX_TEXT: u64 = 4 << 20;

/// Longest plugin: componentize-py's are 18 MiB.
const MAX_PLUGIN: u64 = 64 << 20;

/// The inputs' texts, and a digest of everything, by which a change is seen.
#[derive(Debug)]
pub struct Texts {
    config: Config,
    /// Name as the configuration gives it, and text.
    policies: Vec<(String, String)>,
    /// Of what plugins are made of, keys included: it leaves the process nowhere.
    plugins: blake3::Hash,
    keys: BTreeMap<String, Secret>,
    /// The clients' certificates and key.
    tls: Option<Pair>,
    tls_digest: blake3::Hash,
    /// Of all that a change of is acted upon: the policy's version and what is no part of it, the clients' certificate.
    pub watched: blake3::Hash,
    /// Of everything.
    pub digest: blake3::Hash,
}

impl Texts {
    /// Reads all inputs.
    pub fn read(file: &Path) -> Result<Self, GatewayError> {
        let text = read_text(file, "--config")?;
        let mut config = Config::parse(&text, &file.display().to_string())
            .map_err(|error| GatewayError::Input(error.to_string()))?;
        config.resolve_paths(file.parent().unwrap_or(Path::new(".")));
        let mut all = blake3::Hasher::new();
        part(&mut all, text.as_bytes());
        let mut policies = Vec::new();
        for path in &config.policy.files {
            let text = read_text(path, "policy.files")?;
            part(&mut all, text.as_bytes());
            policies.push((path.display().to_string(), text));
        }
        let mut plugins = blake3::Hasher::new();
        for plugin in &config.plugins {
            part(&mut plugins, format!("{plugin:?}").as_bytes());
            part(&mut plugins, &read_bytes(&plugin.path, "plugins.path", MAX_PLUGIN)?);
        }
        part(&mut all, plugins.finalize().as_bytes());
        let keys = super::plugin_keys(file, &config)?;
        for (name, key) in &keys {
            part(&mut plugins, name.as_bytes());
            part(&mut plugins, key.expose());
        }
        let plugins = plugins.finalize();
        let (digest, tls) = (all.finalize(), read_tls(file, &config)?);
        let mut pair = blake3::Hasher::new();
        if let (Some(tls), Some(settings)) = (&tls, &config.tls) {
            part(&mut pair, &tls.certificate);
            part(&mut pair, tls.key.expose());
            part(&mut pair, tls.client_ca.as_deref().unwrap_or_default());
            part(&mut pair, format!("{:?}", settings.client_certificates).as_bytes());
        }
        let tls_digest = pair.finalize();
        part(&mut all, tls_digest.as_bytes());
        for path in config.web.iter().flat_map(|web| web.certificate.iter().chain(&web.key)) {
            part(&mut all, &read_bytes(path, "web.certificate", MAX_TEXT)?);
        }
        let watched = all.finalize();
        Ok(Self { config, policies, plugins, keys, tls, tls_digest, watched, digest })
    }
}

impl Texts {
    /// `[log]`, so that what is compiled can say something.
    pub(super) fn log(&self) -> &crate::config::Log {
        &self.config.log
    }

    /// How many plugins there are to compile.
    pub(super) fn plugins(&self) -> usize {
        self.config.plugins.len()
    }

    /// `server.workers`, which is needed before anything is compiled.
    pub fn workers(&self) -> usize {
        self.config.server.workers
    }
}

/// The files of `[tls]`.
#[derive(Debug)]
struct Pair {
    certificate: Vec<u8>,
    key: Secret,
    client_ca: Option<Vec<u8>>,
}

/// One reading of all inputs, compiled.
#[derive(Debug)]
pub struct Inputs {
    /// The configuration, its paths resolved.
    pub config: Config,
    /// The compiled policies.
    pub policies: Arc<Policies>,
    /// What carries which label.
    pub label_rules: LabelRules,
    /// The labels' names.
    pub labels: Labels,
    /// The loaded plugins.
    pub plugins: Arc<Plugins>,
    /// The certificate shown to clients, if any.
    pub client_tls: Option<Arc<rustls::ServerConfig>>,
    /// BLAKE3 of all inputs.
    pub digest: blake3::Hash,
    /// The same, with the clients' certificate.
    pub watched: blake3::Hash,
    tls_digest: blake3::Hash,
    plugins_digest: blake3::Hash,
}

impl Inputs {
    /// Compiles what was read. Plugins whose bytes and settings did not change are kept as they run.
    pub fn build(
        texts: Texts,
        running: Option<&Self>,
        workers: usize,
    ) -> Result<Self, GatewayError> {
        let input = |error: &dyn std::fmt::Display| GatewayError::Input(error.to_string());
        let Texts { config, policies, plugins: plugins_digest, keys, tls, .. } = texts;
        let Texts { digest, watched, tls_digest, .. } = texts;
        let (label_rules, labels) = LabelRules::new(&config.labels).map_err(|e| input(&e))?;
        let sources: Vec<(&str, &str)> =
            policies.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let policies = Policies::load(&sources).map_err(|e| input(&e))?;
        policies.check_labels(&labels).map_err(|e| input(&e))?;
        let plugins = match running.filter(|running| running.plugins_digest == plugins_digest) {
            Some(running) => Arc::clone(&running.plugins),
            None => Arc::new(Plugins::load(&config.plugins, keys, workers).map_err(|e| input(&e))?),
        };
        policies.check_masks(plugins.as_ref()).map_err(|e| input(&e))?;
        let policies = Arc::new(policies);
        // The same pair keeps its settings, and with them the tickets that clients hold.
        let client_tls = match (running.filter(|running| running.tls_digest == tls_digest), tls) {
            (Some(running), _) => running.client_tls.clone(),
            (None, None) => None,
            (None, Some(tls)) => {
                let need = config.tls.as_ref().and_then(|tls| tls.client_certificates);
                let clients = tls.client_ca.as_deref().zip(need);
                let made = server_config(&tls.certificate, tls.key.expose(), clients);
                Some(made.map_err(|error| input(&of_pair(&config, &error)))?)
            }
        };
        Ok(Self {
            config,
            policies,
            label_rules,
            labels,
            plugins,
            client_tls,
            digest,
            watched,
            tls_digest,
            plugins_digest,
        })
    }
}

/// What TLS towards the clients is made of.
fn read_tls(file: &Path, config: &Config) -> Result<Option<Pair>, GatewayError> {
    let Some(tls) = &config.tls else { return Ok(None) };
    let named = |error: &dyn std::fmt::Display| GatewayError::in_file(file, error);
    let read = |path: &Path, key: &str| read_bytes(path, key, MAX_TEXT).map_err(|e| named(&e));
    let certificate = read(&tls.certificate, "tls.certificate")?;
    // As any credential: not for every user of this machine to read.
    let key = crate::vault::resolve(&format!("file:{}", tls.key.display()));
    let key = key.map_err(|error| named(&format!("tls.key: {error}")))?;
    let ca = tls.client_ca.as_ref();
    let client_ca = ca.map(|path| read(path, "tls.client_ca")).transpose()?;
    Ok(Some(Pair { certificate, key, client_ca }))
}

/// What is wrong with the clients' certificate and key together.
fn of_pair(config: &Config, error: &dyn std::fmt::Display) -> String {
    let (certificate, key) =
        config.tls.as_ref().map(|tls| (tls.certificate.display(), tls.key.display())).unzip();
    let name = |path: Option<std::path::Display<'_>>| {
        path.map(|path| path.to_string()).unwrap_or_default()
    };
    format!(
        "{}: tls.certificate: {error}; give a PEM chain, and as tls.key ({}) the key of its first certificate",
        name(certificate),
        name(key)
    )
}

fn part(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

fn read_text(path: &Path, key: &str) -> Result<String, GatewayError> {
    String::from_utf8(read_bytes(path, key, MAX_TEXT)?).map_err(|_| {
        GatewayError::Input(format!("{}: {key}: not UTF-8 text; save it as UTF-8", path.display()))
    })
}

fn read_bytes(path: &Path, key: &str, limit: u64) -> Result<Vec<u8>, GatewayError> {
    let complain = |what: String, mend: &str| {
        GatewayError::Input(format!("{}: {key}: {what}; {mend}", path.display()))
    };
    let file = fs::File::open(path).map_err(|error| {
        complain(format!("can't be read ({error})"), "give a file that the gateway's user may read")
    })?;
    let mut bytes = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|error| complain(format!("can't be read ({error})"), "give a plain file"))?;
    if bytes.len() as u64 > limit {
        return Err(complain(format!("longer than {limit} bytes"), "is it the right file?"));
    }
    Ok(bytes)
}
