//! A library of prompts.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::render;
use crate::{Error, Result};

/// A file of prompts. A version of a prompt is never changed: another text is another version, and a `sha256` beside a text holds it to
/// that.
///
/// ```
/// use lb_orchestrate::PromptLibrary;
///
/// let library = PromptLibrary::from_toml(
///     r#"
///     [[prompt]]
///     name = "compare"
///     version = 1
///     text = "Compare {{ a }} with {{ b }}."
///     [[prompt]]
///     name = "compare"
///     version = 2
///     text = "Compare {{ a }} with {{ b }}{% if unit %}, in {{ unit }}{% endif %}. Name the source of each figure."
///     [prompt.defaults]
///     unit = ""
///     "#,
/// )?;
/// let values = [("a", "the north"), ("b", "the south")].map(|(name, value)| (name.to_owned(), value.to_owned()));
/// let made = library.render("compare", &values.clone().into())?; // the latest
/// assert_eq!(made.text, "Compare the north with the south. Name the source of each figure.");
/// assert_eq!(library.render("compare@1", &values.into())?.text, "Compare the north with the south.");
/// assert_eq!((made.used.name.as_str(), made.used.version), ("compare", 2));
/// # Ok::<(), lb_orchestrate::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromptLibrary {
    /// The prompts, in any order.
    #[serde(rename = "prompt")]
    pub prompts: Vec<PromptTemplate>,
}

/// One version of a prompt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptTemplate {
    /// Its name: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Its version, at least 1.
    pub version: u32,
    /// The text, with variables in the form `{{ name }}` and what else minijinja has.
    pub text: String,
    /// What a variable is where nobody says; variables without a default must be given.
    #[serde(default)]
    pub defaults: BTreeMap<String, String>,
    /// The SHA-256 of the text, in hexadecimal digits. Another text is refused.
    #[serde(default)]
    pub sha256: Option<String>,
}

/// Which prompt a text was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptUsed {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// The SHA-256 of its text, before variables were put in.
    pub sha256: String,
}

/// A prompt with its variables put in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// What it was made from.
    pub used: PromptUsed,
}

impl PromptTemplate {
    fn digest(&self) -> String {
        Sha256::digest(self.text.as_bytes())
            .iter()
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }
}

impl PromptLibrary {
    /// Reads a library.
    ///
    /// # Errors
    /// [`Error::Prompts`]: no TOML, an unknown key, a name that is none, the same version twice, a text that is no template or is not
    /// what its digest says.
    pub fn from_toml(text: &str) -> Result<Self> {
        Self::parse(text, Path::new("the prompt library"))
    }

    /// Reads a file; see [`from_toml`](Self::from_toml).
    ///
    /// # Errors
    /// [`Error::Prompts`] naming the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = lb_io::files::read_text_at_most(path, lb_io::files::SETTINGS);
        let text =
            text.map_err(|error| Error::Prompts { path: path.to_owned(), reason: error.to_string() })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self> {
        let failed = |reason: String| Error::Prompts { path: path.to_owned(), reason };
        let library: Self = toml::from_str(text).map_err(|error| failed(error.to_string()))?;
        for (number, prompt) in library.prompts.iter().enumerate() {
            let PromptTemplate { name, version, text, sha256, .. } = prompt;
            let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if name.is_empty() || !name.chars().all(fine) {
                return Err(failed(format!("prompt {name:?}: want a name of letters, digits, -, _ and .")));
            }
            if *version == 0 {
                return Err(failed(format!("prompt {name}: versions begin at 1")));
            }
            let twice = |other: &&PromptTemplate| other.name == *name && other.version == *version;
            if library.prompts[..number].iter().any(|other| twice(&other)) {
                return Err(failed(format!(
                    "prompt {name}@{version} is there twice; another text is another version"
                )));
            }
            let is = prompt.digest();
            if let Some(said) = sha256.as_ref().filter(|said| !said.eq_ignore_ascii_case(&is)) {
                return Err(failed(format!(
                    "prompt {name}@{version}: its text has the SHA-256 {is}, not {said}; another text is another version"
                )));
            }
            render::check(text).map_err(|why| failed(format!("prompt {name}@{version}: {why}")))?;
        }
        Ok(library)
    }

    /// The prompt of that name: `name` is the latest version, `name@2` the second.
    ///
    /// # Errors
    /// [`Error::Prompt`] where there is none.
    pub fn get(&self, of: &str) -> Result<&PromptTemplate> {
        let failed = |reason: String| Error::Prompt { name: of.to_owned(), reason };
        let (name, version) = match of.split_once('@') {
            None => (of, None),
            Some((name, version)) => {
                let number: u32 =
                    version.parse().map_err(|_| failed("want a number behind the @".to_owned()))?;
                (name, Some(number))
            }
        };
        let same = self.prompts.iter().filter(|prompt| prompt.name == name);
        let found = match version {
            None => same.max_by_key(|prompt| prompt.version),
            Some(version) => same.clone().find(|prompt| prompt.version == version),
        };
        found.ok_or_else(|| {
            let mut known: Vec<String> =
                self.prompts.iter().map(|prompt| format!("{}@{}", prompt.name, prompt.version)).collect();
            known.sort();
            failed(format!("is not in the library; there are {}", known.join(", ")))
        })
    }

    /// Puts the variables into a prompt.
    ///
    /// # Errors
    /// [`Error::Prompt`]: there is none of that name, a variable is missing or is not one of the prompt's, or the template fails.
    pub fn render(&self, of: &str, values: &BTreeMap<String, String>) -> Result<Rendered> {
        let prompt = self.get(of)?;
        let failed =
            |reason: String| Error::Prompt { name: format!("{}@{}", prompt.name, prompt.version), reason };
        let wanted = render::variables(&prompt.text).map_err(failed)?;
        if let Some(unknown) = values.keys().find(|name| !wanted.contains(*name)) {
            return Err(failed(format!("has no variable {unknown}")));
        }
        let mut all = prompt.defaults.clone();
        all.extend(values.clone());
        if let Some(missing) = wanted.iter().find(|name| !all.contains_key(*name)) {
            return Err(failed(format!("the variable {missing} is missing")));
        }
        let text = render::render(&prompt.text, &all).map_err(failed)?;
        let used = PromptUsed { name: prompt.name.clone(), version: prompt.version, sha256: prompt.digest() };
        Ok(Rendered { text, used })
    }
}

#[cfg(test)]
mod tests {
    use super::PromptLibrary;
    use crate::Error;

    fn wrong(text: &str) -> String {
        PromptLibrary::from_toml(text).unwrap_err().to_string()
    }

    #[test]
    fn a_version_is_held_to_its_text() {
        let with = |digest: &str| {
            format!(
                "[[prompt]]\nname = \"a\"\nversion = 1\ntext = \"x {{{{ y }}}}\"\nsha256 = \"{digest}\"\n"
            )
        };
        let error = wrong(&with(&"0".repeat(64)));
        let is = error.split("SHA-256 ").nth(1).and_then(|rest| rest.get(..64)).unwrap();
        assert!(PromptLibrary::from_toml(&with(is)).is_ok());
        let twice = "[[prompt]]\nname = \"a\"\nversion = 1\ntext = \"x\"\n".repeat(2);
        assert!(wrong(&twice).contains("a@1 is there twice"));
        assert!(wrong("[[prompt]]\nname = \"a b\"\nversion = 1\ntext = \"x\"").contains("want a name"));
        assert!(wrong("[[prompt]]\nname = \"a\"\nversion = 0\ntext = \"x\"").contains("begin at 1"));
        assert!(wrong("[[prompt]]\nname = \"a\"\nversion = 1\ntext = \"{{ x\"").contains("a@1"));
        assert!(
            wrong("[[prompt]]\nname = \"a\"\nversion = 1\ntext = \"x\"\nvariables = []")
                .contains("variables")
        );
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        let library =
            PromptLibrary::from_toml("[[prompt]]\nname = \"a\"\nversion = 3\ntext = \"{{ x }} and {{ y }}\"")
                .unwrap();
        let render = |of: &str, names: &[&str]| {
            let values = names.iter().map(|name| ((*name).to_owned(), "1".to_owned())).collect();
            match library.render(of, &values) {
                Err(Error::Prompt { name, reason }) => format!("{name}: {reason}"),
                other => format!("{other:?}"),
            }
        };
        assert_eq!(render("a", &["x"]), "a@3: the variable y is missing");
        assert_eq!(render("a", &["x", "y", "z"]), "a@3: has no variable z");
        assert_eq!(render("a@2", &[]), "a@2: is not in the library; there are a@3");
        assert_eq!(render("a@x", &[]), "a@x: want a number behind the @");
    }
}
