"""Our selections and fits as a press of kvpress.

    from transformers import pipeline
    from latent_briefing.kvpress import LatentBriefingPress

    pipe = pipeline("kv-press-text-generation", model="HuggingFaceTB/SmolLM2-135M-Instruct")
    pipe(context, question=question, press=LatentBriefingPress(compression_ratio=0.9))["answer"]

All layers are compacted together when the last one has read the context, since heads of all layers share the budget. β
enters through the attention function `latent_briefing`, to which the press sets the model, and stays there when the press is
left: what is decoded afterwards needs it, and without biases it is `sdpa`.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from kvpress import BasePress
from kvpress.presses.base_press import is_prefilling
from kvpress.utils import get_prerope_query_states
from torch import nn
from transformers import QuantizedCache
from transformers.models.llama.modeling_llama import rotate_half

from . import ConfigError, compact
from .transformers import ATTENTION, BriefingLayer

__all__ = ["LatentBriefingPress"]

_log = logging.getLogger(__name__)
_READ_CONTEXT = ("h2o", "expected-attention")


@dataclass
class _Read:
    """What a layer has read."""

    keys: torch.Tensor
    values: torch.Tensor
    queries: torch.Tensor
    context: torch.Tensor | None


@dataclass
class LatentBriefingPress(BasePress):  # type: ignore[misc]
    """Attention Matching under kvpress: positions by `select`, biases and values fitted to what the last tokens see.

    compression_ratio: the share of slots that go. Heads keep different counts where the selection shares them out (`per-head` does
        among all layers and heads), so that slots fill up with biases of −inf to those of the longest; the sum is as asked for.
    select: any selection of `latent_briefing.selectors()`, with its arguments.
    window_size: of how many tokens at the end of the context the queries are; `None` for all of them. Where the question is a part
        of the context (kvpress's `query_aware`), let it be as long as the question.
    fit: "all", "none", "biases", "values".
    settings: further settings of `latent_briefing.compact`, such as {"spans": 1, "heads": "equal"}.
    """

    compression_ratio: float = 0.0
    select: str = "per-head"
    window_size: int | None = 64
    fit: str = "all"
    settings: dict[str, Any] = field(default_factory=dict)
    _modules: list[int] = field(default_factory=list, init=False, repr=False)
    _scales: dict[int, float] = field(default_factory=dict, init=False, repr=False)
    _read: dict[int, _Read] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.compression_ratio < 1:
            raise ConfigError(f"compression_ratio: want 0 to below 1, got {self.compression_ratio}")

    def post_init_from_model(self, model: Any) -> None:
        """Notes the layers that have hooks, and sets the model to the attention that reads biases."""
        decoder = model.model.language_model if hasattr(model.model, "language_model") else model.model
        sliding = [getattr(layer.self_attn, "is_sliding", False) for layer in decoder.layers]
        if any(sliding) and type(model).__name__ != "Gemma3ForConditionalGeneration":
            raise ConfigError("layers with a window keep their last positions and are not compacted")
        self._modules = [index for index, slides in enumerate(sliding) if not slides]
        if model.config._attn_implementation != ATTENTION:
            _log.info("the model's attention is now %r", ATTENTION)
            model.set_attn_implementation(ATTENTION)

    def compress(self, *_: Any) -> Any:
        """kvpress asks layer by layer; all layers are compacted together, by `forward_hook`."""
        raise NotImplementedError("LatentBriefingPress compacts all layers together: use it as it is, not inside another press")

    def forward_hook(self, module: nn.Module, input: Any, kwargs: dict[str, Any], output: Any) -> Any:
        """Notes what a layer has read; behind the last one, compacts all of them."""
        hidden, cache = kwargs["hidden_states"], kwargs["past_key_values"]
        if not is_prefilling(kwargs["cache_position"], hidden.shape[1]) or self.compression_ratio == 0:
            return output
        if isinstance(cache, QuantizedCache):
            raise ConfigError("a quantized cache of transformers has no place for biases; bits=8 in settings packs slots")
        layer = cache.layers[module.layer_idx]
        rotated = _queries(module, hidden, kwargs["position_embeddings"])
        window = rotated if self.window_size is None else rotated[:, :, -self.window_size :]
        context = rotated if self.select.partition(":")[0] in _READ_CONTEXT else None
        self._read[module.layer_idx] = _Read(layer.keys, layer.values, window.contiguous(), context)
        self._scales[module.layer_idx] = float(module.scaling)
        if module.layer_idx == self._modules[-1]:
            try:
                self._compact(cache)
            finally:
                self._read.clear()
        return output

    def _compact(self, cache: Any) -> None:
        slots = next(iter(self._read.values())).keys.shape[2]
        kept = max(int(slots * (1 - self.compression_ratio)), 1)
        batch = next(iter(self._read.values())).keys.shape[0]
        scale = self._scales[self._modules[0]]
        done = [self._one(index, kept, scale) for index in range(batch)]
        for number, layer in enumerate(self._modules):
            like = self._read[layer].keys
            most = max(one[number].keys.shape[1] for one in done)
            filled = [_filled(one[number], most) for one in done]
            keys, values, bias = (torch.stack(rows).to(like.device) for rows in zip(*filled, strict=True))
            cache.layers[layer] = BriefingLayer(keys, values, bias)

    def _one(self, index: int, kept: int, scale: float) -> Any:
        read = [self._read[layer] for layer in self._modules]

        def of(name: str) -> list[torch.Tensor]:
            return [getattr(one, name)[index].detach().cpu() for one in read]

        context = None if read[0].context is None else of("context")
        own = {"keep": kept, "select": self.select, "fit": self.fit, **self.settings}
        return compact(of("keys"), of("values"), of("queries"), context=context, scale=scale, **own)

    @contextmanager
    def __call__(self, model: Any) -> Generator[None, None, None]:
        """Compacts what the model reads inside the context."""
        with super().__call__(model):
            yield


def _queries(module: nn.Module, hidden: torch.Tensor, embeddings: Any) -> torch.Tensor:
    cos, sin = embeddings
    queries = get_prerope_query_states(module, hidden)
    return (queries * cos.unsqueeze(1)) + (rotate_half(queries) * sin.unsqueeze(1))


def _filled(layer: Any, slots: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Filled up to so many slots, by keys and values of 0 with a bias of −inf."""
    missing = slots - layer.keys.shape[1]
    pad = torch.nn.functional.pad
    keys, values = pad(layer.keys, (0, 0, 0, missing)), pad(layer.values, (0, 0, 0, missing))
    return keys, values, pad(layer.bias, (0, missing), value=float("-inf"))
