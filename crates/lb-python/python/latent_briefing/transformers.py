"""Briefings in models of transformers: a cache whose layers carry β and keep their own positions.

    import latent_briefing.transformers as lbt

    model.set_attn_implementation(lbt.ATTENTION)               # or attn_implementation="latent_briefing" when it is loaded
    cache = lbt.LatentBriefingCache.from_briefing(briefing)     # made by a worker of the same weights
    cache = lbt.LatentBriefingCache.from_compacted(compacted, positions=1000)
    model(input_ids=task_tokens, past_key_values=cache)

β enters through an attention function that is registered with transformers under the name `latent_briefing`; nothing of
transformers is patched. Where keys carry no bias the function is that of `sdpa`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, Cache
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from . import Briefing, Compacted, ConfigError, SessionError

__all__ = ["ATTENTION", "BriefingLayer", "LatentBriefingCache", "attention"]

ATTENTION = "latent_briefing"
"""The name of the attention function, for `attn_implementation=` and `set_attn_implementation`."""

_BIAS = "latent_briefing_bias"


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Attention over keys that may carry biases.

    Shapes: `query` `[batch, heads, tokens, head_dim]`, `key` and `value` `[batch, kv_heads, slots, head_dim]`; the bias that a
    `BriefingLayer` leaves on the keys is `[batch, kv_heads, frozen]`, for the first slots. Every query sees these, and of what was
    read behind them what the mask says (causal, where there is none). A mask is made for one layer, so that its width may be
    another than this layer's: it is read from its end.
    """
    bias: torch.Tensor | None = getattr(key, _BIAS, None)
    if bias is None:
        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    (batch, heads, tokens, _), (kv_heads, slots) = query.shape, key.shape[1:3]
    frozen = bias.shape[-1]
    behind = slots - frozen
    mask = query.new_zeros((batch, kv_heads, tokens, slots))
    mask[..., :frozen] = bias.to(query.device, query.dtype)[:, :, None, :]
    if attention_mask is not None:
        seen = attention_mask[..., attention_mask.shape[-1] - behind :]
        if seen.dtype == torch.bool:
            seen = query.new_zeros(seen.shape).masked_fill(~seen, float("-inf"))
        mask[..., frozen:] += seen.to(query.dtype)
    elif tokens > 1:
        later = torch.ones((tokens, behind), dtype=torch.bool, device=query.device).triu(behind - tokens + 1)
        mask[..., frozen:] = mask[..., frozen:].masked_fill(later, float("-inf"))
    groups = heads // kv_heads
    output = torch.nn.functional.scaled_dot_product_attention(
        query,
        repeat_kv(key, groups),
        repeat_kv(value, groups),
        attn_mask=repeat_kv(mask, groups),
        dropout_p=dropout,
        scale=scaling,
    )
    return output.transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


class BriefingLayer(DynamicLayer):  # type: ignore[misc]
    """One layer: compacted slots with their biases, and what is read behind them.

    `keys` and `values` are `[batch, kv_heads, slots, head_dim]`, `bias` is `[batch, kv_heads, slots]` in float32; −inf fills up heads
    that keep fewer slots. `positions` is how many positions these slots stand for, so that the next token has that position; `None`
    counts slots as positions, for callers that say positions themselves (kvpress).
    """

    def __init__(
        self, keys: torch.Tensor, values: torch.Tensor, bias: torch.Tensor, positions: int | None = None
    ) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values, self.bias = keys, values, bias.float()
        self.frozen: int = keys.shape[-2]
        self.positions: int = self.frozen if positions is None else positions
        if self.positions < self.frozen:
            raise ConfigError(f"positions: {self.positions} for {self.frozen} slots", field="positions")

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Appends; the keys that come back carry the biases."""
        keys, values = super().update(key_states, value_states, *args, **kwargs)
        setattr(keys, _BIAS, self.bias)
        return keys, values

    def get_seq_length(self) -> int:
        """Positions: those that the compacted slots stand for, and one for each slot behind them."""
        return int(self.keys.shape[-2]) - self.frozen + self.positions

    def get_mask_sizes(self, cache_position: Any) -> tuple[int, int]:
        """Slots once the next tokens are in, and how far slots lie behind positions."""
        tokens = cache_position if isinstance(cache_position, int) else int(cache_position.shape[0])
        return int(self.keys.shape[-2]) + tokens, self.positions - self.frozen

    def crop(self, max_length: int) -> None:
        """Forgets positions from `max_length` on (negative: so many at the end); the briefing itself cannot be cut."""
        length = self.get_seq_length() + max_length if max_length < 0 else max_length
        if length >= self.get_seq_length():
            return
        if length < self.positions:
            raise SessionError(f"position {length} lies inside the briefing of {self.positions}, which cannot be cut")
        slots = length - self.positions + self.frozen
        self.keys, self.values = self.keys[..., :slots, :], self.values[..., :slots, :]

    def reset(self) -> None:
        """Forgets all that was read behind the briefing."""
        self.crop(self.positions)

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """For beam search."""
        super().reorder_cache(beam_idx)
        self.bias = self.bias.index_select(0, beam_idx.to(self.bias.device))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """For several answers to one prompt."""
        super().batch_repeat_interleave(repeats)
        self.bias = self.bias.repeat_interleave(repeats, dim=0)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Some of the batch alone."""
        super().batch_select_indices(indices)
        self.bias = self.bias[indices]

    def fork(self) -> BriefingLayer:
        """Another layer that goes on from here; tensors are shared and never written."""
        other = BriefingLayer.__new__(BriefingLayer)
        other.__dict__.update(self.__dict__)
        return other


def _tensor(array: Any) -> torch.Tensor:
    return array if isinstance(array, torch.Tensor) else torch.from_dlpack(array)


class LatentBriefingCache(Cache):  # type: ignore[misc]
    """A compacted cache for a model of transformers, whose layers are `BriefingLayer`s.

    The model must run the attention function `latent_briefing` (`model.set_attn_implementation("latent_briefing")`); any other knows
    nothing of biases and would silently answer from another distribution, so `check(model)` says whether it does.
    """

    def __init__(self, layers: Iterable[BriefingLayer]) -> None:
        super().__init__(layers=list(layers))

    @classmethod
    def from_briefing(
        cls,
        briefing: Briefing,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> LatentBriefingCache:
        """The cache of a briefing that a worker of the same weights made. The next token's position is `briefing.seq_len`."""
        rows = ((one["keys"], one["values"], one["bias"]) for one in briefing.layers())
        return cls._of(rows, briefing.seq_len, dtype, device)

    @classmethod
    def from_compacted(
        cls,
        compacted: Compacted,
        *,
        positions: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> LatentBriefingCache:
        """What `compact` made of a cache of `positions` tokens; as many as it had slots, where nothing else is said."""
        rows = ((one.keys, one.values, one.bias) for one in compacted)
        return cls._of(rows, compacted.seq_len if positions is None else positions, dtype, device)

    @classmethod
    def _of(
        cls,
        rows: Iterable[Sequence[Any]],
        positions: int,
        dtype: torch.dtype | None,
        device: torch.device | str | None,
    ) -> LatentBriefingCache:
        def layer(keys: Any, values: Any, bias: Any) -> BriefingLayer:
            one, other = (_tensor(array).to(device, dtype)[None] for array in (keys, values))
            return BriefingLayer(one, other, _tensor(bias).to(device)[None], positions)

        return cls(layer(*row) for row in rows)

    def check(self, model: Any) -> None:
        """Raises unless `model` has as many layers and runs the attention function that reads biases."""
        used = model.config._attn_implementation
        if used != ATTENTION:
            raise ConfigError(
                f"the model's attention is {used}, which reads no biases: model.set_attn_implementation({ATTENTION!r})",
                field="attn_implementation",
            )
        if model.config.num_hidden_layers != len(self.layers):
            raise ConfigError(f"{len(self.layers)} layers for {model.config.num_hidden_layers}", field="layers")

    def fork(self) -> LatentBriefingCache:
        """Another cache that goes on from here, for the next task; nothing is copied."""
        return LatentBriefingCache(layer.fork() for layer in self.layers)
