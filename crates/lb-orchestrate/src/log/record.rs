//! The lines of a log.

use std::collections::BTreeMap;

use lb_sandbox::{AnswerCell, Fault, Query};
use lb_session::{BriefingMap, CallTokens, Chances, Handoff, RoomReport, Source};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::rlm::{Limits, PromptProfile, Protocol};
use crate::{ChatMessage, Finish, LeftOut, Managed, ManagerConfig, MemoHit, ModelUse, PromptUsed, Usage};

/// The first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename = "metadata")]
pub struct Metadata {
    /// When the run began, RFC 3339.
    pub timestamp: String,
    /// The orchestrator's model.
    pub root_model: String,
    /// Limit of recursion.
    pub max_depth: usize,
    /// Limit of turns.
    pub max_iterations: usize,
    /// Kind of orchestrator.
    pub backend: String,
    /// What else is known of it; never a key.
    pub backend_kwargs: Map<String, Value>,
    /// Kind of sandbox.
    pub environment_type: String,
    /// What else is known of it.
    pub environment_kwargs: Map<String, Value>,
    /// The worker.
    pub other_backends: Option<Vec<String>>,
    /// What a run needs in order to be resumed and explained.
    pub latent_briefing: RunSettings,
}

/// How a run is set up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunSettings {
    /// Version of this library.
    pub version: String,
    /// How the orchestrator says that it is done.
    pub protocol: Protocol,
    /// For which kind of orchestrator the texts are written.
    #[serde(default)]
    pub profile: PromptProfile,
    /// Whether an answer without any worker call is refused once.
    #[serde(default)]
    pub ask_first: bool,
    /// Whether the worker reads the documents as a part of the trajectory.
    #[serde(default)]
    pub brief_documents: bool,
    /// How the trajectory reaches the worker.
    pub handoff: Handoff,
    /// What the run may use up.
    pub limits: Limits,
    /// The worker's name.
    pub worker: String,
    /// Positions that the worker has.
    pub position_limit: usize,
    /// The first question.
    pub question: String,
    /// The documents, in files beside the log.
    pub contexts: Vec<ContextFile>,
    /// The tokens before the first segment.
    pub head: Vec<String>,
    /// How the history is managed, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<ManagerConfig>,
    /// The prompt of a library that the question was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_used: Option<PromptUsed>,
}

/// A document of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextFile {
    /// The variable in the REPL.
    pub name: String,
    /// Its file's name, in the folder of the log.
    pub file: String,
    /// Characters.
    pub chars: usize,
}

/// One turn.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename = "iteration")]
pub struct Iteration {
    /// Its number, from 1, over all questions of the run.
    pub iteration: usize,
    /// When it ended, RFC 3339.
    pub timestamp: String,
    /// The whole conversation until then.
    pub prompt: Vec<ChatMessage>,
    /// What the orchestrator said.
    pub response: String,
    /// The code that ran.
    pub code_blocks: Vec<CodeBlock>,
    /// The answer, in the turn that gave it.
    pub final_answer: Option<String>,
    /// Seconds of the turn.
    pub iteration_time: f64,
    /// The question that it works at.
    pub question: String,
    /// Its number within that question, from 1; 0 for the last completion, which asks for the answer alone.
    pub turn: usize,
    /// Tokens of the orchestrator.
    pub usage: Usage,
    /// Why the orchestrator's reply ended.
    pub finish: Finish,
    /// Its thoughts, where the model shows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// Seconds of its reply.
    pub completion_time: f64,
    /// What entered the trajectory in this turn, in order.
    pub entered: Vec<Entered>,
    /// Documents that were added before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contexts: Vec<ContextFile>,
    /// What the run was stopped by in this turn, which was not carried through. A resumed run begins the turn anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// What there was of an answer when it was stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial_answer: Option<String>,
    /// What was sent of the conversation where that was not all of it: each message that was shortened or left out, by its number
    /// in `prompt`, which has it whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed: Option<ManagedPrompt>,
    /// Who was asked for the reply, where there are several models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_model: Vec<ModelUse>,
    /// The phase of the question, where phases are set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
}

/// A prompt that was not sent whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ManagedPrompt {
    /// Tokens of the conversation, by the worker's tokenizer.
    pub tokens_before: usize,
    /// Tokens that were sent.
    pub tokens: usize,
    /// The budget.
    pub budget: usize,
    /// What is not whole.
    pub left_out: Vec<LeftOut>,
}

impl From<Managed> for ManagedPrompt {
    fn from(managed: Managed) -> Self {
        let Managed { tokens_before, tokens, budget, left_out, .. } = managed;
        Self { tokens_before, tokens, budget, left_out }
    }
}

/// A segment of the trajectory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entered {
    /// Where it comes from.
    pub source: Source,
    /// Who said it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its text.
    pub text: String,
    /// Its tokens as the worker's cache has them, none where the boundary policy keeps it out.
    pub pieces: Vec<String>,
    /// Tokens of the text that the boundary policy left out.
    pub left_out: usize,
    /// Compactions of the oldest part of the trajectory that it took.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub room: Vec<RoomReport>,
    /// Seconds of reading it.
    pub seconds: f64,
    /// Which of the turn's worker calls had begun before it: their briefings do not know it.
    pub after_calls: usize,
    /// What the context manager left out of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed: Option<LeftOut>,
    /// The text before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<String>,
}

/// A block of code.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CodeBlock {
    /// The code.
    pub code: String,
    /// What it did.
    pub result: BlockResult,
}

/// What a block of code did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BlockResult {
    /// What it printed.
    pub stdout: String,
    /// What went wrong.
    pub stderr: String,
    /// Its variables, as short texts.
    pub locals: BTreeMap<String, String>,
    /// Seconds, those of the calls counted in.
    pub execution_time: f64,
    /// Its calls, in order.
    pub rlm_calls: Vec<WorkerCall>,
    /// The answer, where the block set it.
    pub final_answer: Option<String>,
    /// What went wrong, by kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// What was in `answer` after it.
    pub answer: AnswerCell,
}

/// What a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallKind {
    /// The worker answers.
    Llm,
    /// A loop of its own.
    Rlm,
}

/// A call of the worker, or of a loop of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerCall {
    /// Who answered.
    pub root_model: String,
    /// What was asked, the piece of a document counted in.
    pub prompt: String,
    /// What came back; a text that begins `Error: ` where the call failed.
    pub response: String,
    /// Tokens by model.
    pub usage_summary: UsageSummary,
    /// Seconds.
    pub execution_time: f64,
    /// Positions that the worker attended to; of a loop of its own, its orchestrator's input.
    pub prompt_tokens: usize,
    /// Tokens of the answer.
    pub completion_tokens: usize,
    /// The record of a loop of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<ChildRecord>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the call is.
    pub kind: CallKind,
    /// What was asked, as the code asked it.
    pub query: Query,
    /// How the trajectory reached the worker.
    pub handoff: String,
    /// The worker's tokens.
    pub tokens: CallTokens,
    /// Seconds of reading.
    pub prefill_s: f64,
    /// Seconds of making the briefing, or whatever else is handed over.
    pub brief_s: f64,
    /// Seconds of generating.
    pub decode_s: f64,
    /// Bytes of the cache that the answer was made over.
    pub cache_bytes: usize,
    /// Share of the trajectory that the worker could attend to; of notes and summaries, their length over the
    /// trajectory's. `None` for calls that failed and loops of their own.
    #[serde(default)]
    pub keep_ratio: Option<f64>,
    /// Chances of the choices, where the run asked for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chances: Option<Chances>,
    /// What was kept of the trajectory, where a briefing was made and the log is to have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub briefing: Option<BriefingMap>,
    /// What a remembered answer saved; nothing was computed for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memo: Option<MemoHit>,
}

impl WorkerCall {
    /// A call of `model` that has not been answered yet.
    pub(crate) fn unanswered(kind: CallKind, query: &Query, model: &str, handoff: &Handoff) -> Self {
        let prompt: Vec<&str> =
            query.document.as_deref().into_iter().chain([query.prompt.as_str()]).collect();
        Self {
            root_model: model.to_owned(),
            prompt: prompt.join("\n"),
            response: String::new(),
            usage_summary: UsageSummary::default(),
            execution_time: 0.0,
            prompt_tokens: 0,
            completion_tokens: 0,
            metadata: None,
            error: None,
            kind,
            query: query.clone(),
            handoff: handoff.name().to_owned(),
            tokens: CallTokens::default(),
            prefill_s: 0.0,
            brief_s: 0.0,
            decode_s: 0.0,
            cache_bytes: 0,
            keep_ratio: None,
            chances: None,
            briefing: None,
            memo: None,
        }
    }

    /// Sets the response: what came back, or a text that begins with `Error: `.
    pub(crate) fn answered(&mut self, answer: std::result::Result<String, String>) {
        match answer {
            Ok(text) => self.response = text,
            Err(reason) => {
                self.response = format!("Error: {reason}");
                self.error = Some(reason);
            }
        }
    }

    /// Sets the tokens that its model saw and wrote, in so many completions.
    pub(crate) fn used(&mut self, total_calls: usize, input: usize, output: usize) {
        (self.prompt_tokens, self.completion_tokens) = (input, output);
        let usage = ModelUsage { total_calls, total_input_tokens: input, total_output_tokens: output };
        self.usage_summary.model_usage_summaries.insert(self.root_model.clone(), usage);
    }
}

/// Tokens by model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UsageSummary {
    /// By the model's name.
    pub model_usage_summaries: BTreeMap<String, ModelUsage>,
}

/// Tokens of one model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelUsage {
    /// Calls.
    pub total_calls: usize,
    /// Tokens in.
    pub total_input_tokens: usize,
    /// Tokens out.
    pub total_output_tokens: usize,
}

/// The record of a recursive query.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChildRecord {
    /// As the first line of a log.
    pub run_metadata: Box<Metadata>,
    /// As its other lines.
    pub iterations: Vec<Iteration>,
}
