//! What every HTTP client of the workspace shares: whom it trusts, which proxy it goes through, how long it pauses.

mod proxy;
mod retry;
mod roots;

use ureq::config::ConfigBuilder;
use ureq::http::Uri;
use ureq::tls::TlsConfig;
use ureq::typestate::AgentScope;

pub use retry::{backoff, rate_limit_reset, retry_after};

use crate::Result;

/// The variables that name certificates to trust instead of the platform's, as Python's HTTP libraries read them; the
/// first that is set counts.
pub const CERTIFICATE_VARIABLES: [&str; 4] =
    ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Gives an agent for `url` its certificates and its proxy.
///
/// Certificates are those of [`CERTIFICATE_VARIABLES`], else the platform's, else (on a system that has none, as small
/// containers do) Mozilla's. The proxy is that of `HTTPS_PROXY` or `HTTP_PROXY` by the scheme, else of `ALL_PROXY`, but for the
/// hosts of `NO_PROXY`; lower case comes first. What is meant for this machine does not leave it.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) naming the variable: a file that is not there or holds no certificate, an
/// address that is none.
pub fn configure(builder: ConfigBuilder<AgentScope>, url: &str) -> Result<ConfigBuilder<AgentScope>> {
    let uri: Option<Uri> = url.parse().ok();
    let proxy = uri.as_ref().map(proxy::of).transpose()?.flatten();
    let roots = if url.starts_with("https://") {
        roots::find()?
    } else {
        // An address without TLS may still redirect to one with it; a broken bundle is then told by the handshake.
        roots::find().unwrap_or(ureq::tls::RootCerts::WebPki)
    };
    let tls = TlsConfig::builder().root_certs(roots).build();
    Ok(builder.tls_config(tls).proxy(proxy))
}

/// What to do about a refused certificate, for the end of a message that says so.
pub fn certificate_advice(reason: &str) -> &'static str {
    if reason.contains("UnknownIssuer") || reason.contains("unknown issuer") {
        "; a company's own authority is trusted where the system trusts it, or where SSL_CERT_FILE names its PEM file"
    } else {
        ""
    }
}
