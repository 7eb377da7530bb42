"""What transformers computes with a checkpoint, and how sure one may be of it."""

import copy
import json
import pathlib
import shutil
import tempfile

import torch
from transformers import AutoModelForCausalLM

GREEDY_TOKENS = 64
MIN_MARGIN = 1e-2
# A second-best expert this close could be taken instead after rounding.
MIN_ROUTER_MARGIN = 2e-3
# Without the key/value cache below this, so that nothing but one forward pass is trusted.
UNCACHED_TOKENS = 1000


def load(folder, dtype=torch.float32):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()
    model.set_experts_implementation("eager")
    return model


@torch.no_grad()
def logits_of(model, tokens):
    return model(torch.tensor([tokens])).logits[0].float()


@torch.no_grad()
def run(model, tokens):
    """Logits at every position, greedy tokens, and the smallest distance between the two best logits on the way."""
    prefill = model(torch.tensor([tokens]), use_cache=len(tokens) >= UNCACHED_TOKENS)
    logits, cache = prefill.logits[0].float(), prefill.past_key_values
    sequence, greedy, margin, last = list(tokens), [], float("inf"), logits[-1]
    for _ in range(GREEDY_TOKENS):
        best = last.topk(2)
        margin = min(margin, (best.values[0] - best.values[1]).item())
        greedy.append(best.indices[0].item())
        sequence.append(greedy[-1])
        if margin < MIN_MARGIN:
            break
        if cache is None:
            last = model(torch.tensor([sequence]), use_cache=False).logits[0, -1].float()
        else:
            last = model(torch.tensor([sequence[-1:]]), past_key_values=cache).logits[0, -1].float()
    return logits, greedy, margin


@torch.no_grad()
def router_margin(model, tokens):
    """Smallest distance between the last expert taken and the first not taken, in router logits; None without experts."""
    gaps, hooks = [], []

    def note(module, _inputs, output):
        best = output[0].topk(module.top_k + 1).values
        gaps.append((best[:, -2] - best[:, -1]).min().item())

    for name, module in model.named_modules():
        if name.endswith("mlp.gate"):
            hooks.append(module.register_forward_hook(note))
    model(torch.tensor([tokens]))
    for hook in hooks:
        hook.remove()
    return min(gaps, default=None)


def relative(a, b, positions):
    """Largest difference at `positions`, as a part of the range of the logits there."""
    a, b = a[positions], b[positions]
    return ((a - b).abs().max() / (b.max() - b.min())).item()


def rope_effect(model, tokens, logits, positions):
    """How far the logits are from those with unscaled rotary embeddings."""
    config = copy.deepcopy(model.config)
    config.rope_parameters = {"rope_type": "default", "rope_theta": config.rope_parameters["rope_theta"]}
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    plain.load_state_dict(model.state_dict())
    return relative(logits_of(plain, tokens), logits, positions)


def rope_noise(model, tokens, logits, positions):
    """What the last bit of every rotary frequency is worth in the logits."""
    rotary = model.model.rotary_emb
    kept = rotary.inv_freq.clone()
    signs = torch.tensor([1.0, -1.0]).repeat(kept.numel())[:kept.numel()]
    rotary.inv_freq.copy_(kept * (1 + signs * 2.0**-23))
    noise = relative(logits_of(model, tokens), logits, positions)
    rotary.inv_freq.copy_(kept)
    return noise


def f32_noise(folder, tokens, logits, positions):
    """How far f32 is from f64 (rotary angles stay f32 in both)."""
    return relative(logits_of(load(folder, torch.float64), tokens), logits, positions)


def same_logits(folder, layout, tokens, logits):
    """The checkpoint under another of its configurations must compute the same, to the last bit."""
    with tempfile.TemporaryDirectory() as copied:
        copied = pathlib.Path(copied) / "checkpoint"
        shutil.copytree(folder, copied)
        shutil.copy(folder / layout, copied / "config.json")
        other = load(copied)
        rope = other.config.rope_parameters
        if not torch.equal(logits_of(other, tokens), logits):
            raise SystemExit(f"{folder.name}: {layout} gives other logits; RoPE there is {json.dumps(rope)}")
