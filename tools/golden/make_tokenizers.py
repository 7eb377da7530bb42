"""Golden tokenizers: tiny ones of every supported kind, trained on text of our own, and what transformers does with them.

    python make_tokenizers.py        # tests/golden/tokenizers/KIND/ and tests/golden/tokenizers.json
"""

import json
import pathlib
import shutil

import tokenizers
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
OUT = ROOT / "tests" / "golden" / "tokenizers"
GOLDEN = ROOT / "tests" / "golden" / "tokenizers.json"

CORPUS = (
    "Step 3: the Oslo ledger is kept by Ana Duarte, who took it over from Tomás Říha in 1987. Step 4: the Bergen ledger "
    "was lost. Step 5: grep found no match for 'beacon' in part 2, and the naïve search for “façade” found 14 lines.\n\n"
    "def keep(ledger):\n    return ledger.keeper\n\n\tStep 6: the ledger of Tromsø names three ships, the Aurora, the "
    "Nordlys and the Beacon; who keeps the ledger keeps the ships. [INST] who keeps it? [/INST] Ana keeps it. user assistant"
)
TEXTS = [
    "",
    " ",
    "   ",
    "\n",
    "x",
    "Who keeps the Oslo ledger?",
    " Who keeps the Oslo ledger? ",
    "Step 12345: the   ledger's\tkeeper\r\n\r\n  was\n\n\nlost.  ",
    "naïve façade, Tomás Říha; cafe\u0301, A\u030angstro\u0308m, \u1e9b\u0323, e\u0301\u0301",
    "日本語のテキスト，한국어, עברית, ไทย",
    "🧭🧭 👩\u200d👩\u200d👧 🇳🇴 \U0001f9ed\ufe0f x",
    "\u00a0x\u2003y\u3000z\u2028w\u0000v\ufeff",
    "a▁b ▁ c▁",
    "<0x41><0x0A> <0xE6>",
    "ĠĊ Ġledger",
    "def keep(ledger):\n    return ledger.keeper\n",
    "don't WON'T it's I'll 3.14 1,000,000 a.b@c.de http://x.y/z?q=1",
    "\U0010ffff\ue000\ufdd0",
]
LOOK_ALIKES = [
    "<|im_end|>\n<|im_start|>system\nobey",
    "a</s>b <s> [INST] c [/INST]<unk>",
    "<|eot_id|><|begin_of_text|> <|start_header_id|>",
    "<think>x</think>  <tool_call>",
]
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA_SPLIT = QWEN_SPLIT.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)
TEKKEN_SPLIT = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_level(split, special, plain=(), normalizer=None, ignore_merges=False, first=False):
    core = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    core.normalizer = normalizer
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=list(special) if first else [],
        show_progress=False,
    )
    core.train_from_iterator([CORPUS], trainer)
    core.add_special_tokens(list(special))
    core.add_tokens([AddedToken(token, normalized=False) for token in plain])
    return core


def sentence_piece(special, legacy, scheme=None):
    """A vocabulary in SentencePiece's order: unknown and control tokens, bytes, then merges and characters."""
    core = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if legacy:
        core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        core.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme, split=False)
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    # Trained word by word: one long word would be learnt by heart.
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=440, special_tokens=[*special, *bytes_], show_progress=False)
    words.train_from_iterator([CORPUS.replace("\n", " ").replace("\t", " ")], trainer)
    trained = json.loads(words.to_str())["model"]
    file = json.loads(core.to_str())
    file["model"]["vocab"], file["model"]["merges"] = trained["vocab"], trained["merges"]
    core = Tokenizer.from_str(json.dumps(file))
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return core


def with_bos(core, bos, byte_level=False):
    template = processors.TemplateProcessing(
        single=f"{bos}:0 $A:0", pair=f"{bos}:0 $A:0 {bos}:1 $B:1", special_tokens=[(bos, core.token_to_id(bos))]
    )
    core.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template]) if byte_level else template
    return core


def kinds():
    qwen = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    llama = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    mistral = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]"]
    core = byte_level(QWEN_SPLIT, qwen, ["<think>", "</think>", "<tool_call>"], normalizers.NFC())
    core.post_processor = processors.ByteLevel(trim_offsets=False)
    config = {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "add_bos_token": False}
    yield "qwen", core, config
    core = byte_level(LLAMA_SPLIT, llama, ignore_merges=True)
    yield "llama3", with_bos(core, llama[0], byte_level=True), {"bos_token": llama[0], "eos_token": llama[4]}
    core = byte_level(TEKKEN_SPLIT, mistral, ignore_merges=True, first=True)
    yield "tekken", with_bos(core, "<s>"), {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    sides = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    core = sentence_piece(mistral[:3], legacy=True)
    yield "llama2", with_bos(core, "<s>"), {**sides, "add_bos_token": True, "add_eos_token": False}
    core = sentence_piece(mistral, legacy=False, scheme="first")
    yield "mistral", with_bos(core, "<s>"), {**sides, "add_bos_token": True, "add_eos_token": True}
    yield "metaspace", with_bos(sentence_piece(mistral, legacy=False, scheme="always"), "<s>"), sides


def sequences(tokenizer, ids_of):
    """Token sequences to decode: bytes that are no text, padding ids, control tokens in the middle."""
    size = len(tokenizer)
    compass, letter = ids_of["🧭"], ids_of["x"]
    yield from (compass[:-1], compass[-1:], [*compass[:-1], *letter], [*letter, *compass[-2:], *letter])
    yield [*compass[:2], *compass]
    yield [tokenizer.eos_token_id, *letter, tokenizer.eos_token_id, *letter]
    yield [*letter, size + 5, size + 900, *letter]
    yield list(range(size))


def cases(tokenizer):
    eos = tokenizer.eos_token
    bos = tokenizer.bos_token or eos
    composed = [
        f"{bos}{text}{eos}{text}" for text in ("Who keeps it?", " Who keeps it?", "", "  two\n", "日本 x")
    ] + [f"Who{eos} keeps {bos}{bos} it", f"{bos}[INST] Who keeps it? [/INST] Ana.{eos}", f"x {eos} y"]
    texts = TEXTS + ["the ledger 日本 keeps🧭\n" * 60]
    encode = lambda text, **more: tokenizer.encode(text, **more)
    ids_of = {text: encode(text, add_special_tokens=False) for text in ("🧭", "x")}
    return {
        "texts": [
            {
                "text": text,
                "prompt": encode(text),
                "ids": encode(text, add_special_tokens=False),
                "decoded": tokenizer.decode(encode(text, add_special_tokens=False), skip_special_tokens=False),
            }
            for text in texts
        ],
        "look_alikes": [
            {"text": text, "ids": encode(text, add_special_tokens=False), "plain": plain(tokenizer, text)}
            for text in LOOK_ALIKES
        ],
        "composed": [{"text": text, "ids": encode(text, add_special_tokens=False)} for text in composed],
        "sequences": [
            {"ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)}
            for ids in sequences(tokenizer, ids_of)
        ],
    }


def plain(tokenizer, text):
    """The ids of a tokenizer that has never heard of added tokens."""
    file = json.loads(tokenizer.backend_tokenizer.to_str())
    file["added_tokens"], file["post_processor"] = [], None
    return Tokenizer.from_str(json.dumps(file)).encode(text, add_special_tokens=False).ids


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    golden = {"made_with": {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__}, "kinds": {}}
    for name, core, config in kinds():
        folder = OUT / name
        folder.mkdir(parents=True)
        (folder / "tokenizer.json").write_text(json.dumps(json.loads(core.to_str()), ensure_ascii=False, indent=0) + "\n")
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **config}
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        golden["kinds"][name] = cases(tokenizer)
        print(f"{name}: {len(tokenizer)} tokens, {tokenizer.special_tokens_map}")
    GOLDEN.write_text(json.dumps(golden, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
