//! `rowgate cert self-signed`: a key and a certificate to start with. It never overwrites a file.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use super::CliError;
use super::args::CertVerb;
use super::output::say;

pub(super) fn run(verb: CertVerb) -> Result<(), CliError> {
    let CertVerb::SelfSigned { out, hosts, days } = verb;
    let (certificate, key) = (out.join("rowgate.crt"), out.join("rowgate.key"));
    for path in [&certificate, &key] {
        if path.exists() {
            let text =
                format!("{}: is there already; move it, or name another --out", path.display());
            return Err(CliError::input(text));
        }
    }
    let made = make(&hosts, days)?;
    std::fs::create_dir_all(&out).map_err(|error| refused(&out, &error))?;
    write(&key, 0o600, &made.key)?;
    write(&certificate, 0o644, &made.certificate)?;
    let (certificate, key) = (certificate.display(), key.display());
    say(&format!("certificate = \"{certificate}\"\nkey = \"{key}\""))?;
    eprintln!("valid for {} until {}; put the two lines under [tls]", hosts.join(", "), made.until);
    Ok(())
}

struct Made {
    certificate: String,
    key: zeroize::Zeroizing<String>,
    until: String,
}

fn make(hosts: &[String], days: u16) -> Result<Made, CliError> {
    let bad = |error: rcgen::Error| CliError::input(format!("--host: {error}"));
    let mut params = CertificateParams::new(hosts).map_err(bad)?;
    let name = hosts.first().map_or("rowgate", String::as_str);
    params.distinguished_name.push(DnType::CommonName, name);
    // not a CA: clients made with webpki refuse a CA's own certificate at the end of a chain
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let today = jiff::tz::Offset::UTC.to_datetime(jiff::Timestamp::now()).date();
    let day = |date: jiff::civil::Date| {
        let month = u8::try_from(date.month()).unwrap_or(1);
        date_time_ymd(i32::from(date.year()), month, u8::try_from(date.day()).unwrap_or(1))
    };
    let until = today.saturating_add(jiff::Span::new().days(i64::from(days)));
    // a day back: clocks differ
    params.not_before = day(today.saturating_sub(jiff::Span::new().days(1)));
    params.not_after = day(until);
    let failed = |error: rcgen::Error| CliError::failed(format!("the certificate: {error}"));
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?.pem();
    let key = zeroize::Zeroizing::new(key.serialize_pem());
    Ok(Made { certificate, key, until: until.to_string() })
}

fn write(path: &Path, mode: u32, text: &str) -> Result<(), CliError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| refused(path, &error))
}

fn refused(path: &Path, error: &std::io::Error) -> CliError {
    CliError::failed(format!(
        "{}: --out: {error}; name a folder that can be written",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rustls_pki_types::pem::PemObject as _;

    use super::*;

    #[test]
    fn makes_what_rustls_takes_and_never_overwrites() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("tls");
        let verb = || CertVerb::SelfSigned {
            out: out.clone(),
            hosts: vec!["db.example.org".into(), "127.0.0.1".into()],
            days: 30,
        };
        run(verb()).unwrap();
        let key = out.join("rowgate.key");
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        let chain =
            rustls_pki_types::CertificateDer::from_pem_file(out.join("rowgate.crt")).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::from_pem_file(&key).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .unwrap();
        assert!(matches!(run(verb()), Err(CliError::Input(_))));
    }

    #[test]
    fn a_bad_name_is_bad_input() {
        assert!(matches!(make(&["bücher.example".into()], 1), Err(CliError::Input(_))));
    }
}
