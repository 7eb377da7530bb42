"""Golden files for the decoder: tiny random Qwen3 checkpoints, and what transformers computes with them.

    python make_golden.py                          # tests/golden/tiny_tied and tiny_grouped, remade from their seeds
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
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
OUT = ROOT / "tests" / "golden"
GREEDY_TOKENS = 64
MIN_MARGIN = 1e-2
PROMPT_TOKENS = 90
MAX_LOGITS = 40_000

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PLAIN_ADDED = ["<tool_call>", "</tool_call>", "<think>", "</think>"]
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEXT = (
    "Step 3: the Oslo ledger is kept by Ana Duarte, who took it over from Tomás Říha in 1987. Step 4: the Bergen ledger "
    "was lost. Step 5: grep found no match for 'beacon' in part 2, and the naïve search for “façade” found 14 lines. "
    "Step 6: the ledger of Tromsø names three ships, the Aurora, the Nordlys and the Beacon. 日本語 and emoji 🧭 too."
)
QUESTION = "Who keeps the Oslo ledger, and which ledger was lost?"


def make_tokenizer(folder):
    core = tokenizers.Tokenizer(models.BPE())
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator([TEXT, QUESTION], trainer)
    core.add_special_tokens(SPECIAL)
    core.add_tokens(PLAIN_ADDED)
    fast = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = (HERE / "chat_template.jinja").read_text()
    fast.save_pretrained(folder)
    return fast


def make_checkpoint(name, seed, dtype, shard, **sizes):
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(folder)
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=320,
        max_position_embeddings=1024,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        **sizes,
    )
    model = Qwen3ForCausalLM(config)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            # Far from the usual initialisation: attention that is sharp, norms that matter, logits that differ.
            if "norm" in key:
                weight.uniform_(0.6, 1.8)
            elif "embed_tokens" in key or "lm_head" in key:
                weight.normal_(0.0, 0.5)
            else:
                weight.normal_(0.0, 1.2 / weight.shape[1] ** 0.5)
    model.to(dtype).save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    return folder


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


@torch.no_grad()
def run(model, tokens):
    """Logits at every position, greedy tokens, and the smallest distance between the two best logits on the way."""
    logits = model(torch.tensor([tokens])).logits[0].float()
    sequence, greedy, margin = list(tokens), [], float("inf")
    for _ in range(GREEDY_TOKENS):
        best = model(torch.tensor([sequence])).logits[0, -1].float().topk(2)
        margin = min(margin, (best.values[0] - best.values[1]).item())
        greedy.append(best.indices[0].item())
        sequence.append(greedy[-1])
        if margin < MIN_MARGIN:
            break
    return logits, greedy, margin


def make_golden(folder, name):
    torch.set_num_threads(1)
    model = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.config._attn_implementation = "eager"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.encode(TEXT + " " + QUESTION, add_special_tokens=False)
    text = text * (PROMPT_TOKENS // len(text) + 2)
    for shift in range(len(text) - PROMPT_TOKENS):
        tokens = text[shift:shift + PROMPT_TOKENS]
        logits, greedy, margin = run(model, tokens)
        if margin >= MIN_MARGIN:
            break
        print(f"{name}: prompt from token {shift} has a greedy margin of {margin:.4f}, trying the next")
    else:
        raise SystemExit(f"{name}: no prompt has a greedy margin of {MIN_MARGIN}; take another seed")
    step = max(1, round(logits.numel() / MAX_LOGITS))
    positions = list(range(PROMPT_TOKENS - 1, -1, -step))[::-1]
    save_file({"logits": logits[positions].contiguous()}, OUT / f"{name}.safetensors")
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
    (OUT / f"{name}.json").write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")
    print(f"{name}: {len(tokens)} tokens, logits {list(logits[positions].shape)}, smallest greedy margin {margin:.4f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=pathlib.Path, help="a checkpoint folder instead of the tiny random ones")
    parser.add_argument("--name", default="default_worker", help="name of the golden made for --model")
    arguments = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    if arguments.model:
        make_golden(arguments.model, arguments.name)
        return
    tied = dict(num_hidden_layers=3, hidden_size=48, intermediate_size=96, head_dim=16, tie_word_embeddings=True)
    heads = dict(num_attention_heads=4, num_key_value_heads=2)
    make_golden(make_checkpoint("tiny_tied", 7, torch.float32, None, **tied, **heads), "tiny_tied")
    untied = dict(num_hidden_layers=2, hidden_size=40, intermediate_size=64, head_dim=8, tie_word_embeddings=False)
    heads = dict(num_attention_heads=6, num_key_value_heads=2)
    make_golden(make_checkpoint("tiny_grouped", 11, torch.bfloat16, "40KB", **untied, **heads), "tiny_grouped")


if __name__ == "__main__":
    main()
