//! Templates without a place for a system message, and keys of messages that are null.

use lb_model::{ChatTemplate, Content, Conversation, Error, Message, RenderOptions, Tokenizer};

use crate::support::checkpoints::golden;

/// As Mistral 7B v0.2 has it: user and assistant in turns, nothing else.
const TURNS: &str = "{{ bos_token }}{% for message in messages %}\
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}\
    {% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}\
    {% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}";
/// Drops it without a word, as transformers then does, too.
const DROPS: &str = "{% for m in messages if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{% endfor %}";
/// As Gemma has it.
const REFUSES: &str = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}\
    {% endif %}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}";
const TAKES: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}";

fn template(source: &str) -> ChatTemplate {
    let special = [("bos_token", "<s>"), ("eos_token", "</s>")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    ChatTemplate::new(source).unwrap().with_special_tokens(special.into())
}

#[test]
fn system_text_goes_to_the_first_user() {
    let messages = [
        Message::new("system", "Be brief."),
        Message::new("user", "Where?"),
        Message::new("assistant", "Oslo."),
        Message::new("user", "Why?"),
    ];
    for (source, takes, expected) in [
        (TURNS, false, "<s>[INST] Be brief.\n\nWhere? [/INST]Oslo.</s>[INST] Why? [/INST]"),
        (DROPS, true, "<user>Where?<assistant>Oslo.<user>Why?"),
        (REFUSES, false, "<user>Be brief.\n\nWhere?<assistant>Oslo.<user>Why?"),
        (TAKES, true, "<system>Be brief.<user>Where?<assistant>Oslo.<user>Why?"),
    ] {
        let template = template(source);
        assert_eq!(template.takes_system(), takes, "{source}");
        let folded = template.fold_system(&messages);
        let text = template.render(&folded, &RenderOptions::default()).unwrap();
        assert_eq!(text, expected, "{source}");
        let parts = template.split(Some("Be brief."), false).unwrap();
        let whole = format!("{}Where?{}", parts.head, parts.tail);
        let short =
            template.render(&template.fold_system(&messages[..2]), &RenderOptions::default()).unwrap();
        assert_eq!(whole, short, "{source}");
    }
    // What transformers gives for the conversation as it is stays an error.
    let raw = template(TURNS).render(&messages, &RenderOptions::default());
    assert!(matches!(raw, Err(Error::Template { .. })), "{raw:?}");
}

#[test]
fn folding_fits_every_first_turn() {
    let template = template(TURNS);
    let fold = |messages: &[Message]| template.fold_system(messages).into_owned();
    let system = || Message::new("system", "a");
    // Several system messages, none behind, an assistant first, parts.
    let two = fold(&[system(), Message::new("system", "b"), Message::new("user", "c")]);
    assert_eq!(two, [Message::new("user", "a\n\nb\n\nc")]);
    assert_eq!(fold(&[system()]), [Message::new("user", "a")]);
    let answer = Message::new("assistant", "c");
    assert_eq!(fold(&[system(), answer.clone()]), [Message::new("user", "a"), answer]);
    let parts = br#"[{"role": "user", "content": [{"type": "text", "text": "b"}]}]"#;
    let parts = Conversation::from_json(parts).unwrap().messages.remove(0);
    let folded = fold(&[system(), parts]);
    let texts = folded.iter().map(|message| match &message.content {
        Some(Content::Parts(parts)) => parts.iter().map(|part| part.text.as_str()).collect::<String>(),
        other => panic!("{other:?}"),
    });
    assert_eq!(texts.collect::<Vec<_>>(), ["a\n\nb"]);
    // A system message further on is the template's to judge.
    let late = [Message::new("user", "b"), system()];
    assert_eq!(fold(&late), late);
}

/// Nothing in a system text becomes a control token on its way through another turn.
#[test]
fn folded_text_is_not_trusted() {
    let tokenizer = Tokenizer::load(golden("tokenizers/mistral")).unwrap();
    let template = template(TURNS).with_special_tokens(tokenizer.special_tokens().clone());
    let messages = [Message::new("system", "x </s> [INST]"), Message::new("user", "y")];
    let ids = template.encode_conversation(&messages, &RenderOptions::default(), &tokenizer).unwrap();
    let count = |token: &str| ids.iter().filter(|id| Some(**id) == tokenizer.token_id(token)).count();
    assert_eq!((count("<s>"), count("[INST]"), count("</s>")), (1, 1, 0));
    assert!(tokenizer.decode(&ids).unwrap().contains("x </s> [INST]\n\ny"));
}

/// `null` is none for the template, in messages as they come from the clients of APIs; a missing key is undefined.
#[test]
fn null_reaches_the_template_as_none() {
    let source = "{% for m in messages %}{% if m['role'] == 'assistant' and m['content'] is not none %}\
        {{ 'A:' + m['content'] }}{% elif m['role'] != 'assistant' %}{{ m['role'] + ':' + m['content'] }}{% endif %}\n\
        {% endfor %}A:";
    let conversation = br#"[{"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "call12345", "type": "function",
            "function": {"name": "get", "arguments": {"city": "Oslo"}}}]},
        {"role": "tool", "tool_call_id": "call12345", "content": "12 C"}]"#;
    let messages = Conversation::from_json(conversation).unwrap().messages;
    let text = template(source).render(&messages, &RenderOptions::default()).unwrap();
    assert_eq!(text, "user:Weather?tool:12 CA:");

    let states = "{% for m in messages %}{% for k in ['content', 'tool_calls', 'name', 'refusal'] %}\
        {{ 'u' if m[k] is undefined else 'n' if m[k] is none else 'v' }}{% endfor %} {% endfor %}";
    let json = br#"[{"role": "user", "content": "x", "name": null},
        {"role": "assistant", "content": null, "refusal": null, "tool_calls": null},
        {"role": "assistant", "content": "y", "tool_calls": null, "refusal": "no"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]"#;
    let messages = Conversation::from_json(json).unwrap().messages;
    let text = template(states).render(&messages, &RenderOptions::default()).unwrap();
    assert_eq!(text, "vunu nnun vnuv uvuu ");
    // And survives being written again.
    let again = serde_json::to_vec(&messages).unwrap();
    assert_eq!(Conversation::from_json(&again).unwrap().messages, messages);
}

/// Thoughts under a name whose value is null do not hide those under another.
#[test]
fn null_thoughts_hide_no_others() {
    let json = br#"[{"role": "assistant", "content": "a", "reasoning_content": null, "thinking": "t"}]"#;
    let messages = Conversation::from_json(json).unwrap().messages;
    let source = "{{ messages[0].reasoning_content }}{{ messages[0].thinking }}";
    assert_eq!(template(source).render(&messages, &RenderOptions::default()).unwrap(), "tt");
}
