"""Attention for [log | question 1 | question 2 | ...] rows: the log is causal; a question sees the log and itself.

Registered with transformers, so that the model stays the stock Qwen3ForCausalLM; half to a third of the work of a
dense mask over the whole row. `check.py` compares it with plain one-question-at-a-time forward passes.
"""

import torch
import torch.nn.functional as F
from transformers import AttentionInterface

LAYOUT = {}  # set before each forward


def briefing(module, query, key, value, attention_mask, scaling=None, **_):
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    log = LAYOUT["log"]
    out = F.scaled_dot_product_attention(
        query[:, :, :log], key[:, :, :log], value[:, :, :log], is_causal=True, scale=scaling
    )
    if query.shape[2] > log:
        scores = (query[:, :, log:] * scaling) @ key.transpose(2, 3) + LAYOUT["bias"].to(query.dtype)
        out = torch.cat([out, scores.softmax(-1).to(value.dtype) @ value], 2)
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register("briefing", briefing)


def layout(batch, device):
    """The additive mask of the right part's rows over the whole row, [rows, 1, right, log + right]."""
    right = batch.owner.shape[1]
    to_log = torch.arange(batch.log)[None, None] < batch.log_lengths[:, None, None]
    own = (batch.owner[:, :, None] == batch.owner[:, None, :]) & torch.ones(right, right, dtype=torch.bool).tril()
    visible = torch.cat([to_log.expand(-1, right, -1), own], -1)[:, None]
    bias = torch.zeros(visible.shape, dtype=torch.float32).masked_fill_(~visible, float("-inf"))
    LAYOUT.update(log=batch.log, bias=bias.to(device))
