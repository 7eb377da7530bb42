"""Our press inside kvpress's pipeline, on a model that needs no network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
kvpress = pytest.importorskip("kvpress")

import latent_briefing as lb  # noqa: E402
from latent_briefing.kvpress import LatentBriefingPress  # noqa: E402
from latent_briefing.transformers import ATTENTION, BriefingLayer  # noqa: E402

pytestmark = pytest.mark.peers

BUILT_IN = Path(
    os.environ.get("LATENT_BRIEFING_WORKER_FOLDER", Path(__file__).resolve().parents[2] / "lb-model" / "assets" / "worker")
)
CONTEXT = "Notes so far:\n" + "\n".join(
    f"finding: The {place} ledger is kept by {who}."
    for place, who in [("Velmar", "Anara"), ("Oslund", "Bruno"), ("Tarvik", "Celia"), ("Brenholm", "Dario")] * 6
)


@pytest.fixture(scope="module")
def pipe() -> Any:
    return transformers.pipeline("kv-press-text-generation", model=str(BUILT_IN), device="cpu", dtype=torch.float32)


def test_nothing_removed_is_the_model_itself(pipe: Any) -> None:
    plain = pipe(CONTEXT, question="\nTask: Who keeps the Velmar ledger?", max_new_tokens=6)["answer"]
    press = LatentBriefingPress(compression_ratio=0.0)
    assert pipe(CONTEXT, question="\nTask: Who keeps the Velmar ledger?", press=press, max_new_tokens=6)["answer"] == plain


@pytest.mark.parametrize("settings", [{}, {"select": "snapkv"}, {"select": "expected-attention"}, {"fit": "none"}])
def test_several_questions_over_one_compacted_context(pipe: Any, settings: dict[str, Any]) -> None:
    press = LatentBriefingPress(compression_ratio=0.5, window_size=16, **settings)
    questions = [f"\nTask: Who keeps the {place} ledger?" for place in ("Velmar", "Oslund")]
    together = pipe(CONTEXT, questions=questions, press=press, max_new_tokens=6)["answers"]
    alone = [pipe(CONTEXT, question=question, press=press, max_new_tokens=6)["answer"] for question in questions]
    # What one question reads and writes is gone before the next.
    assert together == alone
    assert pipe.model.config._attn_implementation == ATTENTION


@torch.no_grad()
def test_the_budget_is_kept_and_keys_are_rows(pipe: Any) -> None:
    tokens = pipe.tokenizer(CONTEXT, return_tensors="pt")["input_ids"]
    full, cache = transformers.DynamicCache(), transformers.DynamicCache()
    pipe.model.model(input_ids=tokens, past_key_values=full)
    press = LatentBriefingPress(compression_ratio=0.8, window_size=8)
    with press(pipe.model):
        pipe.model.model(input_ids=tokens, past_key_values=cache)
    assert all(isinstance(layer, BriefingLayer) for layer in cache.layers)
    live = sum(int(torch.isfinite(layer.bias).sum()) for layer in cache.layers)
    heads = sum(layer.keys.shape[1] for layer in cache.layers)
    assert live == heads * int(tokens.shape[1] * 0.2)
    layer, whole = cache.layers[1], full.layers[1].keys[0, 0]
    for row, bias in zip(layer.keys[0, 0], layer.bias[0, 0], strict=True):
        assert torch.isinf(bias) or (whole == row).all(1).any()
    assert not press._read and all(not layer.self_attn._forward_hooks for layer in pipe.model.model.layers)


@torch.no_grad()
def test_a_batch_is_compacted_row_by_row(pipe: Any) -> None:
    tokens = torch.randint(3, 200, (3, 60))
    press = LatentBriefingPress(compression_ratio=0.5, window_size=8)
    together = transformers.DynamicCache()
    with press(pipe.model):
        pipe.model.model(input_ids=tokens, past_key_values=together)
        alone = transformers.DynamicCache()
        pipe.model.model(input_ids=tokens[1:2], past_key_values=alone)
    kept = torch.isfinite(alone.layers[0].bias[0]).sum(-1)
    assert torch.equal(torch.isfinite(together.layers[0].bias[1]).sum(-1), kept)
    logits = pipe.model(input_ids=tokens[:, :4], past_key_values=together).logits
    assert torch.isfinite(logits).all()


def test_what_cannot_be_done_is_said(pipe: Any) -> None:
    with pytest.raises(lb.ConfigError, match="compression_ratio"):
        LatentBriefingPress(compression_ratio=1.0)
    with pytest.raises(NotImplementedError, match="all layers together"):
        LatentBriefingPress(0.5).compress(None, None, None, None, None, {})
