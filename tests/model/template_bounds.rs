//! Templates of strangers: what would overflow the stack, fill the memory or run for ever ends in an error.

use std::time::{Duration, Instant};

use lb_model::{ChatTemplate, Error, Message, RenderOptions};

fn repeated(before: &str, times: usize, text: &str, after: &str) -> String {
    format!("{before}{}{after}", text.repeat(times))
}

/// Rendering or, earlier, parsing fails as a template's failure, in a few seconds.
fn refused(name: &str, source: &str) {
    let start = Instant::now();
    let messages = [Message::new("user", "Who keeps the \"Velmar\" ledger?")];
    let done =
        ChatTemplate::new(source).and_then(|template| template.render(&messages, &RenderOptions::default()));
    match done {
        Err(Error::Template { reason }) => assert!(reason.len() < 2_000, "{name}: {} bytes", reason.len()),
        Err(other) => panic!("{name}: {other:?}"),
        Ok(text) => panic!("{name}: rendered, {} bytes", text.len()),
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{name}: {:?}", start.elapsed());
}

#[test]
fn depth_ends_in_an_error() {
    let cases = [
        ("terms", repeated("{{ 1", 30_000, " + 1", " }}")),
        ("texts", repeated("{{ ''", 30_000, " ~ ''", " }}")),
        ("conditions", repeated("{% if true", 30_000, " and true", " %}x{% endif %}")),
        ("attributes", repeated("{{ messages", 60_000, ".a", " }}")),
        ("filters", repeated("{{ 1", 30_000, "|abs", " }}")),
        ("calls", repeated("{{ raise_exception", 60_000, "()", " }}")),
        ("negations", repeated("{{ ", 60_000, "-", "1 }}")),
        ("nots", repeated("{{ ", 60_000, "not ", "1 }}")),
        ("brackets", repeated("{{ ", 5_000, "(", "1") + &")".repeat(5_000) + " }}"),
        ("lists", repeated("{{ ", 5_000, "[", "") + &"]".repeat(5_000) + " }}"),
        ("ifs", repeated("", 5_000, "{% if 1 %}", "") + &"{% endif %}".repeat(5_000)),
        ("without an end", repeated("{{ 1", 30_000, " + 1", "")),
        ("long", "x".repeat(2 << 20)),
    ];
    for (name, source) in &cases {
        refused(name, source);
    }
}

#[test]
fn text_that_grows_ends_in_an_error() {
    let forty = |step: &str| {
        format!(
            "{{% set ns = namespace(s='x\"', l=[1]) %}}{{% for i in range(40) %}}{step}{{% endfor %}}{{{{ ns.s }}}}{{{{ ns.l }}}}"
        )
    };
    let cases = [
        ("sum", forty("{% set ns.s = ns.s + ns.s %}")),
        ("joined", forty("{% set ns.s = ns.s ~ ns.s %}")),
        ("captured", "{% set a = 'x' * 1000 %}".to_owned() + &"{% set a %}{{ a }}{{ a }}{% endset %}".repeat(40)),
        ("through another", forty("{% set ns.t = ns.s %}{% set ns.s = ns.t + ns.s %}")),
        ("quoted again", forty("{% set ns.s = ns.s|tojson %}")),
        ("replaced", forty("{% set ns.s = ns.s|replace('x', 'xx') %}")),
        ("replaced as a method", forty("{% set ns.s = ns.s.replace('x', 'xx') %}")),
        ("replaced at once", "{{ ('x' * 10000)|replace('x', 'x' * 100000) }}".to_owned()),
        ("between letters", "{{ ('x' * 10000).replace('', 'x' * 100000) }}".to_owned()),
        ("put together", "{{ range(10000)|join('x' * 100000) }}".to_owned()),
        ("put together as a method", "{{ ('x' * 100000).join(['a'] * 10000) }}".to_owned()),
        ("listed", forty("{% set ns.l = ns.l + ns.l %}")),
        ("lists of one list", forty("{% set ns.l = [ns.l, ns.l] %}")),
        ("lists in lists", "{% set ns = namespace(l=[1]) %}{% for i in range(90000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}".to_owned()),
        ("repeated", "{{ 'x' * 99999999 }}{{ 'x' * 99999999 }}".to_owned()),
        ("repeated often", "{{ ('x' * 10000 * 1000 * 1000)|length }}".to_owned()),
        ("repeated by a power", "{{ ('x' * 2 ** 26)|length }}{{ ('x' * 2 ** 26)|length }}".to_owned()),
        ("repeated list", "{{ ([0] * 99999999)|list|length }}".to_owned()),
        ("wide", "{{ '%999999999d'|format(1) }}".to_owned()),
        ("wide by an argument", "{{ '%*d'|format(999999999, 1) }}".to_owned()),
        ("indented", "{{ 'x\ny'|indent(999999999) }}".to_owned()),
        ("parts", "{% set a = 'x' * 9999999 %}{% set ns = namespace(l=[]) %}{% for i in range(1000) %}{% set ns.l = ns.l + [a[1:]] %}{% endfor %}".to_owned()),
        ("its own text", "{% for i in range(100000) %}{% for j in range(100000) %}".to_owned() + &"x".repeat(1000) + "{% endfor %}{% endfor %}"),
        ("in itself", "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}".to_owned()),
        ("compared with itself", "{% set a = namespace() %}{% set b = namespace() %}{% set a.x = b %}{% set b.x = a %}{{ a == b }}".to_owned()),
        ("for ever", "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}".to_owned()),
    ];
    for (name, source) in &cases {
        refused(name, source);
    }
}

/// What real templates do with long conversations stays possible.
#[test]
fn long_conversations_are_rendered() {
    let collecting = "{% set ns = namespace(out='', all=[]) %}{% for message in messages %}{% set ns.out = ns.out + \
                      message.content|trim + '\\n' %}{% set ns.all = ns.all + [message] %}{% endfor %}{{ ns.out }}";
    let messages: Vec<Message> = (0..2_000)
        .map(|turn| {
            Message::new(
                if turn % 2 == 0 { "user" } else { "assistant" },
                "A line of some length. ".repeat(20),
            )
        })
        .collect();
    let text = ChatTemplate::new(collecting).unwrap().render(&messages, &RenderOptions::default()).unwrap();
    assert_eq!(text.lines().count(), 2_000);
    // One long document.
    let messages = [Message::new("user", "A line of a document.\n".repeat(500_000))];
    let text = ChatTemplate::new("{{ messages[0].content.strip() + '!' }}")
        .unwrap()
        .render(&messages, &RenderOptions::default())
        .unwrap();
    assert!(text.ends_with("document.!"));
}

/// The guards change no meaning.
#[test]
fn expressions_mean_what_they_mean() {
    let cases = [
        ("{{ 1 + 2 * 3 - 4 }}", "3"),
        ("{{ (1 + 2) * 3 }}", "9"),
        ("{{ 2 * 3 * 4 // 5 }}", "4"),
        ("{{ 'a' ~ 1 + 2 ~ 'b' }}", "a12b"),
        ("{{ 'a' + 'b' ~ 'c' }}", "abc"),
        ("{{ '-' * 3 + '>' }}", "--->"),
        ("{{ 'abc'[1:] + 'abc'[:1] }}", "bca"),
        ("{{ messages[0].content[4:9].upper() }}", "KEEPS"),
        ("{{ -1 + 2 }} {{ -(1 + 2) }} {{ 2 ** 3 * 2 }}", "1 -3 16"),
        ("{{ 'x' if 1 + 1 == 2 else 'y' }}", "x"),
        ("{{ 'yes' if 'a' in 'ab' + 'c' and 'd' not in 'ab' + 'c' else 'no' }}", "yes"),
        ("{{ [1, 2] + [3] }} {{ (1, 2)[1] }} {{ {'a': 1 + 1}['a'] }}", "[1, 2, 3] 2 2"),
        ("{{ missing is defined }} {{ messages is sequence }} {{ 3 is divisibleby 3 }}", "False True True"),
        ("{% set a, b = 1, 2 + 3 %}{{ a + b }}", "6"),
        (
            "{% set ns = namespace(n=0) %}{% for i in [1, 2] + [3] if i + 1 > 2 %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
            "5",
        ),
        ("{% for i in none %}x{% else %}none{% endfor %}", "none"),
        ("{% for k, v in {'a': 1}.items() %}{{ k ~ v }}{% endfor %}", "a1"),
        ("{% macro m(a, b='x' + 'y') %}{{ a + b }}{% endmacro %}{{ m('1') + m('2', b='z') }}", "1xy2z"),
        ("{% macro m(a) %}{{ caller(a + 1) }}{% endmacro %}{% call(n) m(1) %}{{ n * 2 }}{% endcall %}", "4"),
        ("{% set x %}a{{ 'b' * 2 }}{% endset %}{{ x|upper }}", "ABB"),
        ("{% filter replace('a', 'b' + 'c') %}aa{% endfilter %}", "bcbc"),
        ("{% raw %}{{ 1 + }}{% endraw %}{# 1 + #}", "{{ 1 + }}"),
        ("{{ '}}' + \"%}\" }}", "}}%}"),
        ("{{- ' a ' + 'b' -}} c", " a bc"),
        ("{{ messages|map(attribute='role')|join(', ') + '.' }}", "user."),
        ("{{ '%s-%d'|format('a', 3 + 4) }}", "a-7"),
        ("{{ 1 + 1 if false }}", ""),
    ];
    let messages = [Message::new("user", "Who keeps it?")];
    for (source, wanted) in cases {
        let template = ChatTemplate::new(source).unwrap_or_else(|e| panic!("{source}: {e}"));
        match template.render(&messages, &RenderOptions::default()) {
            Ok(text) => assert_eq!(text, wanted, "{source}"),
            Err(error) => assert!(wanted.is_empty(), "{source}: {error}"),
        }
    }
}

#[test]
fn a_mistake_is_told_with_its_line() {
    for (source, line) in
        [("a\n{{ 1 + }}", "chat:2"), ("{% if %}", "chat:1"), ("\n\n{{ 'x", "chat:3"), ("{{ 1 ! }}", "chat:1")]
    {
        let error = ChatTemplate::new(source).unwrap_err().to_string();
        assert!(error.contains(line), "{source}: {error}");
    }
}

/// What fuzzing found: each of these ended in a panic once.
#[test]
fn odd_tags_are_refused_or_rendered() {
    for source in
        ["{%} generation", "{#} generation", "{%-%}generation{%+%}", "{%generation%}a{%endgeneration%}"]
    {
        let rendered = ChatTemplate::new(source)
            .and_then(|template| template.render(&[Message::new("user", "Who?")], &RenderOptions::default()));
        match rendered {
            Ok(text) => assert!(text.contains('a'), "{source}: {text}"),
            Err(error) => assert!(matches!(error, Error::Template { .. }), "{source}: {error:?}"),
        }
    }
}
