//! What is answered to one request.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::{Fault, LISTING, OLD, REPO, Request, State, TOKEN, sha256};

fn is_large(state: &State, file: &str) -> bool {
    let dataset = state.dataset.load(Ordering::SeqCst);
    let large = |end: &std::ffi::OsStr| end == "safetensors" || end == "gguf" || (dataset && end == "json");
    Path::new(file).extension().is_some_and(large)
}

pub(super) fn serve(state: &State, stream: &TcpStream, address: SocketAddr) {
    let Some(request) = Request::read(stream) else { return };
    state.log.lock().unwrap().push(request.clone());
    // A client may hang up in the middle of a reply; that is its right.
    let _ = answer(state, stream, &request, address);
}

fn answer(state: &State, out: &TcpStream, request: &Request, address: SocketAddr) -> std::io::Result<()> {
    let path = request.path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let refuse = |status, code: &str| {
        let code = if state.terse.load(Ordering::SeqCst) { "" } else { code };
        reply(out, status, &[("x-error-code", code.to_string())], b"")
    };
    let allowed = request.header("authorization") == Some(&format!("Bearer {TOKEN}"));
    if state.private.load(Ordering::SeqCst) && !allowed && !request.to_storage() {
        return refuse(401, "GatedRepo");
    }
    let (kind, parts) = match parts[..] {
        ["datasets", ref rest @ ..] => ("datasets", rest.to_vec()),
        _ => ("models", parts),
    };
    let dataset = state.dataset.load(Ordering::SeqCst);
    let served = if dataset { "datasets" } else { "models" };
    match parts[..] {
        ["old", "name", "resolve", ..] => {
            let target = request.path.replace("/old/name/", &format!("/{REPO}/"));
            reply(out, 307, &[("location", target)], b"")
        }
        ["api", "models", OLD, "revision", revision] => {
            let target = format!("/api/models/{REPO}/revision/{revision}?blobs=true");
            reply(out, 307, &[("location", target)], b"")
        }
        [OLD, "resolve", ..] => {
            let target = request.path.replacen(OLD, REPO, 1);
            reply(out, 307, &[("location", target)], b"")
        }
        ["api", kind, org, name, "revision", revision] => {
            let commit = commit_of(state, revision);
            let commit = commit.filter(|_| kind == served && format!("{org}/{name}") == REPO);
            if let Some(&Fault::Status(status, code)) = state.faults.lock().unwrap().get(LISTING) {
                return refuse(status, code);
            }
            match commit {
                Some(commit) => reply(out, 200, &[], listing(state, &commit).as_bytes()),
                None => reply(out, 404, &[], b"{}"),
            }
        }
        ["storage", commit, ref file @ ..] => storage(state, out, request, commit, &file.join("/")),
        [org, name, "resolve", revision, ref file @ ..] => {
            if kind != served || format!("{org}/{name}") != REPO {
                return refuse(404, "RepoNotFound");
            }
            let Some(commit) = commit_of(state, revision) else { return refuse(404, "RevisionNotFound") };
            let file = file.join("/");
            if let Some(refused) = refusal(state, out, &file) {
                return refused;
            }
            resolve(state, out, request, &commit, &file, address)
        }
        _ => refuse(404, ""),
    }
}

/// What the fault of a file answers instead of it.
fn refusal(state: &State, out: &TcpStream, file: &str) -> Option<std::io::Result<()>> {
    let mut faults = state.faults.lock().unwrap();
    let fault = *faults.get(file)?;
    let code = |code: &str| if state.terse.load(Ordering::SeqCst) { String::new() } else { code.to_string() };
    match fault {
        Fault::Status(status, name) => Some(reply(out, status, &[("x-error-code", code(name))], b"")),
        Fault::Refusal(status, name, said) => Some(reply(
            out,
            status,
            &[("x-error-code", code(name)), ("x-error-message", said.to_string())],
            b"",
        )),
        Fault::Busy(0, ..) | Fault::HangUp(0) => None,
        Fault::Busy(times, status, name, value) => {
            faults.insert(file.to_string(), Fault::Busy(times - 1, status, name, value));
            Some(reply(out, status, &[(name, value.to_string())], b""))
        }
        Fault::HangUp(times) => {
            faults.insert(file.to_string(), Fault::HangUp(times - 1));
            Some(out.shutdown(std::net::Shutdown::Both))
        }
        _ => None,
    }
}

/// The description of the repository at one commit.
fn listing(state: &State, commit: &str) -> String {
    let files = state.files.lock().unwrap();
    let siblings: Vec<_> = files
        .iter()
        .filter(|((at, _), _)| at == commit)
        .map(|((_, file), bytes)| serde_json::json!({"rfilename": file, "size": bytes.len()}))
        .collect();
    serde_json::json!({"id": REPO, "sha": commit, "siblings": siblings}).to_string()
}

fn commit_of(state: &State, revision: &str) -> Option<String> {
    let revisions = state.revisions.lock().unwrap();
    let revision = revision.replace("%2F", "/");
    revisions.get(&revision).or_else(|| revisions.values().find(|commit| **commit == revision)).cloned()
}

fn bytes_of(state: &State, commit: &str, file: &str) -> Option<Vec<u8>> {
    state.files.lock().unwrap().get(&(commit.to_string(), file.to_string())).cloned()
}

fn resolve(
    state: &State,
    out: &TcpStream,
    request: &Request,
    commit: &str,
    file: &str,
    address: SocketAddr,
) -> std::io::Result<()> {
    let Some(bytes) = bytes_of(state, commit, file) else {
        let terse = state.terse.load(Ordering::SeqCst);
        let code = if terse { String::new() } else { "EntryNotFound".to_string() };
        return reply(out, 404, &[("x-error-code", code), ("x-repo-commit", commit.to_string())], b"");
    };
    let fault = state.faults.lock().unwrap().get(file).copied();
    let mut headers = vec![("x-repo-commit", commit.to_string())];
    let size = if let Some(Fault::Huge(size)) = fault { size } else { bytes.len() as u64 };
    if is_large(state, file) {
        headers.push(("x-linked-etag", format!("\"{}\"", sha256(&bytes))));
        headers.push(("x-linked-size", size.to_string()));
        headers.push(("etag", "\"not-the-file\"".to_string()));
        headers.push(("location", format!("http://localhost:{}/storage/{commit}/{file}", address.port())));
    } else {
        // Git's hash in life; any forty digits here, different for different content.
        headers.push(("etag", format!("\"{}\"", &sha256(&bytes)[..40])));
    }
    if let Some(Fault::Header(name, value)) = fault {
        headers.retain(|(n, _)| *n != name);
        headers.push((name, value.to_string()));
    }
    if is_large(state, file) {
        return reply(out, 302, &headers, b"");
    }
    body(state, out, request, file, &headers, bytes)
}

fn storage(
    state: &State,
    out: &TcpStream,
    request: &Request,
    commit: &str,
    file: &str,
) -> std::io::Result<()> {
    match bytes_of(state, commit, file) {
        Some(bytes) => body(state, out, request, file, &[], bytes),
        None => reply(out, 404, &[], b""),
    }
}

/// The content, or the part of it that a range asks for, with its fault.
fn body(
    state: &State,
    mut out: &TcpStream,
    request: &Request,
    file: &str,
    headers: &[(&str, String)],
    mut bytes: Vec<u8>,
) -> std::io::Result<()> {
    let fault = state.faults.lock().unwrap().get(file).copied();
    let whole = if let Some(Fault::Huge(size)) = fault { size } else { bytes.len() as u64 };
    let mut headers = headers.to_vec();
    let range = request.header("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-'));
    let start: Option<usize> = range.and_then(|r| r.parse().ok());
    let start = start.filter(|_| !matches!(fault, Some(Fault::NoRange)));
    if start.is_some_and(|start| start >= bytes.len()) {
        return reply(out, 416, &headers, b"");
    }
    if let Some(Fault::WrongBytes) = fault {
        *bytes.last_mut().unwrap() ^= 1;
    }
    if let Some(start) = start {
        headers.push(("content-range", format!("bytes {start}-{}/{whole}", whole - 1)));
        bytes.drain(..start);
    }
    let length = whole - start.unwrap_or(0) as u64;
    if matches!(fault, Some(Fault::EmptyHead)) && request.method == "HEAD" {
        headers.push(("content-length", "0".to_string()));
    } else if !matches!(fault, Some(Fault::Endless)) {
        headers.push(("content-length", length.to_string()));
    }
    let status = if start.is_some() { 206 } else { 200 };
    send_headers(out, status, &headers)?;
    if request.method == "HEAD" {
        return Ok(());
    }
    match fault {
        Some(Fault::Cut(after)) => out.write_all(&bytes[..after.min(bytes.len())]),
        Some(Fault::CutOnce(after)) => {
            state.faults.lock().unwrap().remove(file);
            out.write_all(&bytes[..after.min(bytes.len())])
        }
        Some(Fault::Silent) => wait_while_open(state, out, b""),
        Some(Fault::Trickle) => wait_while_open(state, out, b"x"),
        Some(Fault::Endless) => loop {
            out.write_all(&[b' '; 1 << 12])?;
        },
        _ => out.write_all(&bytes),
    }
}

fn wait_while_open(state: &State, mut out: &TcpStream, drop: &[u8]) -> std::io::Result<()> {
    while !state.closed.load(Ordering::SeqCst) {
        out.write_all(drop)?;
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn send_headers(mut out: &TcpStream, status: u16, headers: &[(&str, String)]) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n");
    for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
        head.extend([name, ": ", value.as_str(), "\r\n"]);
    }
    out.write_all((head + "\r\n").as_bytes())
}

fn reply(mut out: &TcpStream, status: u16, headers: &[(&str, String)], body: &[u8]) -> std::io::Result<()> {
    let mut headers = headers.to_vec();
    headers.push(("content-length", body.len().to_string()));
    send_headers(out, status, &headers)?;
    out.write_all(body)
}
