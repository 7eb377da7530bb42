"""Briefings in models of transformers: logits equal to ours, and a cache that behaves as one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import latent_briefing as lb  # noqa: E402
import latent_briefing.transformers as lbt  # noqa: E402

pytestmark = pytest.mark.peers

BUILT_IN = Path(
    os.environ.get("LATENT_BRIEFING_WORKER_FOLDER", Path(__file__).resolve().parents[2] / "lb-model" / "assets" / "worker")
)
# What logits may differ by, of the size of the largest: both compute in f32, in other orders.
TOLERANCE = {"embedded": 2e-4, "real": 1e-4}
TASK = "Who keeps the Velmar ledger?"


def load(path: Path) -> Any:
    where = {"gguf_file": path.name} if path.suffix == ".gguf" else {}
    folder = path.parent if where else path
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=lbt.ATTENTION, **where
    )
    return model.eval()


@pytest.fixture(scope="module")
def model() -> Any:
    return load(BUILT_IN)


def compare(session: Any, worker: Any, model: Any, tolerance: float, **settings: Any) -> float:
    briefing = session.brief(TASK, **settings)
    tokens = session.task_tokens(TASK)
    ours = lb.to_numpy(worker.logits(tokens, over=briefing))
    cache = lbt.LatentBriefingCache.from_briefing(briefing)
    cache.check(model)
    assert cache.get_seq_length() == briefing.seq_len
    with torch.no_grad():
        theirs = model(input_ids=torch.tensor([tokens]), past_key_values=cache).logits[0].numpy()
        # Token by token as well, where no mask is made.
        steps = lbt.LatentBriefingCache.from_briefing(briefing)
        for token in tokens:
            last = model(input_ids=torch.tensor([[token]]), past_key_values=steps).logits[0, -1].numpy()
    far = np.abs(ours - theirs).max() / np.abs(ours).max()
    assert far < tolerance, far
    assert np.abs(ours[-1] - last).max() / np.abs(ours).max() < tolerance
    assert cache.get_seq_length() == briefing.seq_len + len(tokens)
    return float(far)


@pytest.mark.parametrize("settings", [{"keep": 0.3}, {"keep": 0.5, "select": "shared"}, {"keep": 1.0}, {"tau": 1}])
def test_logits_over_a_briefing_are_ours(session: Any, worker: Any, model: Any, settings: dict[str, Any]) -> None:
    compare(session, worker, model, TOLERANCE["embedded"], **settings)


def test_the_comparison_sees_the_biases(session: Any, worker: Any, model: Any) -> None:
    briefing = session.brief(TASK, keep=0.2)
    tokens = session.task_tokens(TASK)
    ours = lb.to_numpy(worker.logits(tokens, over=briefing))
    cache = lbt.LatentBriefingCache.from_briefing(briefing)
    for layer in cache.layers:
        layer.bias = torch.where(layer.bias.isinf(), layer.bias, 0.0)
    with torch.no_grad():
        without = model(input_ids=torch.tensor([tokens]), past_key_values=cache).logits[0].numpy()
    assert np.abs(ours - without).max() / np.abs(ours).max() > 20 * TOLERANCE["embedded"]


def test_without_biases_the_attention_is_that_of_sdpa(model: Any) -> None:
    tokens = torch.arange(3, 40)[None]
    with torch.no_grad():
        ours = model(input_ids=tokens).logits
        model.set_attn_implementation("sdpa")
        theirs = model(input_ids=tokens).logits
        cache = lbt.LatentBriefingCache([])
        with pytest.raises(lb.ConfigError, match="reads no biases"):
            cache.check(model)
        model.set_attn_implementation(lbt.ATTENTION)
    assert torch.equal(ours, theirs)


def test_generate_goes_on_behind_a_briefing(session: Any, worker: Any, model: Any) -> None:
    briefing = session.brief(TASK, keep=0.9)
    answer = session.ask(TASK, over=briefing)
    cache = lbt.LatentBriefingCache.from_briefing(briefing)
    prompt = torch.tensor([session.tokens + session.task_tokens(TASK)])
    written = model.generate(
        prompt, past_key_values=cache.fork(), max_new_tokens=8, do_sample=False, attention_mask=torch.ones_like(prompt)
    )
    assert worker.decode(written[0, prompt.shape[1] :].tolist()).strip().startswith(answer.text)
    # The fork has grown, and its origin has not.
    assert cache.get_seq_length() == briefing.seq_len


def test_several_answers_to_one_prompt(session: Any, model: Any) -> None:
    briefing = session.brief(TASK, keep=0.5)
    cache = lbt.LatentBriefingCache.from_briefing(briefing)
    cache.batch_repeat_interleave(3)
    tokens = torch.tensor([session.task_tokens(TASK)])
    with torch.no_grad():
        three = model(input_ids=tokens.repeat(3, 1), past_key_values=cache).logits
        cache.batch_select_indices(torch.tensor([1]))
        one = model(input_ids=tokens, past_key_values=lbt.LatentBriefingCache.from_briefing(briefing)).logits
    torch.testing.assert_close(three[2:], one, rtol=1e-4, atol=1e-4)
    assert cache.layers[0].keys.shape[0] == cache.layers[0].bias.shape[0] == 1


def test_a_cache_forgets_what_was_read_behind_it(session: Any, model: Any) -> None:
    briefing = session.brief(TASK, keep=0.5)
    cache = lbt.LatentBriefingCache.from_briefing(briefing)
    tokens = torch.tensor([session.task_tokens(TASK)])
    with torch.no_grad():
        first = model(input_ids=tokens, past_key_values=cache).logits
        cache.crop(briefing.seq_len)
        second = model(input_ids=tokens, past_key_values=cache).logits
        cache.reset()
    assert torch.equal(first, second) and cache.get_seq_length() == briefing.seq_len
    with pytest.raises(lb.SessionError, match="cannot be cut"):
        cache.crop(1)


def test_padded_batches_are_masked(session: Any, model: Any) -> None:
    briefing = session.brief(TASK, keep=0.5)
    tokens = session.task_tokens(TASK)
    with torch.no_grad():
        alone = model(
            input_ids=torch.tensor([tokens]), past_key_values=lbt.LatentBriefingCache.from_briefing(briefing)
        ).logits[0, -1]
        cache = lbt.LatentBriefingCache.from_briefing(briefing)
        cache.batch_repeat_interleave(2)
        pads, seen = 3, briefing.seq_len
        rows = torch.tensor([[0] * pads + tokens, tokens + [0] * pads])
        mask = torch.ones((2, seen + rows.shape[1]), dtype=torch.long)
        mask[0, seen : seen + pads] = 0
        positions = torch.arange(rows.shape[1])[None].repeat(2, 1) + seen
        positions[0] -= pads
        positions = positions.clamp(min=seen)
        both = model(input_ids=rows, past_key_values=cache, attention_mask=mask, position_ids=positions).logits
    torch.testing.assert_close(both[0, -1], alone, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(both[1, len(tokens) - 1], alone, rtol=1e-3, atol=1e-3)


def test_a_cache_of_the_model_is_compacted_in_python(model: Any) -> None:
    """No worker of ours: the model's own cache and queries."""
    tokens = torch.arange(3, 203)[None]
    with torch.no_grad():
        full = transformers.DynamicCache()
        model(input_ids=tokens, past_key_values=full)
        keys, values = ([getattr(layer, name) for layer in full.layers] for name in ("keys", "values"))
        queries = [layer.keys[:, :, -8:].repeat_interleave(2, 1) for layer in full.layers]
        compacted = lb.compact(keys, values, queries, keep=0.25)
        cache = lbt.LatentBriefingCache.from_compacted(compacted)
        assert cache.get_seq_length() == 200 and compacted.copied_bytes == 0
        logits = model(input_ids=tokens[:, :5], past_key_values=cache).logits
    assert torch.isfinite(logits).all()


@pytest.mark.skipif("LATENT_BRIEFING_REAL_MODELS" not in os.environ, reason="LATENT_BRIEFING_REAL_MODELS names no folder")
def test_logits_on_a_real_model_are_ours() -> None:
    pytest.importorskip("gguf")
    path = Path(os.environ["LATENT_BRIEFING_REAL_MODELS"]) / "smollm2-135m-instruct.q4_1.gguf"
    worker, model = lb.Worker.load(path), load(path)
    session = worker.session()
    session.extend([f"The {name} ledger is kept by {who}." for name, who in [("Velmar", "Anara"), ("Oslund", "Bruno")] * 20])
    far = [compare(session, worker, model, TOLERANCE["real"], keep=keep) for keep in (0.1, 0.5)]
    print("largest difference, of the largest logit:", far)
