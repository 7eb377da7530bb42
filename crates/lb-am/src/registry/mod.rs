//! Every selection by its name: one place that reads them and knows what there is.
//!
//! [`parse`] turns a text into a [`Selection`], which prints as that text; the grammar is that of [`Spec`]. A selector of
//! another crate joins by [`register`] and is then as good as any: in configurations, sessions, reports and on command
//! lines.
//!
//! ```
//! use lb_am::registry;
//!
//! let selection = registry::parse("snapkv:window=16")?;
//! assert_eq!(selection.to_string(), "snapkv:window=16");
//! let error = registry::parse("snapvk").unwrap_err().to_string();
//! assert!(error.starts_with("no selection is called `snapvk`; there are snapkv, "), "{error}");
//! # Ok::<(), lb_am::Error>(())
//! ```

mod arguments;
mod nearest;
mod spec;

use std::fmt;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

pub use arguments::Arguments;
pub use nearest::nearest_first;
pub use spec::Spec;

use crate::error::{Error, Result};
use crate::selection::Selection;
use crate::selectors::{self, Selector};

/// How a selector is made from its arguments, and what is said about it.
#[derive(Clone)]
pub struct Factory {
    name: String,
    about: String,
    keys: Vec<(String, String)>,
    build: Arc<Build>,
}

type Build = dyn Fn(&Arguments<'_>) -> Result<Selection> + Send + Sync;

impl Factory {
    /// A selector called `name` (small letters, digits, hyphens), without arguments so far; `about` says in a few words
    /// what it keeps.
    pub fn new<S: Selector + 'static>(
        name: &str,
        about: &str,
        build: impl Fn(&Arguments<'_>) -> Result<S> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: Spec::new(name).name().to_owned(),
            about: about.to_owned(),
            keys: Vec::new(),
            build: Arc::new(move |arguments| Ok(Selection::new(build(arguments)?))),
        }
    }

    /// Adds an argument called `key` (small letters, digits, underscores); `about` says what it is, with its default. One
    /// that no factory names is refused when it is given.
    #[must_use]
    pub fn key(mut self, key: &str, about: &str) -> Self {
        self.keys.push((key.to_owned(), about.to_owned()));
        self
    }

    /// The selector's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it keeps.
    pub fn about(&self) -> &str {
        &self.about
    }

    /// Its arguments, each with what it is.
    pub fn keys(&self) -> &[(String, String)] {
        &self.keys
    }

    fn build(&self, spec: &Spec) -> Result<Selection> {
        let known = |key: &str| self.keys.iter().any(|(own, _)| own == key);
        if let Some((key, _)) = spec.arguments().iter().find(|(key, _)| !known(key)) {
            let known = nearest_first(key, self.keys.iter().map(|(key, _)| key.clone()).collect());
            let (selector, key, known) = (self.name.clone(), key.clone(), known.into());
            return Err(Error::SelectorKey { selector, key, known });
        }
        let selection = (self.build)(&Arguments::of(spec))?;
        selection.selector().validate()?;
        Ok(selection)
    }
}

impl fmt::Debug for Factory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&str> = self.keys.iter().map(|(key, _)| key.as_str()).collect();
        f.debug_struct("Factory").field("name", &self.name).field("keys", &keys).finish_non_exhaustive()
    }
}

static FACTORIES: LazyLock<RwLock<Vec<Factory>>> = LazyLock::new(|| RwLock::new(selectors::factories()));

/// Reads a selection: `name`, `name:key=value,key=value` or `name(key=value;key=value)`.
///
/// # Errors
///
/// [`Error::SelectorText`] for a text of another form, [`Error::UnknownSelector`] with the names that there are, the
/// likeliest first, [`Error::SelectorKey`] likewise, [`Error::SelectorValue`] and [`Error::Config`] for values.
pub fn parse(text: &str) -> Result<Selection> {
    build(&text.parse()?)
}

/// The selection of a text that was read already.
///
/// # Errors
///
/// Those of [`parse`], but for the form.
pub fn build(spec: &Spec) -> Result<Selection> {
    let found = find(spec.name());
    let factory = found.ok_or_else(|| Error::UnknownSelector {
        name: spec.name().to_owned(),
        known: nearest_first(spec.name(), names()),
    })?;
    factory.build(spec)
}

/// The names of all selections, in the order in which they came.
pub fn names() -> Vec<String> {
    factories().into_iter().map(|factory| factory.name).collect()
}

/// Whether there is a selection of this name.
pub fn knows(name: &str) -> bool {
    find(&name.replace('_', "-")).is_some()
}

/// Every selection that there is, in the order in which they came.
pub fn factories() -> Vec<Factory> {
    FACTORIES.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Adds a selection for the whole process. An example is `examples/own_selector.rs`.
///
/// # Errors
///
/// [`Error::SelectorTaken`] where there is one of this name already; [`Error::SelectorText`] for a name or a key that the
/// grammar does not have.
pub fn register(factory: Factory) -> Result<()> {
    let fits =
        spec::is_word(&factory.name, '-') && factory.keys.iter().all(|(key, _)| spec::is_word(key, '_'));
    if !fits {
        let reason = "has a name or a key with other characters than small letters, digits and - or _";
        return Err(Error::SelectorText { text: factory.name, reason });
    }
    let mut all = FACTORIES.write().unwrap_or_else(PoisonError::into_inner);
    if all.iter().any(|other| other.name == factory.name) {
        return Err(Error::SelectorTaken { name: factory.name });
    }
    all.push(factory);
    Ok(())
}

fn find(name: &str) -> Option<Factory> {
    let all = FACTORIES.read().unwrap_or_else(PoisonError::into_inner);
    all.iter().find(|factory| factory.name == name).cloned()
}
