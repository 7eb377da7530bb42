//! Which proxy the environment names for an address, by the rules of Python's `urllib`.

use std::net::IpAddr;

use ureq::Proxy;
use ureq::http::Uri;

use crate::{Error, Result};

const HTTPS: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
const HTTP: [&str; 4] = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];

/// The proxy for an address, `None` where it is reached directly.
pub(super) fn of(uri: &Uri) -> Result<Option<Proxy>> {
    let is_tls = uri.scheme_str() == Some("https");
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
    if is_loopback(&host) {
        return Ok(None);
    }
    let read = |name: &'static str| std::env::var(name).ok().map(|value| (name, value.trim().to_string()));
    let named = if is_tls { HTTPS } else { HTTP };
    let Some((variable, value)) = named.into_iter().filter_map(read).find(|(_, value)| !value.is_empty())
    else {
        return Ok(None);
    };
    // It may hold a password, so it is not repeated.
    let refuse = |_| Error::Config {
        field: variable,
        value: "(not shown)".to_string(),
        reason: "expected an address such as http://host:port or socks5://host:port".to_string(),
    };
    let proxy = Proxy::new(&value).map_err(refuse)?;
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let direct = read("no_proxy").or_else(|| read("NO_PROXY")).map(|(_, value)| value).unwrap_or_default();
    with_exceptions(&proxy, &exceptions(&direct, &host, port)).map(Some).map_err(refuse)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Only a builder takes exceptions.
fn with_exceptions(proxy: &Proxy, exceptions: &[String]) -> std::result::Result<Proxy, ureq::Error> {
    let mut builder = Proxy::builder(proxy.protocol()).host(proxy.host()).port(proxy.port());
    builder = builder.resolve_target(proxy.resolve_target());
    if let Some(name) = proxy.username() {
        builder = builder.username(name);
    }
    if let Some(password) = proxy.password() {
        builder = builder.password(password);
    }
    exceptions.iter().fold(builder, |builder, host| builder.no_proxy(host)).build()
}

/// The hosts of a `no_proxy` list in the HTTP library's words: there a name covers the hosts below it only with a dot, and
/// ports and networks are not known, so these are judged for the host at hand.
fn exceptions(list: &str, host: &str, port: u16) -> Vec<String> {
    let mut hosts = Vec::new();
    for entry in list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()) {
        let entry = entry.to_ascii_lowercase();
        if entry == "*" {
            return vec![entry];
        }
        if is_in_network(host, &entry) {
            hosts.push(host.to_string());
            continue;
        }
        let (name, only) = match entry.rsplit_once(':') {
            Some((name, digits)) if !name.contains(':') => (name, digits.parse::<u16>().ok()),
            _ => (entry.as_str(), None),
        };
        let name = name.trim_start_matches('*').trim_start_matches('.').trim_matches(['[', ']']);
        let below = format!(".{name}");
        match only {
            None => hosts.extend([name.to_string(), below]),
            Some(only) if only == port && (host == name || host.ends_with(&below)) => {
                hosts.push(host.to_string());
            }
            Some(_) => {}
        }
    }
    hosts
}

/// Whether `host` is an address of the network `entry`, `10.0.0.0/8`.
fn is_in_network(host: &str, entry: &str) -> bool {
    let Some((network, bits)) = entry.split_once('/') else { return false };
    let (Ok(host), Ok(network), Ok(bits)) =
        (host.parse::<IpAddr>(), network.parse::<IpAddr>(), bits.parse::<u32>())
    else {
        return false;
    };
    let (host, network, width) = match (host, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        _ => return false,
    };
    bits <= width && (host ^ network).checked_shr(width - bits).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_pythons() {
        let bypassed = |list: &str, host: &str, port: u16| {
            let proxy =
                with_exceptions(&Proxy::new("http://proxy:3128").unwrap(), &exceptions(list, host, port));
            let uri: Uri = format!("http://{host}:{port}/x").parse().unwrap();
            proxy.unwrap().is_no_proxy(&uri)
        };
        for (list, host, port, expected) in [
            ("", "hub.example.com", 80, false),
            ("*", "hub.example.com", 80, true),
            ("example.com", "hub.example.com", 80, true),
            ("example.com", "example.com", 80, true),
            (".example.com", "example.com", 80, true),
            ("*.example.com", "hub.example.com", 80, true),
            ("example.com", "notexample.com", 80, false),
            ("a.org, EXAMPLE.com", "Hub.Example.com", 80, true),
            ("example.com:8080", "hub.example.com", 8080, true),
            ("example.com:8080", "hub.example.com", 80, false),
            ("10.0.0.0/8", "10.3.4.5", 80, true),
            ("10.0.0.0/8", "11.3.4.5", 80, false),
            ("0.0.0.0/0", "11.3.4.5", 80, true),
            ("192.168.0.7", "192.168.0.7", 80, true),
            ("10.0.0.0/99", "10.0.0.1", 80, false),
        ] {
            let host_lower = host.to_ascii_lowercase();
            assert_eq!(bypassed(list, &host_lower, port), expected, "{list:?} {host}:{port}");
        }
    }

    #[test]
    fn this_machine_is_reached_directly() {
        for host in ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "::1"] {
            assert!(is_loopback(host), "{host}");
        }
        assert!(!is_loopback("localhost.example.com"));
    }
}
