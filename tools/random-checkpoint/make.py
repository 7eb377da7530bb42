"""A random checkpoint with the sizes of a real one, for measuring load time, memory and speed.

    python make.py runs/qwen3-0.6b-random                               # Qwen3-0.6B: 28 layers, bf16, three shards, 1.2 GB
    python make.py runs/llama-8b --shape qwen3-8b --family llama --layers 4

Every tensor comes from its own generator, seeded with the seed and its name, a few million values at a time: the same
seed gives the same bytes whatever the shard size, and memory does not grow with the model.
"""

import argparse
import hashlib
import json
import pathlib
import struct
import sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "golden"))
from tiny import make_tokenizer  # noqa: E402

CHUNK = 1 << 22
STD = 0.02
DTYPES = {"bf16": (torch.bfloat16, "BF16"), "f16": (torch.float16, "F16"), "f32": (torch.float32, "F32")}
FIELDS = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
# The fields above, then whether the head is the embedding.
SHAPES = {
    "qwen3-0.6b": (28, 1024, 3072, 16, 8, True),
    "qwen3-1.7b": (28, 2048, 6144, 16, 8, True),
    "qwen3-4b": (36, 2560, 9728, 32, 8, True),
    "qwen3-8b": (36, 4096, 12288, 32, 8, False),
    "qwen3-14b": (40, 5120, 17408, 40, 8, False),
    "qwen3-30b-a3b": (48, 2048, 6144, 32, 4, False),
}
MOE = {
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 768,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "output_router_logits": False,
    "router_aux_loss_coef": 0.001,
}
FAMILIES = {
    "qwen3": ("Qwen3ForCausalLM", {"attention_bias": False, "use_sliding_window": False, "max_window_layers": 28}),
    "qwen3_moe": ("Qwen3MoeForCausalLM", {"attention_bias": False, "use_sliding_window": False} | MOE),
    "qwen2": ("Qwen2ForCausalLM", {"use_sliding_window": False, "max_window_layers": 28}),
    "llama": ("LlamaForCausalLM", {"attention_bias": False, "mlp_bias": False}),
    "mistral": ("MistralForCausalLM", {"sliding_window": None}),
}


def make_config(arguments, eos):
    *sizes, tied = SHAPES[arguments.shape]
    family = arguments.family or ("qwen3_moe" if arguments.shape.endswith("a3b") else "qwen3")
    architecture, extra = FAMILIES[family]
    config = dict(zip(FIELDS, sizes)) | {
        "architectures": [architecture],
        "model_type": family,
        "vocab_size": 151936,
        "head_dim": 128,
        "hidden_act": "silu",
        "max_position_embeddings": 40960,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "rope_scaling": None,
        "tie_word_embeddings": tied,
        "attention_dropout": 0.0,
        "initializer_range": STD,
        "bos_token_id": None,
        "eos_token_id": eos,
        "use_cache": True,
        "torch_dtype": str(DTYPES[arguments.dtype][0]).removeprefix("torch."),
    }
    if arguments.layers is not None:
        config["num_hidden_layers"] = arguments.layers
    if family == "qwen2":
        # This family has no field for it.
        config["head_dim"] = None
    return {key: value for key, value in (config | extra).items() if key != "head_dim" or value}


def mlp_tensors(prefix, width, hidden):
    yield f"{prefix}.gate_proj.weight", (width, hidden)
    yield f"{prefix}.up_proj.weight", (width, hidden)
    yield f"{prefix}.down_proj.weight", (hidden, width)


def layer_tensors(config, layer):
    family, hidden = config["model_type"], config["hidden_size"]
    head_dim = config.get("head_dim") or hidden // config["num_attention_heads"]
    rows = {"q": config["num_attention_heads"], "k": config["num_key_value_heads"], "v": config["num_key_value_heads"]}
    prefix = f"model.layers.{layer}"
    yield f"{prefix}.input_layernorm.weight", (hidden,)
    for kind, heads in rows.items():
        yield f"{prefix}.self_attn.{kind}_proj.weight", (heads * head_dim, hidden)
        if family == "qwen2":
            yield f"{prefix}.self_attn.{kind}_proj.bias", (heads * head_dim,)
    yield f"{prefix}.self_attn.o_proj.weight", (hidden, rows["q"] * head_dim)
    if family.startswith("qwen3"):
        yield f"{prefix}.self_attn.q_norm.weight", (head_dim,)
        yield f"{prefix}.self_attn.k_norm.weight", (head_dim,)
    yield f"{prefix}.post_attention_layernorm.weight", (hidden,)
    if family != "qwen3_moe":
        yield from mlp_tensors(f"{prefix}.mlp", config["intermediate_size"], hidden)
        return
    yield f"{prefix}.mlp.gate.weight", (config["num_experts"], hidden)
    for expert in range(config["num_experts"]):
        yield from mlp_tensors(f"{prefix}.mlp.experts.{expert}", config["moe_intermediate_size"], hidden)


def all_tensors(config):
    yield "model.embed_tokens.weight", (config["vocab_size"], config["hidden_size"])
    for layer in range(config["num_hidden_layers"]):
        yield from layer_tensors(config, layer)
    yield "model.norm.weight", (config["hidden_size"],)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (config["vocab_size"], config["hidden_size"])


def count(shape):
    return int(torch.Size(shape).numel())


def shards(tensors, item_size, limit):
    """Groups of tensors of at most `limit` bytes; a tensor that is larger has a group to itself."""
    group, size = [], 0
    for name, shape in tensors:
        bytes_ = count(shape) * item_size
        if group and size + bytes_ > limit:
            yield group
            group, size = [], 0
        group.append((name, shape))
        size += bytes_
    yield group


def write_values(out, seed, name, shape, dtype):
    generator = torch.Generator().manual_seed(
        int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:7], "little")
    )
    left = count(shape)
    while left:
        part = torch.empty(min(left, CHUNK))
        if name.endswith("norm.weight"):
            part.uniform_(0.8, 1.2, generator=generator)
        else:
            part.normal_(0.0, STD, generator=generator)
        out.write(part.to(dtype).view(torch.uint8).numpy().data)
        left -= part.numel()


def write_shard(path, group, seed, dtype, tag):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in group:
        end = offset + count(shape) * dtype.itemsize
        header[name] = {"dtype": tag, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name, shape in group:
            write_values(out, seed, name, shape, dtype)
    partial.rename(path)
    return offset


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path, help="new or empty folder for the checkpoint")
    parser.add_argument("--shape", choices=SHAPES, default="qwen3-0.6b")
    parser.add_argument("--family", choices=FAMILIES, help="another family with the same sizes")
    parser.add_argument("--layers", type=int, help="decoder layers instead of the shape's")
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--shard-mb", type=int, default=500, help="largest shard in MB")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.layers is not None and arguments.layers < 1:
        parser.error("--layers is at least 1")
    if arguments.shard_mb < 1:
        parser.error("--shard-mb is at least 1")
    folder = arguments.folder
    if folder.exists() and any(folder.iterdir()):
        parser.error(f"{folder} is not empty")
    folder.mkdir(parents=True, exist_ok=True)
    config = make_config(arguments, make_tokenizer(folder).eos_token_id)
    dtype, tag = DTYPES[arguments.dtype]
    groups = list(shards(all_tensors(config), dtype.itemsize, arguments.shard_mb * 10**6))
    places, total = {}, 0
    for number, group in enumerate(groups, 1):
        file = "model.safetensors" if len(groups) == 1 else f"model-{number:05}-of-{len(groups):05}.safetensors"
        total += write_shard(folder / file, group, arguments.seed, dtype, tag)
        places |= {name: file for name, _ in group}
        print(f"{file}: {len(group)} tensors", flush=True)
    if len(groups) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": config["eos_token_id"]}) + "\n")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    print(f"{folder}: {len(places)} tensors, {total / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
