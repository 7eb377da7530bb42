"""Tiny random checkpoints: a tokenizer, a configuration, and weights far from the usual initialisation."""

import pathlib

import tokenizers
import torch
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE.parent.parent / "tests" / "golden"

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


def make_random(config, seed, head_gain=None, signed_norm=True):
    """A model in which every part matters: sharp attention, biases, uneven norms, a decided router.

    `head_gain` is the range of the query and key norms where there are any; long prompts need it high, or attention is
    the mean of everything and positions hardly matter. Signs in the last norm keep a tied head from repeating the token
    that it was given.
    """
    torch.manual_seed(seed)
    offset = 1.0 if config.model_type.startswith("gemma") else 0.0
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if head_gain and ("q_norm" in key or "k_norm" in key):
                weight.uniform_(*head_gain)
            elif "norm" in key:
                weight.uniform_(0.6, 1.8)
                # Gemma's norms multiply by 1 + weight; those behind blocks keep the stream small.
                weight -= offset
            elif "embed_tokens" in key or "lm_head" in key:
                weight.normal_(0.0, 0.5)
            elif key.endswith(".bias"):
                weight.normal_(0.0, 0.6)
            elif key.endswith("mlp.gate.weight"):
                weight.normal_(0.0, 3.0 / weight.shape[1] ** 0.5)
            else:
                weight.normal_(0.0, 1.2 / weight.shape[-1] ** 0.5)
        if signed_norm:
            gain = model.model.norm.weight + offset
            model.model.norm.weight.copy_(gain * (torch.randint(2, gain.shape) * 2 - 1) - offset)
    return model


def make_checkpoint(spec):
    """Writes `tests/golden/NAME/` with everything but the golden logits."""
    folder = OUT / spec.name
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    make_tokenizer(folder)
    model = make_random(spec.config(), spec.seed, spec.head_gain, spec.logit_rows is not None)
    model.to(spec.dtype).save_pretrained(folder, **({"max_shard_size": spec.shard} if spec.shard else {}))
    return folder
