//! Whom the clients trust.

use std::env;
use std::process::Command;

use latent_briefing::orchestrate::api::{OpenAi, OpenAiConfig, Streaming};

use super::{MODEL, TEXT, ask, openai, quick};
use crate::support::api_server::{ApiServer, Reply};
use crate::support::front::{tls_file, with_tls};

/// Where the child of a test asks.
const URL: &str = "LB_API_TEST_SECURE_URL";

fn run(url: &str, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "orchestrate::api::secure::alone_over_tls", "--nocapture"]);
    for name in ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
        command.env_remove(name);
    }
    let output = command.env(URL, url).envs(variables.iter().copied()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_companys_own_authority_is_trusted_where_it_is_named() {
    let server = ApiServer::start([Reply::json(200, openai::WHOLE), Reply::json(200, openai::WHOLE)]);
    let url = format!("https://127.0.0.1:{}/v1", with_tls(&server.url()).port());
    let refused = run(&url, &[]);
    assert!(refused.contains("UnknownIssuer") && refused.contains("SSL_CERT_FILE"), "{refused}");
    assert!(server.requests().is_empty());
    let authority = tls_file("authority.pem");
    for name in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"] {
        let answered = run(&url, &[(name, authority.to_str().unwrap())]);
        assert!(answered.contains(TEXT), "{answered}");
    }
    let missing = run(&url, &[("SSL_CERT_FILE", "/no/such/file.pem")]);
    assert!(missing.contains("SSL_CERT_FILE") && missing.contains("/no/such/file.pem"), "{missing}");
}

#[test]
fn alone_over_tls() {
    let Ok(url) = env::var(URL) else { return };
    let connection = quick(Streaming::Off);
    let client = OpenAi::new(OpenAiConfig { connection, ..OpenAiConfig::at(url, MODEL) });
    match client.and_then(|mut client| ask(&mut client)) {
        Ok(completion) => println!("{}", completion.text),
        Err(error) => println!("{error}"),
    }
}
