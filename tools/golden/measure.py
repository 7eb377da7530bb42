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


def rope_parameters(config):
    """Those of the layers that attend to everything."""
    return config.rope_parameters.get("full_attention", config.rope_parameters)


def changed(model, tokens, logits, positions, change):
    """How far the logits are from those of the same weights under a changed configuration."""
    config = copy.deepcopy(model.config)
    change(config)
    other = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    other.load_state_dict(model.state_dict())
    return relative(logits_of(other, tokens), logits, positions)


def rope_effect(model, tokens, logits, positions):
    """How far the logits are from those with unscaled rotary embeddings."""

    def unscale(config):
        plain = {"rope_type": "default", "rope_theta": rope_parameters(config)["rope_theta"]}
        if "full_attention" in config.rope_parameters:
            config.rope_parameters["full_attention"] = plain
        else:
            config.rope_parameters = plain

    return changed(model, tokens, logits, positions, unscale)


def window_effects(model, tokens, logits, positions):
    """How far the logits are from those with one position more in each window, and with one rotary base in all layers."""

    def widen(config):
        config.sliding_window += 1

    def one_base(config):
        config.rope_parameters["sliding_attention"] = dict(config.rope_parameters["full_attention"])

    return [changed(model, tokens, logits, positions, change) for change in (widen, one_base)]


def rope_noise(model, tokens, logits, positions):
    """What the last bit of every rotary frequency is worth in the logits."""
    rotary = model.model.rotary_emb
    kept = {name: buffer.clone() for name, buffer in rotary.named_buffers() if "original" not in name}
    for name, frequencies in kept.items():
        signs = torch.tensor([1.0, -1.0]).repeat(frequencies.numel())[:frequencies.numel()]
        getattr(rotary, name).copy_(frequencies * (1 + signs * 2.0**-23))
    noise = relative(logits_of(model, tokens), logits, positions)
    for name, frequencies in kept.items():
        getattr(rotary, name).copy_(frequencies)
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
