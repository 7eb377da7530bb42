"""A worker of ours as the sub-model of `rlms` (Recursive Language Models): its calls are answered over a briefing of the
trajectory.

    from latent_briefing import Worker
    from latent_briefing.rlms import BriefedRLM

    rlm = BriefedRLM(worker=Worker.load("Qwen/Qwen3-4B"), backend="openai", backend_kwargs={"model_name": "gpt-5-mini"})
    rlm.completion(document, root_prompt="Who keeps the ledger?")

The root model writes code in the REPL of `rlms`, as ever; what it said, ran and saw enters a session of the worker turn by
turn, and each `llm_query` of its code is asked over a briefing of that session, cut for the prompt.

A worker behind HTTP needs no class: `RLM(..., other_backends=["vllm"], other_backend_kwargs=[{"base_url": server.url + "/v1",
"api_key": "none", "model_name": worker.name}])` with `server = latent_briefing.serve(worker)`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from rlm import RLM
from rlm.clients.base_lm import BaseLM
from rlm.core.types import ModelUsageSummary, UsageSummary

from . import Session, Worker

__all__ = ["BriefedLM", "BriefedRLM"]


class BriefedLM(BaseLM):  # type: ignore[misc]
    """A client of `rlms` that answers prompts by a worker, over a briefing of a session.

    `via` is a handoff (`"full-kv"`, `"latent-briefing:keep=0.1"`); other settings are those of `Session.ask`.
    """

    def __init__(self, session: Session, *, model_name: str = "worker", via: str | None = None, **settings: Any) -> None:
        super().__init__(model_name=model_name)
        self.session, self.via, self.settings = session, via, settings
        self._lock = threading.Lock()
        self._calls, self._read, self._written = 0, 0, 0
        self._last = ModelUsageSummary(0, 0, 0)

    def completion(self, prompt: str | Mapping[str, Any] | list[Mapping[str, Any]]) -> str:
        """Answers one prompt."""
        text = prompt if isinstance(prompt, str) else _text(prompt)
        via = self.via if self.session.seq_len > self.session.head_len else "none"
        settings = {} if via is not None and self.via is None else self.settings
        options = {key: value for key, value in self.settings.items() if key == "max_new_tokens"}
        answer = self.session.ask(text, via=via, **{**options, **settings})
        with self._lock:
            read, written = answer.tokens["prefilled"], answer.tokens["generated"]
            self._calls, self._read, self._written = self._calls + 1, self._read + read, self._written + written
            self._last = ModelUsageSummary(1, read, written)
        return answer.text

    async def acompletion(self, prompt: str | Mapping[str, Any] | list[Mapping[str, Any]]) -> str:
        """The same beside other tasks; one worker answers one call at a time."""
        return await asyncio.to_thread(self.completion, prompt)

    def get_usage_summary(self) -> UsageSummary:
        """Tokens that were read and written over all calls."""
        with self._lock:
            return UsageSummary({self.model_name: ModelUsageSummary(self._calls, self._read, self._written)})

    def get_last_usage(self) -> ModelUsageSummary:
        """Those of the last call."""
        with self._lock:
            return self._last


class BriefedRLM(RLM):  # type: ignore[misc]
    """`rlm.RLM` whose `llm_query` goes to a worker of ours, briefed from what the root model has said, run and seen.

    `worker` opens a session for each `completion` (one for all where `persistent`). `via`, `settings` as for `BriefedLM`; the rest is
    `rlm.RLM`'s. `session` is the one under way, `answers` what its calls cost.
    """

    def __init__(
        self,
        *,
        worker: Worker,
        via: str | None = None,
        settings: Mapping[str, Any] | None = None,
        session: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.worker, self._via, self._settings = worker, via, dict(settings or {})
        self._session_config = dict(session or {})
        self.client: BriefedLM | None = None

    @property
    def session(self) -> Session | None:
        """The session of the completion under way, or of the last one."""
        return None if self.client is None else self.client.session

    @contextmanager
    def _spawn_completion_context(self, prompt: str | dict[str, Any]) -> Generator[tuple[Any, Any], None, None]:
        if self.client is None or not self.persistent:
            session = self.worker.session(**self._session_config)
            self.client = BriefedLM(session, model_name=self.worker.name, via=self._via, **self._settings)
        with super()._spawn_completion_context(prompt) as (handler, environment):
            # Calls from the REPL have depth 1, for which the handler has a client of its own.
            handler.other_backend_client = self.client
            handler.register_client(self.client.model_name, self.client)
            yield handler, environment

    def _completion_turn(self, prompt: Any, lm_handler: Any, environment: Any) -> Any:
        turn = super()._completion_turn(prompt=prompt, lm_handler=lm_handler, environment=environment)
        if self.client is not None:
            segments = [("reasoning", _prose(turn.response))]
            for block in turn.code_blocks:
                segments.append(("code", block.code))
                segments.append(("tool", f"{block.result.stdout}{block.result.stderr}"))
            told = [{"source": source, "text": text} for source, text in segments if text.strip()]
            if told:
                self.client.session.extend(told, progress=False)
        return turn


def _prose(response: str) -> str:
    """What is said around the code."""
    kept, inside = [], False
    for line in response.splitlines():
        if line.lstrip().startswith("```"):
            inside = not inside
        elif not inside:
            kept.append(line)
    return "\n".join(kept).strip()


def _text(messages: Mapping[str, Any] | list[Mapping[str, Any]]) -> str:
    every = [messages] if isinstance(messages, Mapping) else messages
    return "\n\n".join(str(message.get("content", "")) for message in every)
