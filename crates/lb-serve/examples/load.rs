//! Load on a server: so many clients for so long, each with trajectories of its own, and what came of it.
//!
//!     cargo run --release -p lb-serve --example load -- --url http://127.0.0.1:8080 --clients 64 --minutes 10 --pid PID
//!
//! A client makes trajectories, appends to them, asks about them over briefings and over the whole cache, chats without any, and deletes
//! them. Each minute shows requests, errors, the median, the 95th percentile, and what the process of `--pid` has in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::{Value, json};

#[derive(Parser)]
struct Args {
    /// The server.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Its key, where it wants one.
    #[arg(long)]
    key: Option<String>,
    /// Clients at a time.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// How long.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Or so many answers, if that is sooner.
    #[arg(long, default_value_t = u64::MAX)]
    answers: u64,
    /// Trajectories in all, each client its share.
    #[arg(long, default_value_t = 128)]
    trajectories: usize,
    /// The server's process, to watch its memory.
    #[arg(long)]
    pid: Option<u32>,
}

/// What clients tell.
#[derive(Default)]
struct Told {
    /// Milliseconds by what was asked.
    times: BTreeMap<&'static str, Vec<f64>>,
    failed: BTreeMap<String, u64>,
}

const TOWNS: [&str; 8] = ["Oslo", "Turin", "Kyoto", "Lima", "Accra", "Riga", "Quito", "Hobart"];
const NAMES: [&str; 8] = ["Ana", "Bo", "Cleo", "Dan", "Eve", "Finn", "Gil", "Hana"];
const HANDOFFS: [&str; 4] = ["latent-briefing:keep=0.1", "latent-briefing:keep=0.2", "full-kv", "bm25:0.2"];

struct Client<'a> {
    agent: ureq::Agent,
    args: &'a Args,
    told: &'a Mutex<Told>,
    answers: &'a AtomicU64,
}

impl Client<'_> {
    fn send(&self, what: &'static str, method: &str, path: &str, body: &Value) -> Option<Value> {
        let begin = Instant::now();
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.args.url))
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", self.args.key.as_deref().unwrap_or("none")));
        let sent = request.body(body.to_string()).map_err(|error| error.to_string());
        let answered = sent.and_then(|request| self.agent.run(request).map_err(|error| error.to_string()));
        let read = answered.and_then(|mut response| {
            let status = response.status().as_u16();
            let text = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
            if status >= 400 { Err(format!("{status} {text}")) } else { Ok(text) }
        });
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(text) => {
                told.times.entry(what).or_default().push(begin.elapsed().as_secs_f64() * 1e3);
                serde_json::from_str(&text).ok()
            }
            Err(error) => {
                let shown: String = error.chars().take(120).collect();
                *told.failed.entry(format!("{what}: {shown}")).or_default() += 1;
                None
            }
        }
    }

    /// One trajectory from its beginning to its end.
    fn live(&self, seed: usize, stop: &AtomicBool) {
        let line = |n: usize| {
            let (town, name) = (TOWNS[(seed + n) % 8], NAMES[(seed / 8 + 3 * n) % 8]);
            json!({ "source": "finding", "text": format!("The {town} ledger of year {} is kept by {name}.", 1900 + (seed + n) % 90) })
        };
        let segments: Vec<Value> = (0..24).map(line).collect();
        let made = self.send("create", "POST", "/v1/trajectories", &json!({ "segments": segments }));
        let Some(id) = made.as_ref().and_then(|made| made["id"].as_str()) else { return };
        for turn in 0..12 {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let question = format!("Who keeps the {} ledger?", TOWNS[(seed + turn) % 8]);
            let mut body = json!({ "messages": [{ "role": "user", "content": question }], "max_tokens": 24 });
            if turn % 4 < 3 {
                body["briefing"] = json!({ "trajectory": id, "handoff": HANDOFFS[(seed + turn) % 4] });
                self.send("ask", "POST", "/v1/chat/completions", &body);
            } else {
                self.send("chat", "POST", "/v1/chat/completions", &body);
            }
            self.answers.fetch_add(1, Ordering::Relaxed);
            let more = json!({ "segments": [line(24 + turn)] });
            self.send("append", "POST", &format!("/v1/trajectories/{id}/segments"), &more);
        }
        self.send("delete", "DELETE", &format!("/v1/trajectories/{id}"), &Value::Null);
    }
}

/// MiB that a process has in memory.
fn resident(pid: Option<u32>) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid?)).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse::<f64>().ok().map(|kib| kib / 1024.0)
}

fn at(sorted: &[f64], share: f64) -> f64 {
    sorted.get((share * (sorted.len().saturating_sub(1)) as f64) as usize).copied().unwrap_or(f64::NAN)
}

fn main() {
    let args = Args::parse();
    let (told, answers, stop) = (Mutex::new(Told::default()), AtomicU64::new(0), AtomicBool::new(false));
    let begin = Instant::now();
    println!("minute  requests  failed  ask p50 ms  ask p95 ms  MiB");
    std::thread::scope(|scope| {
        for client in 0..args.clients {
            let (args, told, answers, stop) = (&args, &told, &answers, &stop);
            scope.spawn(move || {
                let config = ureq::Agent::config_builder().http_status_as_error(false);
                let agent = config.timeout_global(Some(Duration::from_mins(2))).build().new_agent();
                let client_of = Client { agent, args, told, answers };
                let own = args.trajectories.div_ceil(args.clients).max(1);
                for round in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    client_of.live(client * own + round % own, stop);
                }
            });
        }
        let minutes = (args.minutes.max(0.0) * 60.0) as u64;
        for second in 1..=minutes {
            std::thread::sleep(Duration::from_secs(1));
            let enough = answers.load(Ordering::Relaxed) >= args.answers;
            if second % 60 == 0 || second == minutes || enough {
                let told = told.lock().unwrap_or_else(PoisonError::into_inner);
                let mut asks = told.times.get("ask").cloned().unwrap_or_default();
                asks.sort_by(f64::total_cmp);
                let (requests, failed) =
                    (told.times.values().map(Vec::len).sum::<usize>(), told.failed.values().sum::<u64>());
                let memory = resident(args.pid).map_or("-".to_owned(), |mib| format!("{mib:.0}"));
                println!(
                    "{:>6.1}  {requests:>8}  {failed:>6}  {:>10.0}  {:>10.0}  {memory:>4}",
                    second as f64 / 60.0,
                    at(&asks, 0.5),
                    at(&asks, 0.95)
                );
            }
            if enough {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let told = told.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("\n{} answers in {:.0} s", answers.load(Ordering::Relaxed), begin.elapsed().as_secs_f64());
    for (what, mut times) in told.times {
        times.sort_by(f64::total_cmp);
        println!(
            "{what:>8}: {:>6} times, p50 {:.0} ms, p95 {:.0} ms, longest {:.0} ms",
            times.len(),
            at(&times, 0.5),
            at(&times, 0.95),
            at(&times, 1.0)
        );
    }
    for (what, count) in told.failed {
        println!("{count} x {what}");
    }
}
