"""Golden files for the decoder: tiny random checkpoints of every family, and what transformers computes with them.

    python make_golden.py                          # tests/golden/*, remade from the seeds in families.py
    python make_golden.py NAME...                  # only these
    python make_golden.py --model DIR --name NAME  # tests/golden/NAME.json and NAME.safetensors for a real checkpoint

Every golden is two files: JSON (versions, prompt, tokens, 64 greedy tokens, rendered templates) and safetensors (logits
in f32). Greedy steps whose two best logits are closer than MIN_MARGIN are refused, since rounding could swap them.
"""

import argparse
import json
import pathlib
import platform

import tokenizers
import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoTokenizer

import measure
from families import SPECS, Spec
from layouts import write_layouts
from tiny import OUT, QUESTION, TEXT, make_checkpoint

PROMPT_TOKENS = 90
MAX_LOGITS = 40_000
MIN_ROPE_EFFECT = 0.05
# Continuations that only repeat themselves would show little.
MIN_DIFFERENT = 8
LONG = 4096


def rendered(tokenizer):
    cases = []
    for system in (None, "Answer in one short sentence."):
        for thinking in (True, False):
            messages = ([{"role": "system", "content": system}] if system else []) + [
                {"role": "user", "content": QUESTION}
            ]
            text = tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
            )
            cases.append({"system": system, "enable_thinking": thinking, "text": text})
    return cases


def find_prompt(model, tokenizer, spec):
    """The first window of the text with no close call among greedy tokens or experts, and a continuation that varies."""
    length, different = spec.prompt_tokens, 0 if spec.logit_rows is None else MIN_DIFFERENT
    text = tokenizer.encode(TEXT + " " + QUESTION, add_special_tokens=False)
    period = len(text)
    text = text * (length // period + 2)
    for shift in range(period):
        tokens = text[shift:shift + length]
        logits, greedy, margin = measure.run(model, tokens)
        experts = measure.router_margin(model, tokens + greedy) if margin >= measure.MIN_MARGIN else None
        sure = margin >= measure.MIN_MARGIN and (experts is None or experts >= measure.MIN_ROUTER_MARGIN)
        if sure and len(set(greedy)) >= different:
            return tokens, logits, greedy, margin, experts
        print(f"{spec.name}: prompt from token {shift} has margins of {margin:.4f} and {experts}, trying the next")
    raise SystemExit(f"{spec.name}: every prompt has a close call or repeats itself; take another seed")


def choose_positions(logits, rows):
    count, vocab = logits.shape
    if rows is None:
        step = max(1, round(count * vocab / MAX_LOGITS))
        return list(range(count - 1, -1, -step))[::-1]
    if count > LONG:
        # Half of them where only a scaled RoPE has been.
        early = torch.linspace(0, LONG - 1, rows // 2).long().tolist()
        return early + torch.linspace(LONG, count - 1, rows - rows // 2).long().tolist()
    return torch.linspace(0, count - 1, rows).long().tolist()


def notes(folder, spec, model, tokens, logits, positions):
    """What the comparison may expect: the range of the logits, the noise of f32, that a scaled RoPE matters."""
    picked = logits[positions]
    found = {
        "family": spec.family,
        "rope_type": measure.rope_parameters(model.config)["rope_type"],
        "logit_range": (picked.max() - picked.min()).item(),
        "f32_noise": measure.f32_noise(folder, tokens, logits, positions),
        "rope_bit_noise": measure.rope_noise(model, tokens, logits, positions),
    }
    if found["rope_type"] != "default":
        found["rope_effect"] = measure.rope_effect(model, tokens, logits, positions)
        if found["rope_effect"] < MIN_ROPE_EFFECT:
            raise SystemExit(f"{spec.name}: the scaled RoPE changes nothing ({found['rope_effect']:.4f})")
    if "sliding_attention" in (getattr(model.config, "layer_types", None) or []):
        effects = measure.window_effects(model, tokens, logits, positions)
        found["window_effect"], found["local_rope_effect"] = effects
        if min(effects) < MIN_ROPE_EFFECT:
            raise SystemExit(f"{spec.name}: windows or their rotary base change nothing ({effects})")
    found = {key: float(f"{value:.3g}") if isinstance(value, float) else value for key, value in found.items()}
    found["same_logits_with"] = write_layouts(folder, spec)
    for layout in found["same_logits_with"]:
        measure.same_logits(folder, layout, tokens, logits)
    return found


def make_golden(folder, spec):
    torch.set_num_threads(1)
    name, model = spec.name, measure.load(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens, logits, greedy, margin, experts = find_prompt(model, tokenizer, spec)
    positions = choose_positions(logits, spec.logit_rows)
    tensors = {"logits": logits[positions].contiguous()}
    golden = {
        "made_with": {
            "python": platform.python_version(),
            "torch": torch.__version__.split("+")[0],
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        "text": TEXT,
        "text_tokens": tokenizer.encode(TEXT, add_special_tokens=False),
        "question": QUESTION,
        "tokens": tokens,
        "logit_positions": positions,
        "greedy": greedy,
        "greedy_margin": round(margin, 4),
        "templates": rendered(tokenizer),
    }
    if spec.logit_rows is not None:
        golden |= notes(folder, spec, model, tokens, logits, positions)
    if experts is not None:
        golden["router_margin"] = round(experts, 4)
    if spec.bf16:
        bf16 = measure.logits_of(measure.load(folder, torch.bfloat16), tokens)
        tensors["logits_bf16"] = bf16[positions].to(torch.bfloat16).contiguous()
        golden["bf16_difference"] = float(f"{measure.relative(bf16, logits, positions):.3g}")
    save_file(tensors, OUT / f"{name}.safetensors")
    (OUT / f"{name}.json").write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")
    extra = {key: golden[key] for key in golden if key in ("router_margin", "bf16_difference", "same_logits_with")}
    extra |= {key: value for key, value in golden.items() if "noise" in key or key.endswith("_effect") or key == "logit_range"}
    print(f"{name}: {len(tokens)} tokens, logits {list(logits[positions].shape)}, {len(set(greedy))} different greedy tokens,"
          f" smallest margin {margin:.4f}, {extra}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("only", nargs="*", metavar="NAME", help="tiny checkpoints to make; all where none is named")
    parser.add_argument("--model", type=pathlib.Path, help="a checkpoint folder instead of the tiny random ones")
    parser.add_argument("--name", default="default_worker", help="name of the golden made for --model")
    arguments = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    if arguments.model:
        make_golden(arguments.model, Spec(arguments.name, "qwen3", 0, {}, logit_rows=None))
        return
    for name in arguments.only or SPECS:
        if name not in SPECS:
            parser.error(f"no checkpoint is called {name}; there are {', '.join(SPECS)}")
        make_golden(make_checkpoint(SPECS[name]), SPECS[name])


if __name__ == "__main__":
    main()
