//! The dictionary `answer`: what is in it at the instant at which it becomes ready.

use latent_briefing::sandbox::{AnswerCell, Fault, Repl};

use super::repl::{Kind, assert_works, brief, on_each, run, small};

fn cell(content: &str, ready: bool) -> AnswerCell {
    AnswerCell { content: content.to_owned(), ready }
}

/// A block on a session without an earlier answer.
fn answer(repl: &mut dyn Repl, code: &str) -> AnswerCell {
    run(repl, "answer = {'content': '', 'ready': False}");
    let executed = run(repl, code);
    assert_eq!((executed.fault, executed.stderr.as_str()), (None, ""), "{code}");
    executed.answer
}

#[test]
fn the_content_is_that_of_the_instant() {
    let blocks = [
        ("answer['content'] = 'draft'", "draft", false),
        ("answer['content'] = 42\nanswer['ready'] = True", "42", true),
        ("answer['content'] = [1, 'a']\nanswer['ready'] = 1\nanswer['content'] = 'later'", "[1, 'a']", true),
        (
            "answer['content'] = 'a'; answer['ready'] = True; answer['content'] = 'b'; answer['ready'] = False",
            "a",
            true,
        ),
        ("answer['ready'] = True\nanswer['content'] = 'too late'", "", true),
        ("answer['ready'] = ''\nanswer['content'] = 'no'", "no", false),
        ("for i in range(5):\n    answer['content'] = i\n    if i == 3: answer['ready'] = True", "3", true),
        (
            "def f(text):\n    answer['content'] = text\n    answer['ready'] = True\n    answer['content'] = 'x'\nf('inside')\n",
            "inside",
            true,
        ),
        ("answer.update({'content': 'u', 'ready': True})\nanswer['content'] = 'x'", "u", true),
        ("answer = {'content': 'new', 'ready': True}\nanswer['content'] = 'x'", "new", true),
        (
            "def g():\n    global answer\n    answer = {'content': 'global', 'ready': True}\ng()",
            "global",
            true,
        ),
        ("answer['ready'] = (\n    True  # a comment\n)\nanswer['content'] = 'x'", "", true),
        (
            "def h():\n    answer = {'content': 'own', 'ready': True}\n    answer['ready'] = True\nh()",
            "",
            false,
        ),
        ("def h(answer):\n    answer['ready'] = True\nh({})", "", false),
        ("key = 'ready'\nanswer['content'] = 'k'\nanswer[key] = True\nanswer['content'] = 'x'", "k", true),
        ("alias = answer\nalias['content'] = 'alias'\nalias['ready'] = True", "alias", true),
        ("answer['content'] = 'short'\nanswer['ready'] = True", "short", true),
        ("FINAL('f')\nanswer['content'] = 'x'", "f", true),
        ("def end(x):\n    if x > 1: FINAL(x)\nfor i in range(4): end(i)", "2", true),
        ("answer = 'own'\nFINAL(answer + '!')", "own!", true),
    ];
    on_each(small, |kind, repl| {
        for (code, content, ready) in blocks {
            assert_eq!(answer(repl, code), cell(content, ready), "{kind:?}: {code}");
        }
    });
}

#[test]
fn an_answer_outlives_the_end_of_its_block() {
    let ends = [
        ("raise ValueError('x')", Fault::Exception),
        ("while True: pass", Fault::Time),
        ("while True:\n    try:\n        while True: pass\n    except BaseException: pass", Fault::Time),
    ];
    on_each(brief, |kind, repl| {
        for (end, fault) in ends {
            run(repl, "answer = {'content': '', 'ready': False}");
            let code = format!(
                "answer['content'] = 'found'\nanswer['ready'] = True\nanswer['content'] = 'lost'\n{end}"
            );
            let executed = run(repl, &code);
            assert_eq!(
                (executed.fault, executed.answer),
                (Some(fault), cell("found", true)),
                "{kind:?}: {end}"
            );
        }
        assert_works(repl, "answers");
    });
}

#[test]
fn an_answer_that_is_no_dictionary_becomes_one_again() {
    on_each(small, |kind, repl| {
        let executed = run(repl, "answer = 'text'");
        assert_eq!((executed.answer, executed.fault), (cell("text", false), None), "a text is a draft");
        assert!(executed.stderr.starts_with("answer is a str; to finish"), "{}", executed.stderr);
        assert_eq!(run(repl, "print(answer)").stdout, "text\n");
        for code in ["answer = None", "answer = [1]"] {
            let executed = run(repl, code);
            assert_eq!(executed.answer, cell("", false));
            let note = "answer was no dictionary any more; it is one again, with \"content\" and \"ready\"";
            assert_eq!((executed.stderr.as_str(), executed.fault), (note, None), "{kind:?}: {code}");
            assert_eq!(answer(repl, "answer['content'] = 'x'\nanswer['ready'] = True"), cell("x", true));
        }
        // `monty` has no `del`.
        let executed = run(repl, "answer = {'content': 'c'}\ndel answer");
        let lost = if kind == Kind::Monty {
            "does not know the 'del' statement"
        } else {
            "answer was no dictionary"
        };
        assert!(executed.stderr.contains(lost), "{}", executed.stderr);
        assert_works(repl, "a deleted answer");
    });
}
