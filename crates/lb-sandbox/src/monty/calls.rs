//! From the arguments of a session's function to a call of the host, and back.

use monty_types::MontyObject;

use crate::{HostCall, Query};

type Named = Vec<(MontyObject, MontyObject)>;

/// What a session's function wants.
#[derive(Debug)]
pub(super) enum Wanted {
    /// One text for one prompt.
    One(HostCall),
    /// A list of texts.
    Many(HostCall),
    /// A note, which has no answer.
    Note(HostCall),
}

/// The functions that lead to the host.
pub(super) const FUNCTIONS: [&str; 5] =
    ["llm_query", "llm_query_batched", "rlm_query", "rlm_query_batched", "note"];

/// Reads the arguments of one of [`FUNCTIONS`].
///
/// # Errors
/// A text that says what is wrong, for the code that called.
pub(super) fn read(function: &str, args: Vec<MontyObject>, named: Named) -> Result<Wanted, String> {
    let recursive = function.starts_with("rlm");
    match function {
        "note" => note(args, named).map(Wanted::Note),
        "llm_query" | "rlm_query" => {
            let [prompt, document, brief, model] =
                bind(function, ["prompt", "document", "brief", "model"], args, named)?;
            refuse_model(model.as_ref())?;
            let prompt = text(function, "prompt", prompt)?;
            let document = optional_text(function, "document", document)?;
            let brief = flag(function, brief)?;
            Ok(Wanted::One(call(recursive, vec![Query { prompt, document, brief }])))
        }
        _ => {
            let [prompts, documents, brief, model] =
                bind(function, ["prompts", "documents", "brief", "model"], args, named)?;
            refuse_model(model.as_ref())?;
            let prompts = texts(function, "prompts", prompts)?;
            let documents = match documents {
                None | Some(MontyObject::None) => vec![None; prompts.len()],
                documents => list(function, "documents", documents)?
                    .into_iter()
                    .map(|document| optional_text(function, "each of documents", Some(document)))
                    .collect::<Result<_, _>>()?,
            };
            if documents.len() != prompts.len() {
                return Err(format!(
                    "{function}: {} prompts but {} documents",
                    prompts.len(),
                    documents.len()
                ));
            }
            let brief = flag(function, brief)?;
            let queries = prompts.into_iter().zip(documents);
            let queries = queries.map(|(prompt, document)| Query { prompt, document, brief }).collect();
            Ok(Wanted::Many(call(recursive, queries)))
        }
    }
}

/// What the function returns.
pub(super) fn answer(wanted: &Wanted, texts: Vec<String>) -> MontyObject {
    let first = |texts: Vec<String>| texts.into_iter().next().unwrap_or_default();
    match wanted {
        Wanted::One(_) => MontyObject::String(first(texts)),
        Wanted::Many(_) => MontyObject::List(texts.into_iter().map(MontyObject::String).collect()),
        Wanted::Note(_) => {
            let said = first(texts);
            if said.starts_with("Error: ") { MontyObject::String(said) } else { MontyObject::None }
        }
    }
}

impl Wanted {
    pub(super) fn call(&self) -> &HostCall {
        let (Self::One(call) | Self::Many(call) | Self::Note(call)) = self;
        call
    }

    /// Whether there is nothing to ask.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.call(), HostCall::Llm(queries) | HostCall::Rlm(queries) if queries.is_empty())
    }
}

fn call(recursive: bool, queries: Vec<Query>) -> HostCall {
    if recursive { HostCall::Rlm(queries) } else { HostCall::Llm(queries) }
}

/// `note(text)`, `note(key, text)`, each also by name.
fn note(mut args: Vec<MontyObject>, named: Named) -> Result<HostCall, String> {
    if args.len() == 1
        && !named.iter().any(|(name, _)| matches!(name, MontyObject::String(name) if name == "text"))
    {
        args.insert(0, MontyObject::None);
    }
    let [key, text_of] = bind("note", ["key", "text"], args, named)?;
    Ok(HostCall::Note { key: optional_text("note", "key", key)?, text: text("note", "text", text_of)? })
}

/// Puts arguments into the places that their names or positions say.
fn bind<const N: usize>(
    function: &str,
    names: [&str; N],
    args: Vec<MontyObject>,
    named: Named,
) -> Result<[Option<MontyObject>; N], String> {
    let mut places = [const { None }; N];
    if args.len() > N {
        return Err(format!("{function} takes at most {N} arguments, not {}", args.len()));
    }
    for (place, value) in places.iter_mut().zip(args) {
        *place = Some(value);
    }
    for (name, value) in named {
        let name = name.to_string();
        let Some(at) = names.iter().position(|known| *known == name) else {
            return Err(format!("{function} has no argument '{name}'; it has {}", names.join(", ")));
        };
        if places[at].replace(value).is_some() {
            return Err(format!("{function} got '{name}' twice"));
        }
    }
    Ok(places)
}

fn text(function: &str, name: &str, value: Option<MontyObject>) -> Result<String, String> {
    match value {
        Some(MontyObject::String(text)) => Ok(text),
        Some(other) => Err(format!("{function}: {name} must be a str, not {}", other.type_name())),
        None => Err(format!("{function}: {name} is missing")),
    }
}

fn optional_text(function: &str, name: &str, value: Option<MontyObject>) -> Result<Option<String>, String> {
    match value {
        None | Some(MontyObject::None) => Ok(None),
        value => text(function, name, value).map(Some),
    }
}

fn list(function: &str, name: &str, value: Option<MontyObject>) -> Result<Vec<MontyObject>, String> {
    match value {
        Some(MontyObject::List(items) | MontyObject::Tuple(items)) => Ok(items),
        Some(other) => Err(format!("{function}: {name} must be a list of str, not {}", other.type_name())),
        None => Err(format!("{function}: {name} is missing")),
    }
}

fn texts(function: &str, name: &str, value: Option<MontyObject>) -> Result<Vec<String>, String> {
    let items = list(function, name, value)?;
    items.into_iter().map(|item| text(function, &format!("each of {name}"), Some(item))).collect()
}

fn flag(function: &str, value: Option<MontyObject>) -> Result<bool, String> {
    match value {
        None => Ok(true),
        Some(MontyObject::Bool(flag)) => Ok(flag),
        Some(other) => Err(format!("{function}: brief must be True or False, not {}", other.type_name())),
    }
}

fn refuse_model(model: Option<&MontyObject>) -> Result<(), String> {
    match model {
        None | Some(MontyObject::None) => Ok(()),
        Some(_) => Err("there is one worker model; leave model out".to_owned()),
    }
}
