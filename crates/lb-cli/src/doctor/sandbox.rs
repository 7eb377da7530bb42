//! Whether sandboxes start.

use std::time::Instant;

use lb_sandbox::{CPythonConfig, CPythonRepl, HostCall, MontyConfig, MontyRepl, Repl, ReplHost};
use serde_json::json;

use super::Finding;

/// Nobody is asked anything.
struct Nobody;

impl ReplHost for Nobody {
    fn call(&mut self, _: HostCall) -> Vec<String> {
        Vec::new()
    }

    fn cancelled(&self) -> bool {
        false
    }
}

pub(super) fn monty() -> Finding {
    let start = Instant::now();
    match tried(|| MontyRepl::start(&MontyConfig::default())) {
        Ok(()) => {
            let ms = start.elapsed().as_secs_f64() * 1e3;
            Finding::ok("sandbox", format!("monty starts and computes in {ms:.0} ms"), json!({ "ms": ms }))
        }
        Err(error) => Finding::failed("sandbox", format!("monty: {error}")),
    }
}

/// A Python that is installed is no sandbox, and nobody needs one.
pub(super) fn cpython() -> Finding {
    match tried(|| CPythonRepl::start(&CPythonConfig::default())) {
        Ok(()) => Finding::ok("python", "python3 starts (--sandbox cpython)".to_owned(), json!({})),
        Err(error) => Finding::absent("python", error),
    }
}

fn tried<R: Repl>(start: impl FnOnce() -> lb_sandbox::Result<R>) -> Result<(), String> {
    let mut repl = start().map_err(|error| error.to_string())?;
    let done = repl.execute("print(sum(range(5)))", &mut Nobody).map_err(|error| error.to_string())?;
    if done.stdout.trim() == "10" { Ok(()) } else { Err(format!("it says {:?}", done.stdout + &done.stderr)) }
}
