//! One question about one long text, whatever file it came from.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::long_bench::V1Set;
use super::ruler;
use crate::episodes::Difficulty;
use crate::{Error, Result};

/// Which benchmark an item belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dataset {
    /// LongBench v2.
    LongBenchV2,
    /// LongBench v1, one of its 21 sets.
    LongBench(V1Set),
    /// QuALITY.
    Quality,
    /// LongHealth.
    LongHealth,
    /// A generated task in the manner of RULER.
    Ruler(ruler::RulerTask),
    /// A generated task in the built-in worker's own words.
    Native(ruler::NativeTask),
}

impl Dataset {
    /// The name used in reports.
    pub fn name(self) -> String {
        match self {
            Self::LongBenchV2 => "longbench-v2".to_owned(),
            Self::LongBench(set) => format!("longbench/{}", set.name()),
            Self::Quality => "quality".to_owned(),
            Self::LongHealth => "longhealth".to_owned(),
            Self::Ruler(task) => format!("ruler/{}", task.name()),
            Self::Native(task) => format!("native/{}", task.name()),
        }
    }
}

/// LongBench v2's classes of length, in words: under 32,000, up to 128,000, above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LengthClass {
    /// Under 32,000 words.
    Short,
    /// 32,000 to 128,000 words.
    Medium,
    /// More than 128,000 words.
    Long,
}

impl LengthClass {
    /// The name used in files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Medium => "medium",
            Self::Long => "long",
        }
    }
}

impl FromStr for LengthClass {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "short" => Ok(Self::Short),
            "medium" => Ok(Self::Medium),
            "long" => Ok(Self::Long),
            other => Err(Error::config("length", other, "want short, medium or long")),
        }
    }
}

/// What a right answer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ItemKind {
    /// Multiple choice.
    Choices {
        /// The texts of the choices, in the order of their letters.
        choices: Vec<String>,
        /// Which is right, from 0.
        answer: usize,
    },
    /// Free text. What several answers mean is up to the metric: alternatives for LongBench, all wanted for RULER.
    Free {
        /// The reference answers, at least one.
        answers: Vec<String>,
    },
}

/// What else a file says about an item.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Domain or topic.
    pub domain: Option<String>,
    /// Finer than the domain.
    pub sub_domain: Option<String>,
    /// Language code.
    pub language: Option<String>,
    /// The classes of a classification task.
    pub classes: Vec<String>,
    /// The right answer of a multiple-choice item as free text, where the file has it.
    pub free_answer: Option<String>,
    /// The rest, by name.
    pub extra: BTreeMap<String, String>,
}

/// A question about a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Unique within its file.
    pub id: String,
    /// Where it belongs.
    pub dataset: Dataset,
    /// The long text; items of one document share it.
    pub context: Arc<str>,
    /// The question. Empty for tasks that have none (summaries, code completion).
    pub question: String,
    /// What a right answer is.
    pub kind: ItemKind,
    /// Easy or hard, where the file says so.
    pub difficulty: Option<Difficulty>,
    /// Class of length, where the file says so.
    pub length_class: Option<LengthClass>,
    /// What else is known.
    pub meta: Meta,
    /// Where it stands: the line on which it begins, from 1; in Parquet, the row.
    pub line: usize,
}

/// The letter of a choice: A for 0.
pub fn letter(choice: usize) -> char {
    u8::try_from(choice).ok().filter(|c| *c < 26).map_or('?', |c| char::from(b'A' + c))
}
