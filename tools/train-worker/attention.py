"""Attention for [log | question 1 | question 2 | ...] rows: the log is causal; a question sees the log and itself.

Registered with transformers, so that the model stays the stock Qwen3ForCausalLM; half to a third of the work of a
dense mask over the whole row. `check.py` compares it with plain one-question-at-a-time forward passes.
"""

import torch
import torch.nn.functional as F
from transformers import AttentionInterface

LAYOUT = {}  # set before each forward
# Longer logs go through the fused kernel; below, plain products are up to four times as fast on a CPU.
FUSED_FROM = 2000


def attend(query, key, value, bias):
    """[rows, heads, n, head_dim] over [rows, kv_heads, m, head_dim]; the queries of a group stand below each other."""
    rows, heads, n, width = query.shape
    groups = heads // key.shape[1]
    stacked = query.reshape(rows, key.shape[1], groups * n, width)
    scores = (stacked @ key.transpose(2, 3)).view(rows, key.shape[1], groups, n, -1) + bias
    out = scores.softmax(-1).view(rows, key.shape[1], groups * n, -1) @ value
    return out.view(rows, heads, n, width)


def briefing(module, query, key, value, attention_mask, scaling=None, **_):
    dtype = torch.get_autocast_dtype(query.device.type) if torch.is_autocast_enabled(query.device.type) else query.dtype
    query, key, value = (query * scaling).to(dtype), key.to(dtype), value.to(dtype)
    log, bias = LAYOUT["log"], LAYOUT["bias"].to(dtype)
    # Autocast would run the softmax in f32, a copy each way; the scores are of `dtype` anyway.
    with torch.autocast(query.device.type, enabled=False):
        asked, known, values = query[:, :, :log], key[:, :, :log], value[:, :, :log]
        if log < FUSED_FROM:
            future = torch.full((log, log), float("-inf"), dtype=dtype, device=query.device).triu(1)
            out = attend(asked, known, values, future)
        else:
            groups = query.shape[1] // key.shape[1]
            known, values = known.repeat_interleave(groups, 1), values.repeat_interleave(groups, 1)
            out = F.scaled_dot_product_attention(asked, known, values, is_causal=True, scale=1.0)
        if query.shape[2] > log:
            out = torch.cat([out, attend(query[:, :, log:], key, value, bias)], 2)
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register("briefing", briefing)


def layout(batch, device):
    """The additive mask of the right part's rows over the whole row, [rows, 1, 1, right, log + right]."""
    right = batch.owner.shape[1]
    to_log = torch.arange(batch.log)[None, None] < batch.log_lengths[:, None, None]
    own = (batch.owner[:, :, None] == batch.owner[:, None, :]) & torch.ones(right, right, dtype=torch.bool).tril()
    visible = torch.cat([to_log.expand(-1, right, -1), own], -1)[:, None, None]
    bias = torch.zeros(visible.shape, dtype=torch.float32).masked_fill_(~visible, float("-inf"))
    LAYOUT.update(log=batch.log, bias=bias.to(device))
