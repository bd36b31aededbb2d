//! Paths of a configuration, made independent of the folder that the process was started in.

use std::path::{Path, PathBuf};

use super::{Config, Pem};

impl Config {
    /// Resolves every relative path against `base`, the folder of the configuration file.
    pub fn resolve_paths(&mut self, base: &Path) {
        let resolve = |path: &mut PathBuf| *path = base.join(&*path);
        let file = |reference: &mut String| {
            if let Some(path) = reference.strip_prefix("file:") {
                *reference = format!("file:{}", base.join(path).display());
            }
        };
        resolve(&mut self.admin.socket);
        resolve(&mut self.store.path);
        resolve(&mut self.audit.dir);
        self.policy.files.iter_mut().for_each(resolve);
        self.plugins.iter_mut().for_each(|plugin| resolve(&mut plugin.path));
        if let Some(tls) = &mut self.tls {
            resolve(&mut tls.certificate);
            resolve(&mut tls.key);
            tls.client_ca.iter_mut().for_each(resolve);
        }
        if let Some(web) = &mut self.web {
            web.certificate.iter_mut().chain(&mut web.key).for_each(resolve);
        }
        let references = self.issuers.iter_mut().filter_map(|issuer| issuer.client_secret.as_mut());
        for reference in references {
            if let Some(path) = reference.strip_prefix("file:") {
                *reference = format!("file:{}", base.join(path).display());
            }
        }
        self.issuers.iter_mut().filter_map(|issuer| issuer.ca.as_mut()).for_each(resolve);
        for of in &mut self.saml {
            of.metadata.iter_mut().chain(&mut of.key).chain(&mut of.certificate).for_each(resolve);
            of.certificates.iter_mut().for_each(resolve);
        }
        for webhook in &mut self.webhooks {
            file(&mut webhook.url);
            file(&mut webhook.secret);
            webhook.ca.iter_mut().for_each(resolve);
        }
        for target in &mut self.targets {
            let pems = target.tls_ca.iter_mut().chain(target.server_public_key.iter_mut());
            for pem in pems {
                if let Pem::File(path) = pem {
                    resolve(path);
                }
            }
            target.socket.iter_mut().for_each(resolve);
            if let Some(path) = target.address.strip_prefix("unix:") {
                target.address = format!("unix:{}", base.join(path).display());
            }
            file(&mut target.password);
        }
        let audit = &mut self.audit;
        let keys = audit.signing_key.iter_mut().chain(&mut audit.encryption_key);
        keys.chain(&mut audit.old_encryption_keys).for_each(file);
        let custody = &mut self.custody;
        custody.master_key.iter_mut().chain(&mut custody.previous_master_key).for_each(file);
        if let Some(vault) = &mut self.vault {
            file(&mut vault.token);
            vault.ca.iter_mut().for_each(resolve);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_follow_the_file() {
        let text = Config::SAMPLE.replace("env:ROWGATE_SHOP_PASSWORD", "file:secrets/shop");
        let mut config = Config::parse(&text, "rowgate.toml").unwrap();
        config.resolve_paths(Path::new("/etc/rowgate"));
        assert_eq!(config.policy.files, [Path::new("/etc/rowgate/policies/default.cedar")]);
        assert_eq!(config.store.path, Path::new("/var/lib/rowgate/rowgate.db"));
        let target = &config.targets[0];
        let ca = PathBuf::from("/etc/rowgate/tls/database-ca.pem");
        assert_eq!(target.tls_ca, Some(Pem::File(ca)));
        assert_eq!(target.password, "file:/etc/rowgate/secrets/shop");
        assert_eq!(config.tls.unwrap().key, Path::new("/etc/rowgate/tls/server.key"));
    }
}
