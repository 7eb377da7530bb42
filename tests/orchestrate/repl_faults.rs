//! Everything that a block can do wrong: it ends with a clear line, the host lives, the next block runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use latent_briefing::sandbox::{Fault, HostCall, Repl, ReplLimits};

use super::repl::{Host, Kind, assert_works, brief, on_each, run, small};

/// What a block is to end with. `None`: no fault.
struct Case {
    what: &'static str,
    code: &'static str,
    monty: (Option<Fault>, &'static str),
    cpython: (Option<Fault>, &'static str),
}

const fn case(
    what: &'static str,
    code: &'static str,
    monty: (Option<Fault>, &'static str),
    cpython: (Option<Fault>, &'static str),
) -> Case {
    Case { what, code, monty, cpython }
}

const TIME: (Option<Fault>, &str) = (Some(Fault::Time), "TimeoutError: the block took longer than");
const MEMORY: (Option<Fault>, &str) = (Some(Fault::Memory), "MemoryError: the block used more than");

fn cases() -> Vec<Case> {
    use Fault::{Exception, Forbidden, Recursion};
    let both = |what, code, end| case(what, code, end, end);
    vec![
        both("a growing list", "x = []\nwhile True:\n    x.append('a' * 100000)", MEMORY),
        both("a doubled string", "x = 'a'\nwhile True:\n    x = x + x", MEMORY),
        both("one huge string", "x = 'a' * 10**10", MEMORY),
        both("one huge list", "x = [0] * 10**10", MEMORY),
        both("a large list kept", "x = list(range(10**7))\ny = [str(i) for i in x]", MEMORY),
        both(
            "deep recursion",
            "def f(n):\n    return f(n + 1)\nf(0)",
            (Some(Recursion), "RecursionError: maximum recursion depth exceeded"),
        ),
        both(
            "an exception",
            "x = 1\n\nraise ValueError('no\\nway')",
            (Some(Exception), "ValueError: no way (line 3)"),
        ),
        both(
            "an exception in a function",
            "def f():\n    return 1 / 0\n\nf()",
            (Some(Exception), "division by zero (line 2)"),
        ),
        both(
            "an unknown name",
            "print(unheard)",
            (Some(Exception), "NameError: name 'unheard' is not defined (line 1)"),
        ),
        both("a syntax error", "x = 1\ny = = 2\n", (Some(Exception), "SyntaxError")),
        both("an open bracket", "print((1, 2)", (Some(Exception), "SyntaxError")),
        both("an indented line", "  x = 1", (Some(Exception), "ndent")),
        both(
            "a write to a file",
            "open('/tmp/lb-repl-test', 'w').write('x')",
            (Some(Forbidden), "PermissionError: "),
        ),
        both("os.fork by name", "import os\nwhile True: os.fork()", (Some(Forbidden), "")),
        both("a shell", "import os\nos.system('true')", (Some(Forbidden), "")),
        both("a process", "import subprocess\nsubprocess.run(['true'])", (Some(Forbidden), "")),
        both("a socket", "import socket\nsocket.socket()", (Some(Forbidden), "")),
        both("sys.exit", "raise SystemExit(3)", (Some(Exception), "")),
        case(
            "a file read",
            "print(len(open('/etc/hostname').read()) > 0)",
            (Some(Forbidden), "PermissionError: "),
            // Not promised: CPython reads what the user may read.
            (None, ""),
        ),
        case(
            "import os",
            "import os",
            (Some(Forbidden), "ModuleNotFoundError: 'os' cannot be imported here; what can: "),
            (None, ""),
        ),
        case(
            "import numpy",
            "import numpy as np",
            (Some(Forbidden), "'numpy' cannot be imported"),
            (Some(Exception), "numpy"),
        ),
        case("eval", "eval('1')", (Some(Forbidden), "the sandbox has no eval()"), (None, "")),
        case(
            "the environment",
            "import os\nprint(os.environ['HOME'])",
            (Some(Forbidden), "'os'"),
            (Some(Exception), "KeyError: 'HOME'"),
        ),
        case(
            "a deep list printed",
            "x = []\nfor i in range(100000): x = [x]\nprint(len(str(x)) > 0)",
            (None, ""),
            (Some(Recursion), "RecursionError"),
        ),
        both("a deep list asked", "x = []\nfor i in range(100000): x = [x]\nprint(llm_query(x))", (None, "")),
        case("brackets without end", "BRACKETS", (Some(Exception), ""), (Some(Exception), "")),
    ]
}

/// Blocks that end when their time is up.
fn endless() -> Vec<Case> {
    let both = |what, code| case(what, code, TIME, TIME);
    vec![
        both("an infinite loop", "x = 0\nwhile True:\n    x += 1"),
        both(
            "a loop that catches",
            "while True:\n    try:\n        while True: pass\n    except Exception: pass",
        ),
        both("a nested loop", "for i in range(10**9):\n    for j in range(10**9): pass"),
    ]
}

#[test]
fn what_does_not_end_is_ended() {
    on_each(brief, |kind, repl| try_each(kind, repl, endless()));
}

#[test]
fn a_loop_that_python_code_does_not_see_is_ended() {
    on_each(brief, |kind, repl| {
        run(repl, "before = 1");
        let started = Instant::now();
        let executed = run(repl, "before = 2\nprint(sum(range(10**13)))");
        assert!(started.elapsed() < Duration::from_secs(8), "{kind:?}");
        assert_eq!(executed.fault, Some(Fault::Time), "{kind:?}: {}", executed.stderr);
        // CPython cannot be interrupted there: its process is killed.
        let (left, before) = match kind {
            Kind::Monty => ("(variables are as they were before it)", Some("1")),
            Kind::CPython => ("(the session was begun anew; of its variables it has only context)", None),
        };
        assert!(
            executed.stderr.starts_with("TimeoutError: the block took longer than")
                && executed.stderr.ends_with(left)
        );
        assert_eq!(repl.variable("before").unwrap().as_deref(), before);
        assert_works(repl, "a long sum");
    });
}

#[test]
fn every_fault_has_its_line_and_the_next_block_runs() {
    on_each(small, |kind, repl| try_each(kind, repl, cases()));
}

fn try_each(kind: Kind, repl: &mut dyn Repl, cases: Vec<Case>) {
    run(repl, "before = [1, 2, 3]");
    for case in cases {
        let code = case.code.replace("BRACKETS", &"(".repeat(100_000));
        let started = Instant::now();
        let executed = run(repl, &code);
        let (fault, line) = if kind == Kind::Monty { case.monty } else { case.cpython };
        let what = format!("{kind:?}: {}: {executed:?}", case.what);
        // How the parser gives such nesting up is its own affair.
        if case.code != "BRACKETS" {
            assert_eq!(executed.fault, fault, "{what}");
        }
        assert!(executed.stderr.contains(line), "{what}");
        assert_eq!(executed.stderr.is_empty(), executed.fault.is_none(), "{what}");
        assert!(executed.stderr.lines().count() <= 1, "{what}");
        assert!(started.elapsed() < Duration::from_secs(30), "{what}");
        if kind == Kind::Monty && matches!(executed.fault, Some(Fault::Time | Fault::Memory)) {
            assert!(executed.stderr.ends_with("(variables are as they were before it)"), "{what}");
            assert_eq!(
                repl.variable("x").unwrap(),
                Some("1".to_owned()).filter(|_| executed.locals.contains_key("x"))
            );
        }
        // CPython begins anew where a block cannot be interrupted; no case here needs it.
        assert_eq!(repl.variable("before").unwrap().as_deref(), Some("[1, 2, 3]"), "{what}");
        assert_works(repl, case.what);
    }
}

#[test]
fn a_flood_of_output_is_cut_and_counted() {
    let limits = |kind| ReplLimits { output_chars: 1000, ..small(kind) };
    on_each(limits, |kind, repl| {
        let executed = run(repl, "for i in range(200000): print('é' * 9)");
        assert_eq!(executed.fault, None, "{kind:?}: {}", executed.stderr);
        let expected =
            format!("{}\n[1999000 of 2000000 characters of output were cut]", "ééééééééé\n".repeat(100));
        assert_eq!(executed.stdout, expected);
        let executed = run(repl, "print('x' * 3000000)");
        assert!(executed.stdout.ends_with("x\n[2999001 of 3000001 characters of output were cut]"));
        assert_eq!(run(repl, "print('y' * 999)").stdout, format!("{}\n", "y".repeat(999)));
        assert_works(repl, "a flood");
    });
    // One that does not end is ended by the clock.
    on_each(brief, |_, repl| {
        let executed = run(repl, "while True: print('flood')");
        assert_eq!(executed.fault, Some(Fault::Time));
        assert!(executed.stdout.contains("characters of output were cut]"));
        assert_works(repl, "an endless flood");
    });
}

#[test]
fn more_calls_than_a_block_may_make() {
    on_each(small, |kind, repl| {
        let mut host = Host::default();
        let executed = repl
            .execute("done = 0\nfor i in range(10**6):\n    llm_query('p')\n    done = i + 1", &mut host)
            .unwrap();
        assert_eq!(
            (executed.fault, executed.calls, host.seen.len()),
            (Some(Fault::Calls), 50, 50),
            "{kind:?}"
        );
        assert_eq!(executed.stderr, "CallLimit: a block may make 50 calls");
        assert_eq!(
            repl.variable("done").unwrap().unwrap(),
            "50",
            "the variables are what the code made of them"
        );
        // Code cannot catch the end.
        let code = "while True:\n    try:\n        llm_query('p')\n    except Exception: pass";
        assert_eq!(run(repl, code).fault, Some(Fault::Calls));
        // A batch that is too large is not begun.
        let mut host = Host::default();
        let executed = repl.execute("llm_query_batched(['p'] * 51)", &mut host).unwrap();
        assert_eq!((executed.fault, executed.calls, host.seen.len()), (Some(Fault::Calls), 0, 0));
        let executed = repl.execute("llm_query_batched(['p'] * 100000)", &mut host).unwrap();
        assert_eq!((executed.fault, executed.calls, host.seen.len()), (Some(Fault::Calls), 0, 0));
        let executed = repl.execute("print(len(llm_query_batched(['p'] * 50)))", &mut host).unwrap();
        assert_eq!((executed.fault, executed.calls, executed.stdout.as_str()), (None, 50, "50\n"));
        assert_works(repl, "too many calls");
    });
}

#[test]
fn the_clock_stands_still_during_calls() {
    on_each(brief, |kind, repl| {
        let slow = |_: &HostCall| {
            std::thread::sleep(Duration::from_millis(1500));
            vec!["late".to_owned()]
        };
        let mut host = Host { answer: Box::new(slow), ..Host::default() };
        let executed = repl.execute("print(llm_query('p'))", &mut host).unwrap();
        assert_eq!(
            (executed.stdout.as_str(), executed.fault),
            ("late\n", None),
            "{kind:?}: {}",
            executed.stderr
        );
        assert!(executed.elapsed < Duration::from_millis(700), "{:?}", executed.elapsed);
    });
}

#[test]
fn a_block_is_called_off() {
    // Under way.
    on_each(
        |kind| ReplLimits { time: Duration::from_mins(1), ..small(kind) },
        |kind, repl| {
            run(repl, "before = 1");
            let cancelled = Arc::new(AtomicBool::new(false));
            let mut host = Host { cancelled: Arc::clone(&cancelled), ..Host::default() };
            let canceller = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(200));
                cancelled.store(true, Ordering::SeqCst);
            });
            let started = Instant::now();
            let executed = repl.execute("before = 2\nwhile True: pass", &mut host).unwrap();
            canceller.join().unwrap();
            assert!(started.elapsed() < Duration::from_secs(5));
            assert_eq!(executed.fault, Some(Fault::Cancelled), "{kind:?}");
            let (left, before) = match kind {
                Kind::Monty => ("(variables are as they were before it)", Some("1")),
                Kind::CPython => ("(the session was begun anew; of its variables it has only context)", None),
            };
            assert_eq!(executed.stderr, format!("Cancelled: the block was called off {left}"));
            assert_eq!(repl.variable("before").unwrap().as_deref(), before);
            assert_works(repl, "a block called off");
            // Before it begins.
            assert_eq!(repl.execute("print(1)", &mut host).unwrap().fault, Some(Fault::Cancelled));
            // During a call.
            let cancelled = Arc::new(AtomicBool::new(false));
            let set = Arc::clone(&cancelled);
            let answer = Box::new(move |_: &HostCall| {
                set.store(true, Ordering::SeqCst);
                vec!["answer".to_owned()]
            });
            let mut host = Host { answer, cancelled, ..Host::default() };
            let executed =
                repl.execute("print('first')\nx = llm_query('p')\nprint('never')", &mut host).unwrap();
            assert_eq!(executed.stdout, "first\n");
            assert_eq!(executed.stderr, "Cancelled: the block was called off during a call");
            assert_eq!(executed.fault, Some(Fault::Cancelled));
            assert_works(repl, "a call called off");
        },
    );
}

#[test]
fn what_stands_before_a_fault_has_happened() {
    on_each(small, |kind, repl| {
        let executed = run(repl, "kept = 5\nprint('out')\nraise KeyError('k')");
        assert_eq!((executed.stdout.as_str(), executed.fault), ("out\n", Some(Fault::Exception)), "{kind:?}");
        assert_eq!(executed.locals["kept"], "5");
        assert_eq!(repl.variable("kept").unwrap().unwrap(), "5");
        // What code catches is no fault.
        let caught = "try:\n    import nothing_of_the_kind\nexcept ImportError as e:\n    print('caught')\n\
                      try:\n    open('/tmp/lb-repl-x', 'w')\nexcept PermissionError as e:\n    print('refused')\n\
                      def f(n): return f(n)\ntry:\n    f(1)\nexcept RecursionError:\n    print('deep')";
        let executed = run(repl, caught);
        assert_eq!(
            (executed.stdout.as_str(), executed.fault),
            ("caught\nrefused\ndeep\n", None),
            "{kind:?}: {}",
            executed.stderr
        );
    });
}
