//! Paths, certificates and proxies from the environment.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::hub::with_environment;
use crate::support::checkpoints::{TIED, golden};
use crate::support::front::{Proxy, tls_file, with_tls};
use crate::support::hub_server::{HubServer, TOKEN};

const FILE: (&str, &str) = ("LB_HUB_TEST_FILE", "config.json");

/// Whether a cache was made below a folder.
fn is_cache(hub: &Path) -> bool {
    hub.join("models--org--tiny/refs/main").is_file()
}

#[test]
fn homes_and_variables_in_paths_are_expanded() {
    let server = HubServer::of(&golden(TIED));
    let url = server.url();
    for (name, value, below) in [
        ("HF_HOME", "~/hf", "home/hf/hub"),
        ("HF_HOME", "$LB_TEST_PLACE/hf", "place/hf/hub"),
        ("HF_HOME", "${LB_TEST_PLACE}", "place/hub"),
        ("HF_HUB_CACHE", "~", "home"),
        ("HF_HUB_CACHE", "~/a/$LB_TEST_NAME/b", "home/a/x/b"),
        ("HUGGINGFACE_HUB_CACHE", "~/c", "home/c"),
        ("XDG_CACHE_HOME", "$LB_TEST_PLACE", "place/huggingface/hub"),
    ] {
        let outer = TempDir::new().unwrap();
        let (home, place) = (outer.path().join("home"), outer.path().join("place"));
        let said = with_environment(&[
            ("HF_ENDPOINT", &url),
            ("HOME", home.to_str().unwrap()),
            ("USERPROFILE", home.to_str().unwrap()),
            ("LB_TEST_PLACE", place.to_str().unwrap()),
            ("LB_TEST_NAME", "x"),
            (name, value),
            FILE,
        ]);
        assert!(said.contains("loaded"), "{name}={value}: {said}");
        assert!(is_cache(&outer.path().join(below)), "{name}={value}: {said}");
    }
}

#[test]
fn paths_that_mean_nothing_are_named() {
    let server = HubServer::of(&golden(TIED));
    let url = server.url();
    for (name, value, word) in [
        ("HF_HOME", "$LB_TEST_UNSET/x", "`LB_TEST_UNSET`"),
        ("HF_HUB_CACHE", "${LB_TEST_UNSET}", "`LB_TEST_UNSET`"),
        ("HF_HOME", "~no-such-user-here/x", "`~no-such-user-here`"),
        ("XDG_CACHE_HOME", "$LB_TEST_UNSET", "`LB_TEST_UNSET`"),
        ("HF_TOKEN_PATH", "$LB_TEST_UNSET/token", "`LB_TEST_UNSET`"),
    ] {
        let said = with_environment(&[("HF_ENDPOINT", &url), (name, value), FILE]);
        assert!(said.contains(name) && said.contains(word) && !said.contains("loaded"), "{said}");
    }
    assert!(!Path::new("~").exists() && !Path::new("$LB_TEST_UNSET").exists());
    assert!(server.requests().is_empty());
}

#[test]
fn a_token_file_may_be_named_with_a_home() {
    let (server, home) = (HubServer::of(&golden(TIED)), TempDir::new().unwrap());
    server.make_private();
    let (url, path) = (server.url(), home.path().to_str().unwrap());
    fs::write(home.path().join("secret"), format!("{TOKEN}\n")).unwrap();
    let variables = [
        ("HF_ENDPOINT", url.as_str()),
        ("HOME", path),
        ("HF_HOME", path),
        ("HF_TOKEN_PATH", "~/secret"),
        FILE,
    ];
    assert!(with_environment(&variables).contains("loaded"));
}

#[test]
fn transformers_variable_also_means_offline() {
    let (server, home) = (HubServer::of(&golden(TIED)), TempDir::new().unwrap());
    let (url, path) = (server.url(), home.path().to_str().unwrap());
    let said =
        with_environment(&[("HF_ENDPOINT", &url), ("HF_HOME", path), ("TRANSFORMERS_OFFLINE", "1"), FILE]);
    assert!(said.contains("offline") && server.requests().is_empty(), "{said}");
}

#[test]
fn a_companys_own_authority_is_trusted_where_it_is_named() {
    let (server, home) = (HubServer::of(&golden(TIED)), TempDir::new().unwrap());
    let secure = with_tls(&server.url());
    let url = format!("https://localhost:{}", secure.port());
    let base = [("HF_ENDPOINT", url.as_str()), ("HF_HOME", home.path().to_str().unwrap()), FILE];
    let run = |name: &'static str, value: &str| {
        let mut variables = base.to_vec();
        variables.push((name, value));
        with_environment(&variables)
    };
    let refused = with_environment(&base);
    assert!(refused.contains("UnknownIssuer") && refused.contains("SSL_CERT_FILE"), "{refused}");
    assert!(server.requests().is_empty());
    let file = tls_file("authority.pem");
    let folder = TempDir::new().unwrap();
    fs::copy(&file, folder.path().join("a1b2c3d4.0")).unwrap();
    fs::write(folder.path().join("README"), "not a certificate").unwrap();
    for name in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR"] {
        for path in [&file, &folder.path().to_path_buf()] {
            let _ = fs::remove_dir_all(home.path().join("hub"));
            let said = run(name, path.to_str().unwrap());
            assert!(said.contains("loaded"), "{name}: {said}");
        }
    }
    let key = tls_file("server.key");
    let empty = TempDir::new().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("model/hub_environment.rs");
    for (path, word) in [
        (Path::new("/no/such/bundle.pem"), "cannot be read"),
        (key.as_path(), "holds no certificate"),
        (empty.path(), "holds no file"),
        (source.as_path(), "holds no certificate"),
    ] {
        let said = run("SSL_CERT_FILE", path.to_str().unwrap());
        assert!(said.contains("SSL_CERT_FILE") && said.contains(word), "{said}");
    }
}

#[test]
fn requests_go_through_the_proxy_that_is_named() {
    let (server, home) = (HubServer::of(&golden(TIED)), TempDir::new().unwrap());
    let plain = Proxy::to(server.url().trim_start_matches("http://").parse().unwrap());
    let secure = Proxy::to(with_tls(&server.url()));
    let (plain_url, secure_url) = (plain.url(), secure.url());
    let authority = tls_file("authority.pem");
    let run = |variables: &[(&str, &str)]| {
        let _ = fs::remove_dir_all(home.path().join("hub"));
        let mut all = vec![("HF_HOME", home.path().to_str().unwrap()), FILE];
        all.push(("SSL_CERT_FILE", authority.to_str().unwrap()));
        all.extend(variables);
        with_environment(&all)
    };
    let over_tls = ("HF_ENDPOINT", "https://hub.example");
    let said = run(&[over_tls, ("HTTPS_PROXY", &secure_url), ("HTTP_PROXY", "http://127.0.0.1:9")]);
    assert!(said.contains("loaded"), "{said}");
    assert!(secure.targets().iter().all(|target| target == "hub.example:443"), "{:?}", secure.targets());
    let count = secure.targets().len();
    assert!(count > 0);
    for (name, value) in [("https_proxy", secure_url.as_str()), ("ALL_PROXY", secure_url.as_str())] {
        let said = run(&[over_tls, (name, value)]);
        assert!(said.contains("loaded"), "{name}: {said}");
    }
    assert!(secure.targets().len() > count);
    // Hosts that are named as exceptions are reached directly, which this one cannot be.
    let count = secure.targets().len();
    for exception in ["hub.example", "example", "*"] {
        let said = run(&[over_tls, ("HTTPS_PROXY", &secure_url), ("NO_PROXY", exception)]);
        assert!(!said.contains("loaded"), "{exception}: {said}");
    }
    assert_eq!(secure.targets().len(), count);
    // Without TLS the other variable counts, and this machine is never reached through a proxy.
    let said = run(&[("HF_ENDPOINT", "http://hub.example"), ("HTTP_PROXY", &plain_url)]);
    assert!(said.contains("loaded") && !plain.targets().is_empty(), "{said}");
    let count = plain.targets().len();
    let said = run(&[("HF_ENDPOINT", &server.url()), ("HTTP_PROXY", &plain_url)]);
    assert!(said.contains("loaded") && plain.targets().len() == count, "{said}");
    let said = run(&[over_tls, ("HTTPS_PROXY", "ftp://user:secret@proxy")]);
    assert!(said.contains("HTTPS_PROXY") && !said.contains("secret"), "{said}");
}
