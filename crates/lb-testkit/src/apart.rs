//! Parts of tests in processes of their own: measured from outside, killed, or in each other's way.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Says what a process that [`Apart::start`] began is to do.
const PART: &str = "LATENT_BRIEFING_TEST_PART";
/// What a part says is on lines that begin so; test programs write lines of their own.
const MARK: &str = "part: ";

/// The part that this process plays: `None` in the one that runs the tests.
pub fn part() -> Option<String> {
    std::env::var(PART).ok()
}

/// Tells the test, from within a part.
pub fn tell(text: impl std::fmt::Display) {
    println!("\n{MARK}{text}");
}

/// Tells the test the last thing, and waits until it was measured what that took.
pub fn tell_measured(text: impl std::fmt::Display) {
    tell(text);
    std::thread::sleep(Duration::from_secs(5));
}

/// A part under way.
pub struct Apart {
    /// The process.
    pub child: Child,
    said: BufReader<ChildStdout>,
}

impl Apart {
    /// Runs the test `test` of this program again, alone, as `part`.
    pub fn start(test: &str, part: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(PART, part);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    /// The next thing that it says; empty where it ended without.
    pub fn said(&mut self) -> String {
        let mut line = String::new();
        while self.said.read_line(&mut line).unwrap() > 0 {
            if let Some(text) = line.trim_end().strip_prefix(MARK) {
                return text.to_owned();
            }
            line.clear();
        }
        String::new()
    }

    /// Kills it as the system does that runs out of memory.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// What a part took, seen from outside.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Wall time until its last word.
    pub time: Duration,
    /// The most that was resident of it; 0 where the system does not say.
    pub bytes: u64,
    /// What it told at last.
    pub told: String,
}

/// Plays a part to its end and measures it. Its last word is told with [`tell_measured`].
pub fn measured(test: &str, part: &str) -> Taken {
    let started = Instant::now();
    let mut apart = Apart::start(test, part);
    let id = apart.child.id();
    let told = apart.said();
    let time = started.elapsed();
    let bytes = peak(id).unwrap_or(0);
    assert!(bytes > 0 || cfg!(not(target_os = "linux")), "{part} was not measured");
    apart.kill();
    assert!(!told.is_empty(), "{part} ended without a word");
    Taken { time, bytes, told }
}

/// The most memory that was resident of a process so far.
fn peak(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}
