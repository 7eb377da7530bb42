"""What the tiny checkpoints are: every family, every kind of RoPE, group sizes 1, 2, 3, 4 and 8."""

import dataclasses

import torch
from transformers import Gemma3TextConfig, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config, Qwen3MoeConfig

EOS = 302
BOS = 300
LONG_PROMPT = 4300
# Large enough that a decoder with another epsilon is caught.
EPSILON = {"rms_norm_eps": 1e-2}


@dataclasses.dataclass
class Spec:
    name: str
    family: str
    seed: int
    sizes: dict
    dtype: torch.dtype = torch.float32
    shard: str | None = None
    head_gain: tuple | None = None
    # How transformers 4 wrote this configuration: extra fields of the hub's files, None to leave a field out.
    hub_fields: dict = dataclasses.field(default_factory=dict)
    # More configurations of the same model, file name to fields that replace those of the transformers 4 layout.
    more_layouts: dict = dataclasses.field(default_factory=dict)
    prompt_tokens: int = 90
    # None: as many positions as the size limit of the oldest goldens allows, and none of the newer notes.
    logit_rows: int | None = 12
    bf16: bool = False

    def config(self):
        common = dict(vocab_size=320, max_position_embeddings=1024, rms_norm_eps=1e-6, eos_token_id=EOS)
        return CONFIGS[self.family](**(common | self.sizes))


CONFIGS = {
    "qwen3": Qwen3Config,
    "qwen3_moe": Qwen3MoeConfig,
    "qwen2": Qwen2Config,
    "llama": LlamaConfig,
    "mistral": MistralConfig,
    "gemma3_text": Gemma3TextConfig,
}


def shape(layers, hidden, mlp, heads, kv_heads, head_dim=None, tied=False, **more):
    sizes = dict(
        num_hidden_layers=layers,
        hidden_size=hidden,
        intermediate_size=mlp,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        tie_word_embeddings=tied,
    )
    return sizes | ({"head_dim": head_dim} if head_dim else {}) | more


def rope(kind="default", theta=10000.0, **more):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": theta, **more}}


def yarn(**more):
    return rope("yarn", factor=4.0, original_max_position_embeddings=2048, **more)


QWEN3 = [
    Spec("tiny_tied", "qwen3", 7, shape(3, 48, 96, 4, 2, 16, True, bos_token_id=None) | rope(), logit_rows=None),
    Spec(
        "tiny_grouped",
        "qwen3",
        11,
        shape(2, 40, 64, 6, 2, 8, bos_token_id=None) | rope(),
        dtype=torch.bfloat16,
        shard="40KB",
        logit_rows=None,
    ),
    Spec(
        "qwen3_yarn",
        "qwen3",
        21,
        shape(2, 16, 32, 4, 2, 32, True, max_position_embeddings=8192) | yarn(),
        head_gain=(1.0, 2.6),
        more_layouts={
            # The model card's advice: the field is added, max_position_embeddings stays what it was.
            "config.model_card.json": {"max_position_embeddings": 2560},
            # Qwen2.5's model cards name the kind `type`.
            "config.type_key.json": {
                "rope_scaling": {"type": "yarn", "factor": 4, "original_max_position_embeddings": 2048}
            },
        },
        prompt_tokens=LONG_PROMPT,
    ),
    Spec(
        "qwen3_yarn_explicit",
        "qwen3",
        22,
        shape(2, 16, 32, 4, 4, 32, True, max_position_embeddings=8192)
        | yarn(attention_factor=1.25, beta_fast=16.0, beta_slow=2.0, truncate=False),
        dtype=torch.bfloat16,
        head_gain=(1.0, 2.0),
        prompt_tokens=LONG_PROMPT,
        bf16=True,
    ),
    Spec(
        "qwen3_yarn_mscale",
        "qwen3",
        23,
        shape(2, 16, 32, 3, 1, 32, True, max_position_embeddings=8192) | yarn(mscale=1.5, mscale_all_dim=0.5),
        dtype=torch.float16,
        head_gain=(1.0, 2.6),
        prompt_tokens=LONG_PROMPT,
    ),
    Spec("qwen3_bias", "qwen3", 25, shape(2, 24, 48, 3, 3, 12, True, attention_bias=True, **EPSILON) | rope(theta=1e6)),
]

MOE = dict(moe_intermediate_size=16, num_experts=8, num_experts_per_tok=2)
QWEN3_MOE = [
    Spec(
        "qwen3_moe",
        "qwen3_moe",
        31,
        shape(2, 24, 40, 8, 1, 8, norm_topk_prob=True, **MOE, **EPSILON) | rope(theta=1e6),
        dtype=torch.bfloat16,
        shard="60KB",
        hub_fields={"max_window_layers": 2, "bos_token_id": BOS},
    ),
    Spec(
        "qwen3_moe_sparse",
        "qwen3_moe",
        32,
        shape(6, 16, 40, 4, 2, 8, True, norm_topk_prob=False, decoder_sparse_step=2, mlp_only_layers=[3], **MOE) | rope(),
        hub_fields={"max_window_layers": 6},
    ),
]

QWEN2 = [
    Spec(
        "qwen2_tied",
        "qwen2",
        41,
        shape(2, 36, 48, 6, 2, tied=True, **EPSILON) | rope(theta=1e6),
        hub_fields={"sliding_window": 512, "max_window_layers": 1, "bos_token_id": BOS},
    ),
    Spec(
        "qwen2_untied",
        "qwen2",
        42,
        shape(3, 32, 48, 4, 4, max_window_layers=3) | rope(theta=1e6),
        dtype=torch.bfloat16,
        shard="40KB",
        hub_fields={"sliding_window": 512, "bos_token_id": BOS},
        bf16=True,
    ),
]

LLAMA3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=128)
LLAMA = [
    Spec(
        "llama3",
        "llama",
        51,
        shape(2, 32, 48, 8, 2, 12, True, bos_token_id=BOS, rms_norm_eps=1e-5, eos_token_id=[EOS, BOS])
        | rope("llama3", 500000.0, **LLAMA3),
        dtype=torch.bfloat16,
        hub_fields={"pretraining_tp": 1},
        prompt_tokens=160,
        bf16=True,
    ),
    Spec(
        "llama_linear",
        "llama",
        52,
        shape(2, 32, 48, 4, 4, bos_token_id=BOS) | rope("linear", factor=2.0),
        dtype=torch.float16,
        shard="40KB",
        hub_fields={"head_dim": None, "mlp_bias": None},
        more_layouts={"config.type_key.json": {"rope_scaling": {"type": "linear", "factor": 2.0}}},
    ),
    Spec(
        "llama_bias",
        "llama",
        53,
        shape(2, 30, 44, 5, 1, 8, True, bos_token_id=BOS, attention_bias=True, mlp_bias=True, **EPSILON) | rope(),
    ),
]

MISTRAL = [
    Spec(
        "mistral",
        "mistral",
        61,
        shape(2, 32, 48, 8, 2, 10, True, bos_token_id=BOS, sliding_window=None, **EPSILON) | rope(theta=1e6),
        dtype=torch.bfloat16,
    ),
]



def kinds(layers, every):
    """All layers but each `every`th have a window of 8."""
    return {
        "sliding_window": 8,
        "layer_types": ["full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(layers)],
    }


def rope_by_kind(theta, local, **scaling):
    full = {"rope_type": "default", "rope_theta": theta, **scaling}
    return {"rope_parameters": {"full_attention": full, "sliding_attention": {"rope_type": "default", "rope_theta": local}}}


GEMMA3 = [
    Spec(
        "gemma3",
        "gemma3_text",
        71,
        shape(7, 32, 48, 4, 2, 12, True, query_pre_attn_scalar=12, bos_token_id=BOS, **EPSILON)
        | kinds(7, 6)
        | rope_by_kind(1e6, 1e4),
        hub_fields={"sliding_window_pattern": 6, "cache_implementation": "hybrid"},
    ),
    Spec(
        "gemma3_scaled",
        "gemma3_text",
        72,
        shape(8, 24, 40, 4, 1, 16, True, query_pre_attn_scalar=7, bos_token_id=BOS, eos_token_id=[EOS, BOS])
        | kinds(8, 3)
        | rope_by_kind(1e5, 5e3, rope_type="linear", factor=8.0),
        dtype=torch.bfloat16,
        hub_fields={"sliding_window_pattern": 3},
        more_layouts={
            # transformers 4.55 and later list the kinds.
            "config.layer_types.json": {"sliding_window_pattern": 6} | kinds(8, 3),
        },
        bf16=True,
    ),
]

SPECS = {spec.name: spec for spec in QWEN3 + QWEN3_MOE + QWEN2 + LLAMA + MISTRAL + GEMMA3}
