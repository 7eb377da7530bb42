//! LongBench v1: 21 sets of questions, summaries, classifications and code, in English and Chinese.
//!
//! JSON Lines (`THUDM/LongBench`): `input, context, answers[], length, dataset, language, all_classes, _id`. Source: Bai et
//! al., "LongBench", arXiv 2308.14508.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::item::{Dataset, Item, ItemKind, Meta};
use super::reader::Record;
use crate::fault::Fault;

macro_rules! sets {
    ($($variant:ident $name:literal $doc:literal,)*) => {
        /// A set of LongBench v1.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum V1Set {
            $(#[doc = $doc] #[serde(rename = $name)] $variant,)*
        }

        impl V1Set {
            /// Every set.
            pub const ALL: [Self; 21] = [$(Self::$variant),*];

            /// The name in the files.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

sets! {
    NarrativeQa "narrativeqa" "Questions about stories.",
    Qasper "qasper" "Questions about papers.",
    MultiFieldQaEn "multifieldqa_en" "Questions in English.",
    MultiFieldQaZh "multifieldqa_zh" "Questions in Chinese.",
    HotpotQa "hotpotqa" "Questions over several passages.",
    TwoWikiMqa "2wikimqa" "Questions over several passages.",
    Musique "musique" "Questions over several passages.",
    DuReader "dureader" "Questions in Chinese.",
    GovReport "gov_report" "Summaries of reports.",
    QmSum "qmsum" "Summaries of meetings, by query.",
    MultiNews "multi_news" "Summaries of news.",
    VcSum "vcsum" "Summaries of meetings in Chinese.",
    Trec "trec" "Types of questions.",
    TriviaQa "triviaqa" "Trivia.",
    SamSum "samsum" "Summaries of dialogues.",
    Lsht "lsht" "Classes of news in Chinese.",
    PassageCount "passage_count" "How many passages differ.",
    PassageRetrievalEn "passage_retrieval_en" "Which passage is summarised.",
    PassageRetrievalZh "passage_retrieval_zh" "Which passage is summarised, in Chinese.",
    Lcc "lcc" "The next line of code.",
    RepoBenchP "repobench-p" "The next line of code, over several files.",
}

impl V1Set {
    /// By the name in the files; the evenly distributed variants (`hotpotqa_e`) are the same sets.
    pub fn by_name(name: &str) -> Option<Self> {
        let name = name.strip_suffix("_e").unwrap_or(name);
        Self::ALL.into_iter().find(|set| set.name() == name)
    }
}

pub(super) fn item(record: &Record<'_>) -> Result<Item, Fault> {
    let fields = &record.fields;
    let id = fields.filled("_id")?.to_owned();
    let set = fields.one_of("dataset", V1Set::by_name, "the name of a set of LongBench")?;
    let answers = fields.texts("answers")?;
    if answers.is_empty() {
        return Err(Fault::Empty { field: "answers".to_owned() });
    }
    let classes = if fields.get("all_classes").is_some() { fields.texts("all_classes")? } else { Vec::new() };
    if classes.is_empty() && matches!(set, V1Set::Trec | V1Set::Lsht) {
        return Err(Fault::Empty { field: "all_classes".to_owned() });
    }
    let mut meta =
        Meta { language: fields.optional("language")?.map(str::to_owned), classes, ..Meta::default() };
    if fields.get("length").is_some() {
        meta.extra.insert("length".to_owned(), fields.integer("length")?.to_string());
    }
    Ok(Item {
        id,
        dataset: Dataset::LongBench(set),
        context: Arc::from(fields.filled("context")?),
        question: fields.text("input")?.to_owned(),
        kind: ItemKind::Free { answers },
        difficulty: None,
        length_class: None,
        meta,
        line: record.line,
    })
}
