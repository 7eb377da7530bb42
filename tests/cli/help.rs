//! What the command line says of itself.

use super::ran;

const COMMANDS: [&str; 14] = [
    "ask",
    "explain",
    "generate",
    "compact",
    "cram",
    "uncram",
    "quantize",
    "fetch",
    "run",
    "bench",
    "report",
    "quickstart",
    "doctor",
    "completions",
];

#[test]
fn help_has_every_command_and_the_numbers_it_ends_with() {
    let help = ran(["--help"]);
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    for command in COMMANDS {
        assert!(help.out.contains(&format!("\n  {command} ")), "{command}: {}", help.out);
        let own = ran([command, "--help"]);
        assert_eq!(own.code, 0, "{command}");
        assert!(own.out.contains(&format!("Usage: latent-briefing {command}")), "{}", own.out);
    }
    for said in ["0 where", "1 where", "2 where", "3 where", "130 where"] {
        assert!(help.out.contains(said), "{said}: {}", help.out);
    }
    // This build has everything.
    assert!(!help.out.contains("Not in this build"), "{}", help.out);
    for of in [
        "items",
        "logs",
        "episodes",
        "questions",
        "policies",
        "vectors",
        "trained",
        "coordination",
        "sparse",
        "debate",
    ] {
        assert_eq!(ran(["bench", of, "--help"]).code, 0, "{of}");
    }
    assert!(ran(["--version"]).out.starts_with("latent-briefing "));
}

/// Every command that has a worker calls it so.
#[test]
fn the_worker_is_worker_everywhere() {
    for command in [
        "ask",
        "explain",
        "generate",
        "cram",
        "uncram",
        "quantize",
        "run",
        "quickstart",
        "doctor",
        "bench items",
        "bench logs",
        "bench episodes",
        "bench questions",
        "bench vectors",
        "bench trained",
    ] {
        let help = ran(command.split(' ').chain(["--help"])).out;
        assert!(help.contains("--worker <MODEL>") && !help.contains("--model"), "{command}: {help}");
        let orchestrates = matches!(command, "run" | "bench items");
        assert_eq!(help.contains("--orchestrator-model <MODEL>"), orchestrates, "{command}: {help}");
    }
}

#[test]
fn wrong_names_are_told_the_right_ones() {
    for (arguments, known) in [
        (&["aks"][..], &COMMANDS[..]),
        (&["bench", "item"], &["items"]),
        (&["run", "--orchestrator", "gpt"], &["program", "openai", "anthropic", "local", "replay:LOG"]),
        (&["run", "--handoff", "kv"], &["full-kv", "text-replay", "latent-briefing"]),
        (&["ask", "Who?", "--handoff", "briefing"], &["full-kv", "bm25", "latent-briefing"]),
        (&["quantize", "-o", "x.gguf", "--format", "q3"], &["q8_0", "q4_k_m", "f16"]),
        (&["compact", "--input", "x", "-o", "y", "--selection", "snap"], &["snapkv", "shared", "omp"]),
        (&["compact", "--input", "x", "-o", "y", "--score", "median"], &["mean", "max", "rms"]),
        (&["generate", "--prompt", "x", "--device", "tpu"], &["cpu", "cuda", "metal"]),
        (&["bench", "logs", "--target", "mine"], &["own", "reference"]),
        (&["completions", "cmd"], &["bash", "zsh", "fish"]),
    ] {
        let ended = ran(arguments);
        assert_eq!(ended.code, 2, "{arguments:?}: {}", ended.err);
        assert_eq!(ended.out, "", "{arguments:?}");
        for name in known {
            assert!(ended.err.contains(name), "{arguments:?} lacks {name}: {}", ended.err);
        }
    }
}

#[test]
fn arguments_that_cannot_be_together_are_a_matter_of_usage() {
    for arguments in [
        &["generate"][..],
        &["generate", "--prompt", "x", "--tokens", "1"],
        &["explain"],
        &["explain", "a.jsonl", "b.jsonl"],
        &["run", "--document", "notes.txt"],
        &["run", "--protocol", "final"],
        &["run", "--orchestrator", "openai"],
        &["run", "--max-cost", "1"],
        &["run", "--max-time", "-1"],
        &["bench", "items", "--orchestrator", "replay:log"],
        &["bench", "episodes", "--tokens", "1"],
        &["quickstart", "--tau", "1", "--keep-ratio", "0.1"],
    ] {
        let ended = ran(arguments);
        assert_eq!(ended.code, 2, "{arguments:?}: {}{}", ended.out, ended.err);
        assert!(!ended.err.is_empty(), "{arguments:?}");
    }
}

#[test]
fn shells_complete_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = ran(["completions", shell]);
        assert_eq!(script.code, 0, "{shell}");
        for command in COMMANDS {
            assert!(script.out.contains(command), "{shell}: {command}");
        }
        assert!(script.out.contains("orchestrator-model"), "{shell}");
    }
}
