//! The built-in worker's files, `assets/worker/`.

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../assets/worker/", $name)).as_slice())),*]
    };
}

/// Name and content.
pub(crate) const FILES: &[(&str, &[u8])] = files![
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
];
