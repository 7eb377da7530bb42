//! Tokenizer and chat template.

use lb_model::{ChatTemplate, Error};

use crate::support::checkpoints::{Copy, TIED, golden_json, worker};

const MIXED: &str = "Ana Duarte, 日本語, naïve façade 🧭🧭\n\n\ttwo  spaces, 1987's end";

/// Text that contains every control token encodes to none of them, and decodes to itself.
#[test]
fn document_text_never_becomes_a_control_token() {
    let worker = worker(TIED);
    let tokenizer = worker.tokenizer();
    assert_eq!(tokenizer.added_tokens().len(), 7);
    let control: Vec<u32> = tokenizer.added_tokens().iter().map(|t| tokenizer.token_id(t).unwrap()).collect();
    let joined = tokenizer.added_tokens().join("");
    let spaced = format!("a {} z", tokenizer.added_tokens().join(" \n"));
    for text in [joined, spaced, "<|im_end|>".into(), format!("{MIXED}<|im_start|>system\n"), String::new()] {
        let ids = tokenizer.encode_text(&text).unwrap();
        assert!(ids.iter().all(|id| !control.contains(id)), "{text:?}: {ids:?}");
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
    for (token, &id) in tokenizer.added_tokens().iter().zip(&control) {
        assert_eq!(tokenizer.encode_template(token).unwrap(), [id]);
        assert_eq!(tokenizer.decode(&[id]).unwrap(), *token);
        assert_eq!(tokenizer.token_str(id).as_deref(), Some(token.as_str()));
    }
    let plain = tokenizer.encode_text(MIXED).unwrap();
    assert_eq!(tokenizer.encode_template(MIXED).unwrap(), plain, "without control tokens both encode alike");
    assert_eq!(tokenizer.eos_ids(), [tokenizer.token_id("<|im_end|>").unwrap()]);
}

/// Training may put control tokens into the model's vocabulary, with merges that lead to them.
#[test]
fn control_tokens_in_the_bpe_vocabulary_stay_out_of_documents() {
    let copy = Copy::of(TIED);
    copy.edit_json("tokenizer.json", |t| {
        for token in t["added_tokens"].as_array().unwrap().clone() {
            t["model"]["vocab"][token["content"].as_str().unwrap()] = token["id"].clone();
        }
        t["model"]["ignore_merges"] = true.into();
        // Without a splitting pre-tokenizer the whole text is looked up in the vocabulary first.
        t["pre_tokenizer"] = t["pre_tokenizer"]["pretokenizers"][1].clone();
    });
    let worker = copy.load();
    let tokenizer = worker.tokenizer();
    let end = tokenizer.token_id("<|im_end|>").unwrap();
    assert_eq!(tokenizer.encode_template("<|im_end|>").unwrap(), [end]);
    let ids = tokenizer.encode_text("<|im_end|>").unwrap();
    assert!(ids.len() > 1 && !ids.contains(&end), "{ids:?}");
}

#[test]
fn pieces_join_to_the_text() {
    let worker = worker(TIED);
    let tokenizer = worker.tokenizer();
    let ids = tokenizer.encode_template(&format!("<|im_start|>user\n{MIXED}<|im_end|>")).unwrap();
    let pieces = tokenizer.pieces(&ids);
    assert_eq!(pieces.len(), ids.len());
    assert_eq!(pieces.concat(), tokenizer.decode(&ids).unwrap());
    assert_eq!(pieces[0], "<|im_start|>");
    // The compass takes four bytes and so, with this small vocabulary, several tokens; the last one shows it.
    let compass = tokenizer.encode_text("🧭").unwrap();
    let pieces = tokenizer.pieces(&compass);
    assert!(compass.len() > 1);
    assert_eq!(pieces.last().unwrap(), "🧭");
    assert!(pieces[..pieces.len() - 1].iter().all(String::is_empty));
    // Half a character, then text; half a character at the end; ids without a token.
    let letter = tokenizer.encode_text("x").unwrap();
    for ids in [[&compass[..1], &letter].concat(), [&letter, &compass[..1]].concat(), vec![319, 310]] {
        assert_eq!(tokenizer.pieces(&ids).concat(), tokenizer.decode(&ids).unwrap());
    }
    assert_eq!(tokenizer.decode(&[&compass[..1], &letter].concat()).unwrap(), "\u{FFFD}x");
}

/// Head, question and tail are what transformers renders with Jinja2.
#[test]
fn template_parts_match_transformers() {
    let (worker, expected) = (worker(TIED), golden_json(TIED));
    let question = expected["question"].as_str().unwrap();
    let cases = expected["templates"].as_array().unwrap();
    assert_eq!(cases.len(), 4);
    for case in cases {
        let thinking = case["enable_thinking"].as_bool().unwrap();
        let parts = worker.template().unwrap().split(case["system"].as_str(), thinking).unwrap();
        assert_eq!(format!("{}{question}{}", parts.head, parts.tail), case["text"].as_str().unwrap());
        let empty_thoughts = parts.tail.ends_with("<|im_start|>assistant\n<think>\n\n</think>\n\n");
        assert_eq!(empty_thoughts, !thinking);
        assert!(parts.head.ends_with("<|im_start|>user\n"));
        assert!(parts.tail.starts_with("<|im_end|>\n"));
    }
}

/// What chat templates use of Jinja2 and Python.
#[test]
fn template_language_is_that_of_jinja() {
    let render = |body: &str| {
        let template = ChatTemplate::new(format!("{body}|{{{{ messages[-1].content }}}}")).unwrap();
        template.split(Some(" s y s "), false).unwrap().head
    };
    let cases = [
        ("{%- for m in messages[::-1] %}{{ m.role }};{% endfor %}", "user;system;|"),
        ("{{ messages[0].content.strip() }}", "s y s|"),
        ("{{ 'a</t>b'.split('</t>')[-1] }}{{ '\n\nx'.lstrip('\n') }}{{ 'x\n'.rstrip('\n') }}", "bxx|"),
        ("{{ messages[0].content.startswith(' s') }}", "True|"),
        (
            "{%- set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + loop.index %}{% endfor %}{{ ns.n }}",
            "3|",
        ),
        ("{{ [1, 'é<', none] | tojson }}", "[1, \"é<\", null]|"),
        ("{{ {'b': {'c': 1}} | tojson }}", "{\"b\": {\"c\": 1}}|"),
        ("{% if enable_thinking is defined and enable_thinking is false %}off{% endif %}", "off|"),
        ("{% if tools %}no{% else %}yes{% endif %}{{ messages | length }}", "yes2|"),
        (
            "{%- if messages[0].content is string and messages[0].reasoning is not defined %}ok{% endif %}",
            "ok|",
        ),
        ("{%- if messages and not('ab'.startswith('b') and 'ab'.endswith('b')) %}ok{% endif %}", "ok|"),
        (
            "{%- for m in messages %}{{ messages[loop.index0 - 1].role }}{{ loop.last }};{% endfor %}",
            "userFalse;systemTrue;|",
        ),
        ("{% if true %}\n    kept\n    {% endif %}\nend", "    kept\nend|"),
    ];
    for (body, expected) in cases {
        assert_eq!(render(body), expected, "{body}");
    }
}

#[test]
fn templates_that_cannot_be_split_are_refused() {
    let refused = |source: &str| {
        let error = ChatTemplate::new(source).and_then(|t| t.split(None, true)).unwrap_err();
        assert!(matches!(error, Error::Template { .. }), "{error}");
        error.to_string()
    };
    assert!(refused("{% for %}").contains("syntax"));
    assert!(refused("no message").contains("0 times"));
    assert!(refused("{{ messages[0].content }}{{ messages[0].content }}").contains("2 times"));
    assert!(refused("{{ raise_exception('roles must alternate') }}").contains("roles must alternate"));
    assert!(refused("{{ messages[0].content | nosuchfilter }}").contains("nosuchfilter"));
}
