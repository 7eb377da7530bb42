//! Where a model's files come from, and how they become a [`Worker`].

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device};
use lb_io::files::{SETTINGS, VOCABULARY, read_at_most};
use serde_json::{Map, Value};

use crate::config::{ConfigJson, eos_ids, read_json};
use crate::gguf::{Gguf, is_gguf};
use crate::safefile::SafeFile;
use crate::weights::{Safetensors, Weights};
use crate::{
    ChatTemplate, Decoder, Error, ModelConfig, Result, Tokenizer, Warning, Worker, folder, misfiled,
};

/// The files of one model in the Hugging Face layout: `config.json`, `model.safetensors` (or shards with
/// `model.safetensors.index.json`) and `tokenizer.json`. `generation_config.json` is optional, and so is the chat template
/// in `chat_template.jinja` or `tokenizer_config.json`.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    source: Origin,
    name: String,
    strict: bool,
}

/// Files by name.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    Dir(PathBuf),
    /// One GGUF file, whose metadata stands for the small files.
    Gguf(Arc<Gguf>),
    #[cfg(feature = "embedded")]
    Embedded(&'static [(&'static str, &'static [u8])]),
}

/// The files that a worker's weights came from, without what is mapped of them.
#[derive(Debug)]
pub(crate) enum Files {
    Dir(PathBuf),
    Gguf(Vec<PathBuf>),
    #[cfg(feature = "embedded")]
    Embedded(&'static [(&'static str, &'static [u8])]),
}

impl Origin {
    pub(crate) fn files(&self) -> Files {
        match self {
            Self::Dir(folder) => Files::Dir(folder.clone()),
            Self::Gguf(file) => Files::Gguf(file.paths().map(Path::to_path_buf).collect()),
            #[cfg(feature = "embedded")]
            Self::Embedded(files) => Files::Embedded(files),
        }
    }

    /// The path of a file, as errors name it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        match self {
            Self::Dir(dir) => dir.join(name),
            Self::Gguf(file) => file.path().to_path_buf(),
            #[cfg(feature = "embedded")]
            Self::Embedded(_) => Path::new("embedded").join(name),
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        match self {
            Self::Dir(dir) => dir.join(name).is_file(),
            Self::Gguf(_) => false,
            #[cfg(feature = "embedded")]
            Self::Embedded(files) => files.iter().any(|(n, _)| *n == name),
        }
    }

    /// The content of a file, `None` where there is no such file.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>> {
        match self {
            Self::Dir(dir) => read_file(dir.join(name)),
            Self::Gguf(file) => file.small_file(name),
            #[cfg(feature = "embedded")]
            Self::Embedded(files) => {
                Ok(files.iter().find(|(n, _)| *n == name).map(|(_, bytes)| Cow::Borrowed(*bytes)))
            }
        }
    }

    pub(crate) fn require(&self, name: &str) -> Result<Cow<'static, [u8]>> {
        self.read(name)?.ok_or_else(|| self.missing(name))
    }

    /// The error for a file that is not there, with what the folder holds in its place.
    pub(crate) fn missing(&self, name: &str) -> Error {
        let told = match self {
            Self::Dir(dir) => folder::told(dir, name),
            _ => None,
        };
        told.unwrap_or_else(|| Error::Io {
            path: self.path(name),
            source: std::io::ErrorKind::NotFound.into(),
        })
    }

    pub(crate) fn safetensors(&self, name: &str) -> Result<SafeFile> {
        match self {
            Self::Dir(dir) => SafeFile::map(&dir.join(name)),
            Self::Gguf(file) => SafeFile::map(file.path()),
            #[cfg(feature = "embedded")]
            Self::Embedded(files) => {
                let path = self.path(name);
                match files.iter().find(|(n, _)| *n == name) {
                    Some((_, bytes)) => SafeFile::from_static(bytes, &path),
                    None => Err(Error::Io { path, source: std::io::ErrorKind::NotFound.into() }),
                }
            }
        }
    }

    pub(crate) fn json(&self, name: &str) -> Result<Option<Map<String, Value>>> {
        self.read(name)?.map(|json| read_json(&json, &self.path(name))).transpose()
    }
}

/// The content of a file, `None` where there is no such file.
pub(crate) fn read_file(path: PathBuf) -> Result<Option<Cow<'static, [u8]>>> {
    let vocabulary = path.file_name().is_some_and(|name| name == "tokenizer.json");
    match read_at_most(&path, if vocabulary { VOCABULARY } else { SETTINGS }) {
        Ok(bytes) => misfiled::check(&path, &bytes).map(|()| Some(Cow::Owned(bytes))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { path, source }),
    }
}

impl Checkpoint {
    /// The folder `path`, or the folder of the file `path`; a GGUF file is a checkpoint of its own, see
    /// [`gguf`](Self::gguf). Nothing but its existence is checked of a folder here. A file's folder is the one that its
    /// path names, also where the file is a link, as in the hub's cache.
    ///
    /// # Errors
    /// [`Error::Io`] when there is no such folder; those of [`gguf`](Self::gguf).
    pub fn dir(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let full = |path: &Path| {
            fs::canonicalize(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })
        };
        let target = full(path)?;
        if is_gguf(path) || is_gguf(&target) {
            return Self::gguf(path);
        }
        let dir = if target.is_file() { folder::of(path, &target, full)? } else { target };
        let name = folder::name(&dir);
        Ok(Self { source: Origin::Dir(dir), name, strict: false })
    }

    /// Refuses, when it is loaded, whatever would be accepted with a [`Warning`].
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// A folder in the Hugging Face layout, or any file in it; a GGUF file; and what is no path but looks like
    /// `org/name`, `name` or `org/name:Q4_K_M` is a repository of the Hugging Face hub (with the feature `hub`), see
    /// [`hub`](Self::hub). What looks like a path is one and is not asked for there: it begins with `/`, `.` or `~`, has a
    /// backslash, ends as a file of weights or settings does or in `/`, or begins with a folder that is there.
    ///
    /// # Errors
    /// Those of [`dir`](Self::dir), and of [`hub`](Self::hub) for a repository.
    pub fn open(name: impl AsRef<Path>) -> Result<Self> {
        match Self::dir(name) {
            Err(Error::Io { path, source }) if source.kind() == std::io::ErrorKind::NotFound => {
                if is_path(&path) { Err(not_found(path, "no such file or folder")) } else { from_hub(path) }
            }
            found => found,
        }
    }

    /// A repository of the Hugging Face hub, from the cache or the network, with the settings of the environment;
    /// [`Hub`](crate::hub::Hub) has more of them, and says what names look like ([`Hub::new`](crate::hub::Hub::new)).
    ///
    /// # Errors
    /// Those of [`Hub::checkpoint`](crate::hub::Hub::checkpoint).
    #[cfg(feature = "hub")]
    pub fn hub(name: &str) -> Result<Self> {
        crate::hub::Hub::new(name)?.checkpoint()
    }

    /// A folder that goes by another name than its own.
    #[cfg(feature = "hub")]
    pub(crate) fn named(dir: PathBuf, name: String) -> Self {
        Self { source: Origin::Dir(dir), name, strict: false }
    }

    /// The same files under another name.
    #[cfg(feature = "hub")]
    pub(crate) fn renamed(self, name: String) -> Self {
        Self { name, ..self }
    }

    /// A GGUF file of a Qwen3, Qwen3-MoE, Qwen2, Llama or Mistral model: weights in F32, F16, BF16, Q8_0, Q4_0 to Q5_1
    /// and Q2_K to Q6_K, tokenizer and chat template from its metadata. Where it brings no tokenizer that is known here, or
    /// no template, `tokenizer.json` and `chat_template.jinja` beside it serve. A model in several parts is opened by any
    /// of them. Weights are multiplied as they are stored, the rest
    /// is computed in f32; the dtype of [`load`](Self::load) is that of the cache.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Corrupt`] for a header that does not fit the file; [`Error::MissingParts`] for one of
    /// several parts whose others are not beside it.
    pub fn gguf(path: impl AsRef<Path>) -> Result<Self> {
        misfiled::check_file(path.as_ref())?;
        let file = Gguf::open(path.as_ref())?;
        let name = file.model_name();
        Ok(Self { source: Origin::Gguf(Arc::new(file)), name, strict: false })
    }

    /// The small trained worker inside the binary.
    #[cfg(feature = "embedded")]
    pub fn embedded() -> Self {
        Self { source: Origin::Embedded(crate::embedded::FILES), name: "embedded".to_string(), strict: false }
    }

    /// The folder of the files, `None` for those inside the binary.
    pub fn folder(&self) -> Option<&Path> {
        match &self.source {
            Origin::Dir(dir) => Some(dir),
            Origin::Gguf(file) => file.path().parent(),
            #[cfg(feature = "embedded")]
            Origin::Embedded(_) => None,
        }
    }

    /// Reads, checks and converts everything. `dtype` is that of weights and cache, of the cache alone for a GGUF file.
    /// `None` means on the CPU: weights in bf16 where they are stored so (they are used in the mapped file, and nothing is
    /// faster there), else in f32, and the cache in f32; on a GPU the checkpoint's own dtype. The CPU computes in f32
    /// whatever the weights are in.
    ///
    /// What is accepted although it may not be meant so is listed in [`Worker::warnings`].
    ///
    /// # Errors
    /// One typed error per way a checkpoint can be wrong: see [`Error`]. A missing file is [`Error::Incomplete`] where its
    /// folder shows why, else [`Error::Io`]. [`Error::Strict`] for warnings of a [`strict`](Self::strict) checkpoint.
    pub fn load(&self, device: &Device, dtype: Option<DType>) -> Result<Worker> {
        let source = &self.source;
        let ConfigJson { mut config, mut warnings, usual_end } = self.said()?;
        let generation = match source.json("generation_config.json") {
            // Like transformers, which then goes on as if there were none.
            Err(Error::Json { path: file, source }) => {
                warnings.push(Warning::Unreadable { file, reason: source.to_string() });
                Map::new()
            }
            read => read?.unwrap_or_default(),
        };
        let tokenizer_config = source.json("tokenizer_config.json")?.unwrap_or_default();
        let tokenizer = Tokenizer::parse(&source.require("tokenizer.json")?, &source.path("tokenizer.json"))?
            .with_config(&tokenizer_config);
        let mut eos = eos_ids(generation.get("eos_token_id"), &source.path("generation_config.json"))?;
        eos.extend(tokenizer.special_tokens().get("eos_token").and_then(|token| tokenizer.token_id(token)));
        config.eos_token_ids.extend(eos);
        if config.eos_token_ids.is_empty() {
            config.eos_token_ids.extend(usual_end);
        }
        config.eos_token_ids.sort_unstable();
        config.eos_token_ids.dedup();
        let tokenizer = tokenizer.for_model(&config);
        let special = tokenizer.special_tokens().clone();
        let template =
            self.template(&tokenizer_config)?.map(|template| template.with_special_tokens(special));
        let weights = Weights::open(source, dtype, device)?;
        let (model, unused) = Decoder::load(config, weights, device)?;
        warnings.extend(unused);
        if self.strict && !warnings.is_empty() {
            return Err(Error::Strict { warnings });
        }
        let path = match source {
            Origin::Dir(dir) => dir.clone(),
            whole => whole.path(&self.name),
        };
        let parts = (model, tokenizer, template.ok_or(path));
        Ok(Worker::assemble(parts, self.name.clone(), warnings, source.files()))
    }

    /// What of config.json and the output head may not be meant as it is taken, without loading anything; loading may find
    /// more ([`Worker::warnings`]).
    ///
    /// # Errors
    /// Those of [`load`](Self::load) for config.json and the weights' headers.
    pub fn warnings(&self) -> Result<Vec<Warning>> {
        Ok(self.said()?.warnings)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn chat_template(&self) -> Result<Option<ChatTemplate>> {
        self.template(&self.source.json("tokenizer_config.json")?.unwrap_or_default())
    }

    pub(crate) fn source(&self) -> &Origin {
        &self.source
    }

    /// The shape that the files give, end-of-text tokens as far as they stand beside it.
    pub(crate) fn config(&self) -> Result<ModelConfig> {
        Ok(self.said()?.config)
    }

    /// The shape as files and weights together have it.
    fn said(&self) -> Result<ConfigJson> {
        let files = match &self.source {
            Origin::Gguf(file) => {
                let (config, warnings) = (file.config()?, file.unknown_keys()?);
                return Ok(ConfigJson { config, warnings, usual_end: None });
            }
            files => files,
        };
        let mut said = ConfigJson::parse(&files.require("config.json")?, &files.path("config.json"))?;
        if said.config.tie_word_embeddings {
            let mut shards = Safetensors::open(files)?;
            if shards.has_head_of_its_own()? {
                said.config.tie_word_embeddings = false;
                said.warnings.push(Warning::HeadOfItsOwn { file: shards.origin().to_path_buf() });
            }
        }
        Ok(said)
    }

    fn template(&self, tokenizer_config: &Map<String, Value>) -> Result<Option<ChatTemplate>> {
        if let Some(bytes) = self.source.read("chat_template.jinja")? {
            let jinja = String::from_utf8(bytes.into_owned()).map_err(|e| Error::template(&e))?;
            return ChatTemplate::new(jinja).map(Some);
        }
        let template = tokenizer_config.get("chat_template");
        // Several templates are a list of names and templates.
        let named = template.and_then(Value::as_array).and_then(|list| {
            list.iter().find(|entry| entry["name"] == "default").map(|entry| &entry["template"])
        });
        named.or(template).and_then(Value::as_str).map(ChatTemplate::new).transpose()
    }
}

#[cfg(feature = "hub")]
fn from_hub(path: PathBuf) -> Result<Checkpoint> {
    match crate::hub::open(&path) {
        Some(found) => found,
        None => Err(not_found(path, "no such file or folder, and not a repository `org/name` of the hub")),
    }
}

#[cfg(not(feature = "hub"))]
fn from_hub(path: PathBuf) -> Result<Checkpoint> {
    Err(not_found(path, "no such file or folder; this build does not ask the hub (feature `hub`)"))
}

/// Whether a name that is not there was meant as a path.
fn is_path(path: &Path) -> bool {
    let Some(name) = path.to_str() else { return true };
    let parts: Vec<&str> = name.split('/').collect();
    // `org/name/FILE.gguf` is a file of a repository.
    let of_a_repository = parts.len() > 2 && name.to_ascii_lowercase().ends_with(".gguf");
    let is_file = [".gguf", ".safetensors", ".json", ".bin", ".pt", ".jinja"];
    let named_as_file = is_file.iter().any(|end| name.to_ascii_lowercase().ends_with(end));
    path.is_absolute()
        || name.starts_with(['.', '~', '/'])
        || name.contains('\\')
        || name.ends_with('/')
        || (named_as_file && !of_a_repository)
        || (parts.len() > 1 && Path::new(parts[0]).is_dir())
}

fn not_found(path: PathBuf, reason: &'static str) -> Error {
    Error::Io { path, source: std::io::Error::new(std::io::ErrorKind::NotFound, reason) }
}
