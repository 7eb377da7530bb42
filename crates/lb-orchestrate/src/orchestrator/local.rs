//! A checkpoint on this machine as the orchestrator.

use lb_model::{GenerateOptions, Generation, KvCache, Message, RenderOptions, StopReason, Worker};

use super::fences::Fences;
use super::form::Form;
use super::guard::TurnGuard;
use super::{ChatMessage, ChatRequest, Completion, Finish, Orchestrator, Role, Usage, thoughts};
use crate::{Error, Result};

/// Tokens that are read between two looks at the deadline.
const READ_AT_ONCE: usize = 256;
/// Tokens of a prompt's end that show whether the template has opened a thought.
const TAIL: usize = 8;

/// Whether a local orchestrator thinks before it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalThinking {
    /// As the chat template has it.
    #[default]
    Template,
    /// `enable_thinking = true`.
    On,
    /// `enable_thinking = false`.
    Off,
}

/// How a local orchestrator writes.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalConfig {
    /// Sampling, and the most tokens of a turn where the request names none. Default: greedy, 4,096 tokens.
    pub generate: GenerateOptions,
    /// Default: [`LocalThinking::Template`].
    pub thinking: LocalThinking,
    /// Whether a turn ends with its first closed fence. A small model goes on with what it thinks its code will print, and
    /// with more code that builds on that. Default: false.
    pub one_block: bool,
}

impl Default for LocalConfig {
    fn default() -> Self {
        let (generate, thinking) = (GenerateOptions::greedy(4096), LocalThinking::Template);
        Self { generate, thinking, one_block: false }
    }
}

/// Any checkpoint as the orchestrator.
///
/// Where the chat template takes no system message, its text begins the first user turn; where it wants users and
/// assistants in turn, neighbours of one role are one message.
///
/// The KV cache of a turn stays for the next, also for the next run: of the next conversation only what differs from it is
/// read, and [`Usage::cached`] counts the rest. A template that rewrites earlier turns costs more reading, never a wrong
/// answer.
#[derive(Debug)]
pub struct LocalOrchestrator {
    worker: Worker,
    config: LocalConfig,
    cache: KvCache,
    /// What `cache` holds.
    tokens: Vec<u32>,
    form: Form,
}

impl LocalOrchestrator {
    /// An orchestrator with an empty cache.
    ///
    /// # Errors
    /// [`lb_model::Error::Config`] (in [`Error::Model`]) for options out of range,
    /// [`lb_model::Error::NoChatTemplate`] for a base model.
    pub fn new(worker: Worker, config: LocalConfig) -> Result<Self> {
        config.generate.validate()?;
        let form = Form::of(worker.template()?);
        let cache = worker.model().new_cache();
        Ok(Self { worker, config, cache, tokens: Vec::new(), form })
    }

    /// Forgets what was read; the next turn reads its whole conversation.
    pub fn clear(&mut self) {
        self.cache = self.worker.model().new_cache();
        self.tokens.clear();
    }

    /// Tokens that the cache holds between turns.
    pub fn cached_tokens(&self) -> usize {
        self.tokens.len()
    }

    fn prompt(&self, messages: &[ChatMessage], guard: &TurnGuard<'_>) -> Result<Vec<u32>> {
        let messages = self.form.arrange(messages);
        let messages: Vec<Message> =
            messages.iter().map(|m| Message::new(role(m.role), m.content.as_str())).collect();
        let enable_thinking = match self.config.thinking {
            LocalThinking::Template => None,
            LocalThinking::On => Some(true),
            LocalThinking::Off => Some(false),
        };
        let options = RenderOptions { enable_thinking, ..RenderOptions::default() };
        let limit = self.worker.config().position_limit();
        let mut go_on = || guard.check().is_ok();
        match self.worker.encode_conversation_within(&messages, &options, limit, &mut go_on) {
            Err(lb_model::Error::Interrupted) => {
                guard.check()?;
                Err(Error::Cancelled)
            }
            prompt => Ok(prompt?),
        }
    }

    /// Cuts the cache to what it shares with `prompt`, short of its last token, whose logits are wanted.
    fn keep_common(&mut self, prompt: &[u32]) -> Result<usize> {
        let most = prompt.len().saturating_sub(1);
        let common = self.tokens.iter().zip(prompt).take(most).take_while(|(a, b)| a == b).count();
        self.cache.truncate(common)?;
        self.tokens.truncate(common);
        Ok(common)
    }

    fn read(&mut self, prompt: &[u32], guard: &TurnGuard<'_>) -> Result<candle_core::Tensor> {
        let mut logits = None;
        for piece in prompt[self.tokens.len()..].chunks(READ_AT_ONCE) {
            guard.check()?;
            logits = Some(self.worker.model().forward(piece, &mut self.cache)?);
            self.tokens.extend_from_slice(piece);
        }
        logits.ok_or(Error::Empty { arg: "the rendered conversation" })
    }

    fn generate(
        &mut self,
        logits: &candle_core::Tensor,
        max_tokens: Option<usize>,
        guard: &TurnGuard<'_>,
    ) -> Result<Generation> {
        let mut options = self.config.generate.clone();
        options.max_new_tokens = max_tokens.unwrap_or(options.max_new_tokens);
        let prompt = self.tokens.len();
        let mut fences = self.config.one_block.then(Fences::default);
        let mut go_on = |_, text: &str| {
            let closed = fences.as_mut().is_some_and(|fences| fences.closed_by(text));
            guard.check().is_ok() && !closed
        };
        let generated = self.worker.generate_from_logits(&mut self.cache, logits, &options, &mut go_on);
        match generated {
            Ok(generation) => {
                let read = self.cache.logical_len().saturating_sub(prompt);
                self.tokens.extend(generation.tokens.iter().take(read));
                Ok(generation)
            }
            Err(error) => {
                self.cache.truncate(prompt)?;
                Err(error.into())
            }
        }
    }

    fn completion(&self, prompt: &[u32], cached: usize, generation: &Generation) -> Completion {
        let tail = &prompt[prompt.len().saturating_sub(TAIL)..];
        let opened = thoughts::is_open(&self.worker.tokenizer().pieces(tail).concat());
        let (thought, text) = thoughts::split(&generation.text, opened);
        let usage = Usage {
            input: prompt.len(),
            cached,
            output: generation.tokens.len(),
            reasoning: thought.map_or(0, |_| self.thought_tokens(&generation.tokens)),
            ..Usage::default()
        };
        let finish = match generation.stopped {
            StopReason::MaxTokens | StopReason::ContextFull => Finish::Length,
            _ => Finish::Stop,
        };
        Completion {
            text: text.to_string(),
            reasoning: thought.map(str::to_string),
            usage,
            finish,
            ..Completion::default()
        }
    }

    /// Tokens up to the end of the thoughts, all of them where these do not end.
    fn thought_tokens(&self, tokens: &[u32]) -> usize {
        let mut text = self.worker.tokenizer().stream();
        let mut so_far = String::new();
        for (index, &token) in tokens.iter().enumerate() {
            so_far.push_str(text.push(token));
            if so_far.ends_with('>') && so_far.contains("</think>") {
                return index + 1;
            }
        }
        tokens.len()
    }
}

impl Orchestrator for LocalOrchestrator {
    fn model(&self) -> &str {
        self.worker.name()
    }

    fn backend(&self) -> &'static str {
        "local"
    }

    /// # Errors
    /// [`lb_model::Error::TooManyTokens`] (in [`Error::Model`]) for a conversation beyond the model's positions,
    /// [`Error::Cancelled`], [`Error::Timeout`], those of the template and the model. What was read stays in the cache.
    fn complete(&mut self, request: &ChatRequest<'_>) -> Result<Completion> {
        let guard = TurnGuard::of(request);
        guard.check()?;
        let prompt = self.prompt(request.messages, &guard)?;
        let cached = self.keep_common(&prompt)?;
        let logits = self.read(&prompt, &guard)?;
        let generation = self.generate(&logits, request.max_tokens, &guard)?;
        if generation.stopped == StopReason::Callback {
            guard.check()?;
        }
        Ok(self.completion(&prompt, cached, &generation))
    }
}

pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    }
}
