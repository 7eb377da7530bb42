//! Constructs of public templates that other engines failed on, and what Jinja2 makes of them (as transformers sets
//! it up).

use lb_model::{ChatTemplate, Conversation, RenderOptions};

const MESSAGES: &[u8] = br#"[{"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "<think>\nt\n</think>\n\na", "tool_calls": null},
    {"role": "user", "content": "  x\n"}]"#;

/// Where it was reported, the construct, and the text.
const CASES: [(&str, &str, &str); 15] = [
    (
        "janhq/jan 6123",
        "{% set c = messages[1].content %}{% set r = (c.split('</think>')|first).rstrip('\\n') %}\
         {{ (c.split('</think>')|last).lstrip('\\n') }}|{{ (r.split('<think>')|last).lstrip('\\n') }}",
        "a|t",
    ),
    (
        "withcatai/node-llama-cpp 366",
        "{{ messages | rejectattr('role','equalto','assistant') | list | length }}\
         {{ messages | selectattr('tool_calls','undefined') | list | length }}",
        "22",
    ),
    (
        "theroyallab/YALS 24",
        "{{ messages[0].kind | upper == '' }}{{ (messages[0].kind | default('x')) | upper }}",
        "TrueX",
    ),
    (
        "microsoft/foundry-local 800",
        "{{ messages[0].content.replace('H','h').rstrip('i') }}{{ messages[2].content.lstrip() | trim }}",
        "hx",
    ),
    ("mitsuhiko/minijinja 815", "{% generation %}{{ messages[0].content }}{% endgeneration %}", "Hi"),
    (
        "ggml-org/llama.cpp 12231",
        "{% set content = messages[1].content.split('</think>')[-1].lstrip('\\n') %}{{ content }}",
        "a",
    ),
    (
        "negative places",
        "{{ messages[-1].content|trim }}{{ messages[::-1][0].role }}{{ messages[1:]|length }}",
        "xuser2",
    ),
    (
        "namespaces",
        "{% set ns = namespace(l=[]) %}{% for m in messages %}{% set ns.l = ns.l + [m.role[0]] %}{% endfor %}{{ ns.l|join }}",
        "uau",
    ),
    (
        "python literals",
        "{{ none }}{{ true }}{{ 1.0 }}{{ 1e20 }}{{ [1,'a',none,true] }}",
        "NoneTrue1.01e+20[1, 'a', None, True]",
    ),
    ("tojson", "{{ {'a': 'é<&>', 'b': [1, 2.5, none]} | tojson }}", r#"{"a": "é<&>", "b": [1, 2.5, null]}"#),
    ("get", "{{ messages[0].get('zz', 'd') }}{{ messages[1].get('tool_calls') is none }}", "dTrue"),
    ("format", "{{ '{}:{}'.format('x', 1) }}{{ '%s=%s' | format('a', 2) }}", "x:1a=2"),
    (
        "continue",
        "{% for m in messages %}{% if m.role != 'user' %}{% continue %}{% endif %}{{ loop.index }}{% endfor %}",
        "13",
    ),
    ("call", "{% macro w() %}<{{ caller() }}>{% endmacro %}{% call w() %}x{% endcall %}", "<x>"),
    ("white space", "  {% if true %}\nx\n  {% endif %}\ny\n", "x\ny"),
];

#[test]
fn constructs_of_public_templates_render_as_in_jinja2() {
    let messages = Conversation::from_json(MESSAGES).unwrap().messages;
    for (place, source, expected) in CASES {
        let template = ChatTemplate::new(source).unwrap_or_else(|error| panic!("{place}: {error}"));
        let text = template.render(&messages, &RenderOptions::default());
        assert_eq!(text.unwrap_or_else(|error| panic!("{place}: {error}")), expected, "{place}");
    }
}
