//! Chat templates that would take the machine's memory, its stack or its time, rendered in processes that are watched.

use std::time::Duration;

use latent_briefing::model::{ChatTemplate, Message, RenderOptions};

use crate::support::apart::{measured, part, tell_measured};

/// What a rendering may take, besides its process.
const BYTES: u64 = 512 << 20;
const TIME: Duration = Duration::from_secs(40);

/// Each refused; by name, since they are arguments of processes.
const REFUSED: [(&str, &str); 20] = [
    ("batch", "{{ [1]|batch(999999999,'x') }}"),
    ("slice", "{{ [1]|slice(999999999) }}"),
    ("indent by name", "{{ 'x'|indent(width=9999999999999) }}"),
    ("join by name", "{{ range(100000)|join(d='x'*600000) }}"),
    ("debug", "{{ debug(['x'*10000]*900000) }}"),
    ("trim", "{{ (['x'*10000]*900000)|trim }}"),
    ("safe", "{{ (['x'*10000]*900000)|safe }}"),
    ("raise", "{{ raise_exception(['x'*10000]*900000) }}"),
    ("map", "{{ ['x'*1000000]|map('indent', 9999999) }}"),
    ("characters", "{{ ('x'*60000000)|list|length }}"),
    ("sorted", "{{ ('x'*60000000)|sort|length }}"),
    ("split", "{{ ('x,'*30000000).split(',')|length }}"),
    ("guards", "{{ 'x'|__factor('times',true) }}"),
    ("guards by text", "{{ ['x']|map('__sum')|list }}"),
    (
        "a chain",
        "{% set ns = namespace(last=0) %}{% for i in range(100000) %}{% set n = namespace() %}{% set n.prev = ns.last %}\
         {% set ns.last = n %}{% endfor %}",
    ),
    ("a ring", "{% set ns = namespace() %}{% set ns.it = [ns] %}{{ ns.it }}"),
    ("walks", "{% set b = [0]*999999 %}{% for i in range(100000) %}{% if [b] %}{% endif %}{% endfor %}"),
    (
        "searches",
        "{% set b = 'x'*60000000 %}{% for i in range(100000) %}{% if b.find('y') %}{% endif %}{% endfor %}",
    ),
    (
        "comparisons",
        "{% set b = 'x'*30000000 %}{% set c = 'x'*30000000 %}{% for i in range(100000) %}{% if b == c %}{% endif %}{% endfor %}",
    ),
    ("copies", "{% set b = 'x'*30000000 %}{{ [b|reverse, b|reverse, b|trim, b|upper]|length }}"),
];

/// Each of another fate, and quickly: refused or rendered.
fn survived() -> [(&'static str, String); 4] {
    [
        (
            "repeated lists",
            "{% set ns = namespace(l=[1]) %}{% for i in range(100000) %}{% set ns.l = ns.l * 1 %}{% endfor %}\
             {% for x in ns.l %}x{% endfor %}"
                .to_owned(),
        ),
        (
            "parts of lists",
            "{% set ns = namespace(l=[1]) %}{% for i in range(100000) %}{% set ns.l = ns.l[0:] %}{% endfor %}{{ ns.l }}"
                .to_owned(),
        ),
        (
            "sums of lists",
            "{% set ns = namespace(l=[1]) %}{% for i in range(100000) %}{% set ns.l = ns.l + [1] %}{% endfor %}{{ ns.l|length }}"
                .to_owned(),
        ),
        ("many tags", "{%%}".repeat(200_000) + "generation"),
    ]
}

/// Does nothing but in the processes that the tests start.
#[test]
fn played() {
    let Some(part) = part() else { return };
    let refused = REFUSED.iter().map(|(name, source)| (*name, (*source).to_owned()));
    let (_, source) = refused.chain(survived()).find(|(name, _)| *name == part).unwrap();
    let messages = [Message::new("user", "Who keeps the ledger?")];
    let rendered =
        ChatTemplate::new(source).and_then(|template| template.render(&messages, &RenderOptions::default()));
    tell_measured(match rendered {
        Ok(text) => format!("rendered {} bytes", text.len()),
        Err(error) => error.to_string().replace('\n', " "),
    });
}

fn play(name: &str) -> String {
    let taken = measured("hostile::templates::played", name);
    println!("{:5.2} s {:4} MiB  {name}: {}", taken.time.as_secs_f64(), taken.bytes >> 20, taken.told);
    assert!(taken.time < TIME && taken.bytes < BYTES, "{name}: {taken:?}");
    taken.told
}

#[test]
fn no_template_takes_the_machine() {
    for (name, _) in REFUSED {
        let told = play(name);
        assert!(told.starts_with("chat template: "), "{name}: {told}");
    }
    for (name, _) in survived() {
        play(name);
    }
}

/// With filters that keep account, texts are those of Jinja2 3.1.6.
#[test]
fn ordinary_filters_do_what_they_do() {
    let messages = [Message::new("user", "  Who keeps\nthe ledger?  "), Message::new("assistant", "Ana.")];
    for (source, text) in [
        ("{{ messages|map(attribute='role')|join(', ') }}", "user, assistant"),
        ("{{ (messages|selectattr('role', 'equalto', 'user')|list)|length }}", "1"),
        ("{{ messages|rejectattr('role', 'equalto', 'user')|map(attribute='content')|first }}", "Ana."),
        ("{{ [3, 1, 2]|sort|join('') }}{{ 'abc'|reverse }}{{ [1, 2, 3]|reverse|list }}", "123cba[3, 2, 1]"),
        ("{{ [1, 2, 3, 4, 5]|batch(2)|list }}", "[[1, 2], [3, 4], [5]]"),
        ("{{ 'a b'|indent(width=2, first=true) }}|{{ 'ab'|upper }}|", "  a b|AB|"),
        (
            "{{ messages[0].content|trim }}{{ messages[0].content.strip().split('\\n')[-1] }}",
            "Who keeps\nthe ledger?the ledger?",
        ),
        ("{{ {'a': 1}|items|list }}{{ {'b': 2, 'a': 1}|dictsort }}", "[('a', 1)][('a', 1), ('b', 2)]"),
        ("{{ [1, 2, 3, 4]|select('odd')|list }}{{ [1, 2]|reject('odd')|list }}", "[1, 3][2]"),
        ("{{ [1, 1, 2]|unique|list }}{{ [1, 2]|sum }}{{ [1, 5, 2]|max }}", "[1, 2]35"),
        (
            "{% set ns = namespace(l=[]) %}{% for i in range(3) %}{% set ns.l = ns.l + [i] %}{% endfor %}{{ ns.l }}",
            "[0, 1, 2]",
        ),
        ("{{ ([1, 2] * 2)[1:3] }}{{ 'ab' * 2 }}{{ 'abc'[::-1] }}", "[2, 1]ababcba"),
        (
            "{{ dict(a=1) }}{{ 'a.b'.replace('.', '-') }}{{ none|default('d') }}{{ x|default('e') }}",
            "{'a': 1}a-bNonee",
        ),
    ] {
        let rendered = ChatTemplate::new(source)
            .and_then(|template| template.render(&messages, &RenderOptions::default()))
            .unwrap_or_else(|error| panic!("{source}: {error}"));
        assert_eq!(rendered, text, "{source}");
    }
}
