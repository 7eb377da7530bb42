//! Whose certificates are trusted.

use std::fs;
use std::path::Path;

use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};

use super::CERTIFICATE_VARIABLES;
use crate::files::{SETTINGS, read_at_most};
use crate::{Error, Result};

/// Those that the environment names, else the platform's.
pub(super) fn find() -> Result<RootCerts> {
    for variable in CERTIFICATE_VARIABLES {
        if let Some(value) = std::env::var_os(variable).filter(|value| !value.is_empty()) {
            return bundle(variable, Path::new(&value)).map(RootCerts::from);
        }
    }
    Ok(platform())
}

/// The certificates of a PEM file, or of all PEM files of a folder.
fn bundle(variable: &'static str, path: &Path) -> Result<Vec<Certificate<'static>>> {
    let refuse =
        |reason: String| Error::Config { field: variable, value: path.display().to_string(), reason };
    let unreadable = |e: std::io::Error| refuse(format!("cannot be read: {e}"));
    if !path.is_dir() {
        let found = certificates(&read_at_most(path, SETTINGS).map_err(unreadable)?);
        let found = found.ok_or_else(|| refuse("expected certificates in PEM form".to_string()))?;
        return if found.is_empty() {
            Err(refuse("holds no certificate in PEM form".to_string()))
        } else {
            Ok(found)
        };
    }
    let mut all = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)?.flatten() {
        // Folders of certificates hold other files as well.
        all.extend(
            read_at_most(entry.path(), SETTINGS)
                .ok()
                .and_then(|bytes| certificates(&bytes))
                .unwrap_or_default(),
        );
    }
    if all.is_empty() {
        Err(refuse("holds no file with certificates in PEM form".to_string()))
    } else {
        Ok(all)
    }
}

/// The certificates among the items of a PEM file; `None` where it is damaged.
fn certificates(pem: &[u8]) -> Option<Vec<Certificate<'static>>> {
    let items: Option<Vec<PemItem<'static>>> = parse_pem(pem).map(std::result::Result::ok).collect();
    let certificate = |item| if let PemItem::Certificate(found) = item { Some(found) } else { None };
    Some(items?.into_iter().filter_map(certificate).collect())
}

#[cfg(any(windows, target_vendor = "apple"))]
fn platform() -> RootCerts {
    RootCerts::PlatformVerifier
}

#[cfg(not(any(windows, target_vendor = "apple")))]
fn platform() -> RootCerts {
    use std::sync::LazyLock;
    static FOUND: LazyLock<RootCerts> = LazyLock::new(|| {
        let found = rustls_native_certs::load_native_certs().certs;
        if found.is_empty() {
            return RootCerts::WebPki;
        }
        found.iter().map(|der| Certificate::from_der(der).to_owned()).collect::<Vec<_>>().into()
    });
    FOUND.clone()
}
