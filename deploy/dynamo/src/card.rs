//! What the front end has to know of a worker: tokenizer, template, and which tokens end an answer, as files in the Hugging Face layout.

use std::io::Write;
use std::path::{Path, PathBuf};

use lb_model::Worker;
use serde_json::{Map, Value, json};

/// What a prompt begins with whose request has a briefing: JSON of `briefing` and `messages` follows.
pub(crate) const MARK: &str = "latent-briefing request: ";

/// The folder of a model's card where none is named. It is part of what Dynamo compares workers by, so that it says nothing of the process.
pub(crate) fn folder(model: &str) -> PathBuf {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = model.chars().map(plain).collect();
    std::env::temp_dir().join("latent-briefing-dynamo").join(format!("card-{name}"))
}

/// Writes the files. Those that a front end reads meanwhile are never half there.
pub(crate) fn write(worker: &Worker, folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let config = worker.config();
    // No defaults of sampling go along: what a request does not say is greedy, as `serve` has it.
    let model = json!({
        "architectures": ["LatentBriefingWorker"],
        "model_type": config.family.model_type(),
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.position_limit(),
        "eos_token_id": worker.tokenizer().eos_ids(),
        // For nobody to read: Dynamo leaves out a worker whose card is another.
        "weights": worker.fingerprint()?.weights,
        "dtype": worker.dtype().as_str(),
    });
    put(folder, "config.json", &model.to_string())?;
    put(folder, "tokenizer.json", &worker.tokenizer().to_json()?)?;
    let special = worker.tokenizer().special_tokens();
    let mut tokens: Map<String, Value> =
        special.iter().map(|(name, token)| (name.clone(), json!(token))).collect();
    tokens.insert("model_max_length".to_owned(), json!(config.position_limit()));
    put(folder, "tokenizer_config.json", &Value::Object(tokens).to_string())?;
    put(folder, "chat_template.jinja", &template(worker.template()?.source()))
}

fn put(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    if std::fs::read(folder.join(name)).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(());
    }
    // Not beside the files: what lies there counts as the card's.
    let aside = folder.join(".writing");
    std::fs::create_dir_all(&aside)?;
    let mut file = tempfile::NamedTempFile::new_in(aside)?;
    file.write_all(text.as_bytes())?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The front end may run as another user.
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    file.persist(folder.join(name))?;
    Ok(())
}

/// The worker's own template, but for a request with `chat_template_kwargs.briefing`: that one is written as JSON, whole, for the worker to
/// read, since of a request nothing but its prompt reaches a backend as it was.
fn template(own: &str) -> String {
    // Jinja drops one line end behind a template.
    let own = own.strip_suffix('\n').unwrap_or(own);
    format!(
        "{{% if briefing is defined and briefing %}}{{{{ \"{MARK}\" }}}}{{{{ {{\"briefing\": briefing, \"messages\": messages}} | tojson }}}}{{% else %}}{own}{{% endif %}}"
    )
}

#[cfg(test)]
mod tests {
    use lb_model::{ChatTemplate, Message, RenderOptions, Worker};
    use serde_json::{Map, Value, json};

    use super::{MARK, template, write};

    #[test]
    fn a_request_with_a_briefing_is_json_and_any_other_is_as_before() {
        let worker = Worker::embedded().unwrap();
        let own = worker.template().unwrap();
        let special = worker.tokenizer().special_tokens().clone();
        let ours = ChatTemplate::new(template(own.source())).unwrap().with_special_tokens(special);
        let messages = [Message::new("system", "Be \"brief\"."), Message::new("user", "Wer? <|im_end|>\nÄ")];
        let plain = RenderOptions::default();
        assert_eq!(ours.render(&messages, &plain).unwrap(), own.render(&messages, &plain).unwrap());
        let briefing = json!({ "trajectory": "t", "handoff": "full-kv" });
        let variables = Map::from_iter([("briefing".to_owned(), briefing.clone())]);
        let briefed = RenderOptions { variables, ..RenderOptions::default() };
        let text = ours.render(&messages, &briefed).unwrap();
        let said: Value = serde_json::from_str(text.strip_prefix(MARK).unwrap()).unwrap();
        assert_eq!(said["briefing"], briefing);
        assert_eq!(said["messages"], json!(messages));
    }

    #[test]
    fn the_written_tokenizer_makes_the_same_tokens() {
        let (worker, folder) = (Worker::embedded().unwrap(), tempfile::tempdir().unwrap());
        write(&worker, folder.path()).unwrap();
        let read = lb_model::Tokenizer::load(folder.path()).unwrap();
        for text in ["The Oslo ledger, 40 pages.", "<|im_start|>user\nÄ <|im_end|>", "  \t\u{0}"] {
            assert_eq!(read.encode_prompt(text).unwrap(), worker.tokenizer().encode_prompt(text).unwrap());
        }
        let config: Value =
            serde_json::from_slice(&std::fs::read(folder.path().join("config.json")).unwrap()).unwrap();
        assert_eq!(config["eos_token_id"], json!(worker.tokenizer().eos_ids()));
    }
}
