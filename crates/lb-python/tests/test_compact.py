"""`compact` against an oracle in f64, over many shapes, dtypes and layouts."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import numpy as np
import oracle
import pytest

import latent_briefing as lb

# The issue asks for a thousand.
CASES = int(os.environ.get("LATENT_BRIEFING_ORACLE_CASES", "1000"))
# What a number of the dtype may be off by, of its size, and sums in f32 beside sums in f64.
ROUNDING = {"float32": 0.0, "float16": 2.0**-11, "bfloat16": 2.0**-8}
SUMS = 2e-4
# Mass errors are ratios of sums of thousands of products.
MASS = 2e-3
TIE = 1e-5


def random(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, np.float32)


def dtypes() -> list[Any]:
    found: list[Any] = [np.float32, np.float16]
    if importlib.util.find_spec("ml_dtypes"):
        found.append(importlib.import_module("ml_dtypes").bfloat16)
    return found


def laid_out(rng: np.random.Generator, array: np.ndarray) -> np.ndarray:
    """The same numbers, one behind the other or not."""
    if rng.random() < 0.7:
        return array
    wide = np.zeros((*array.shape[:-1], array.shape[-1] + 3), array.dtype)
    wide[..., : array.shape[-1]] = array
    return wide[..., : array.shape[-1]]


def one_case(number: int) -> dict[str, Any]:
    rng = np.random.default_rng(number)
    layers, heads, group = rng.integers(1, 4), rng.integers(1, 5), rng.integers(1, 4)
    slots, tokens, width = rng.integers(1, 81), rng.integers(1, 13), rng.integers(1, 41)
    dtype = dtypes()[number % len(dtypes())]
    keys = [random(rng, heads, slots, width).astype(dtype) for _ in range(layers)]
    values = [random(rng, heads, slots, width).astype(dtype) for _ in range(layers)]
    queries = [random(rng, heads * group, tokens, width) * rng.uniform(0.2, 2) for _ in range(layers)]
    bias = [0.3 * random(rng, heads, slots) for _ in range(layers)] if rng.random() < 0.3 else None
    as_array = rng.random() < 0.3
    put = np.stack if as_array else list
    given = {
        "keys": put([laid_out(rng, one) for one in keys]),
        "values": put([laid_out(rng, one) for one in values]),
        "queries": put([laid_out(rng, one.astype(np.float32)) for one in queries]),
        "bias": None if bias is None else [one.astype(np.float32) for one in bias],
        "scale": float(np.float32(rng.uniform(0.1, 1.2))) if rng.random() < 0.4 else None,
        "keep": int(rng.integers(1, slots + 2)),
        "score": ["mean", "max", "rms"][rng.integers(3)],
        "fit": ["all", "none", "values", "biases"][rng.integers(4)],
    }
    return {"given": given, "dtype": np.dtype(dtype).name, "group": int(group)}


def check(case: dict[str, Any]) -> None:
    given, rounding = case["given"], ROUNDING[case["dtype"]]
    compacted = lb.compact(**given, spans=1, heads="equal")
    squared = [0.0, 0.0, 0.0]
    for number, layer in enumerate(compacted):
        heads, slots, width = given["keys"][number].shape
        scale = given["scale"] or 1 / np.sqrt(width)
        kept_len = min(given["keep"], slots)
        assert layer.keys.shape == layer.values.shape == (heads, kept_len, width)
        assert layer.keys.dtype == given["keys"][number].dtype
        queries = np.asarray(given["queries"][number], np.float64).reshape(heads, -1, width)
        for head in range(heads):
            kept = layer.kept[head if len(layer.kept) > 1 else 0]
            keys = np.asarray(given["keys"][number][head], np.float64)
            values = np.asarray(given["values"][number][head], np.float64)
            bias = None if given["bias"] is None else given["bias"][number][head].astype(np.float64)
            scores = oracle.scores(queries[head], keys, bias, scale, given["score"])
            # The best stay, and the first in any case.
            assert kept == sorted(set(kept)) and kept[0] == 0 and len(kept) == kept_len
            dropped = np.setdiff1d(np.arange(slots), kept)
            if len(dropped) and kept_len > 1:
                assert scores[kept[1:]].min() >= scores[dropped].max() * (1 - TIE) - 1e-9
            # Keys are copied bit for bit.
            assert layer.keys[head].tobytes() == given["keys"][number][head][kept].tobytes()
            carried = np.zeros(kept_len) if bias is None else bias[kept]
            stored = layer.bias[head].astype(np.float64)
            if kept_len == slots or given["fit"] in ("none", "values"):
                np.testing.assert_allclose(stored, carried, rtol=rounding, atol=1e-6)
            beta = stored - carried
            assert (np.abs(beta) <= 3 + rounding * (np.abs(stored) + np.abs(carried)) + 1e-5).all()
            before, mass = oracle.mass_error(queries[head], keys, bias, scale, kept, np.zeros(kept_len))
            after, _ = oracle.mass_error(queries[head], keys, bias, scale, kept, beta)
            if kept_len < slots:
                squared = [a + b for a, b in zip(squared, (before, after, mass), strict=True)]
            expected = values[kept]
            if kept_len < slots and given["fit"] in ("all", "values"):
                expected = oracle.ridge(
                    queries[head], keys, values, bias, scale, kept, stored, scores[kept].astype(np.float64)
                )
            error = np.abs(np.asarray(layer.values[head], np.float64) - expected)
            assert (error <= SUMS * (1 + np.abs(expected)) + 1.01 * rounding * np.abs(expected)).all(), error.max()
    fit = compacted.report["beta"]
    if fit is not None and squared[2] > 0:
        # The report has the errors of weights before they are rounded to the cache's dtype.
        assert abs(fit["mass_error_before"] - np.sqrt(squared[0] / squared[2])) < MASS
        assert abs(fit["mass_error_after"] - np.sqrt(squared[1] / squared[2])) < MASS + 2 * rounding
        assert fit["mass_error_after"] <= fit["mass_error_before"] + 1e-6


def test_a_thousand_random_caches_agree_with_the_oracle() -> None:
    for number in range(CASES):
        case = one_case(number)
        try:
            check(case)
        except AssertionError as error:
            raise AssertionError(f"case {number}, {case['dtype']}, {case['given']['fit']}: {error}") from error


def test_the_optimum_of_the_biases_has_no_way_down() -> None:
    rng = np.random.default_rng(7)
    keys, values, queries = random(rng, 3, 60, 16), random(rng, 3, 60, 16), random(rng, 3, 200, 16)
    config = {
        "budget": {"kept_len": 12},
        "sharing": "equal",
        "spans": {"max": {"width": 1}},
        "beta": {"nnls": {"iterations": 0, "lower": -3.0, "upper": 3.0, "start": "shared", "rows": "mass"}},
        "values": "copy",
    }
    (layer,) = lb.compact(keys, values, queries, config=config)
    for head in range(3):
        beta = layer.bias[head].astype(np.float64)
        wide = [rows.astype(np.float64) for rows in (queries[head], keys[head])]
        slope, size = oracle.gradient(*wide, None, 0.25, layer.kept[head], beta)
        slope = slope / size
        inside = np.abs(beta) < 3 - 1e-4
        assert np.abs(slope[inside]).max(initial=0) < 1e-4
        assert (slope[beta <= -3 + 1e-4] > -1e-4).all() and (slope[beta >= 3 - 1e-4] < 1e-4).all()


def test_what_is_on_the_cpu_in_rows_is_not_copied() -> None:
    rng = np.random.default_rng(0)
    keys, values, queries = random(rng, 2, 50, 8), random(rng, 2, 50, 8), random(rng, 2, 6, 8)
    assert lb.compact(keys, values, queries, keep=5).copied_bytes == 0
    assert lb.compact(keys[:, ::2], values[:, ::2], queries, keep=5).copied_bytes == 2 * keys[:, ::2].nbytes


def test_nothing_of_the_input_changes() -> None:
    rng = np.random.default_rng(1)
    arrays = [random(rng, 2, 50, 8), random(rng, 2, 50, 8), random(rng, 2, 6, 8)]
    before = [array.copy() for array in arrays]
    lb.compact(*arrays, keep=0.2)
    assert all((array == copy).all() for array, copy in zip(arrays, before, strict=True))


def test_results_outlive_what_they_came_from() -> None:
    rng = np.random.default_rng(2)
    (layer,) = lb.compact(random(rng, 2, 500, 32), random(rng, 2, 500, 32), random(rng, 2, 6, 32), keep=500)
    copy = layer.keys.copy()
    noise = [random(rng, 2, 500, 32) for _ in range(20)]
    assert (layer.keys == copy).all() and len(noise) == 20


def test_read_only_arrays_are_read() -> None:
    rng = np.random.default_rng(3)
    keys = random(rng, 2, 20, 8)
    keys.flags.writeable = False
    if np.lib.NumpyVersion(np.__version__) < "2.1.0":
        pytest.skip("NumPy lends read-only arrays from 2.1 on")
    assert lb.compact(keys, keys, random(rng, 2, 3, 8), keep=4).kept_len >= 4


def test_given_slots_are_taken() -> None:
    rng = np.random.default_rng(4)
    keys = random(rng, 2, 2, 30, 8)
    queries = random(rng, 2, 2, 5, 8)
    shared = lb.compact(keys, keys, queries, at=[0, 3, 29])
    assert [layer.kept for layer in shared] == [[[0, 3, 29]]] * 2
    each = lb.compact(keys, keys, queries, at=[[[0, 1], [2]], [[5], [6, 7, 8]]])
    assert each[1].kept == [[5], [6, 7, 8]]
    assert np.isneginf(each[1].bias[0, 1:]).all() and np.isfinite(each[1].bias[1]).all()


def test_torch_tensors_come_back_as_such() -> None:
    torch = pytest.importorskip("torch")
    keys = torch.randn(2, 40, 16, dtype=torch.bfloat16)
    compacted = lb.compact(keys, keys, torch.randn(4, 6, 16, requires_grad=True), keep=0.25)
    assert compacted.copied_bytes == 0
    (layer,) = compacted
    assert layer.keys.dtype == torch.bfloat16 and layer.bias.dtype == torch.float32
    assert torch.equal(layer.keys[1][: len(layer.kept[1])], keys[1][layer.kept[1]])
    as_numpy = lb.compact(keys.float().numpy(), keys.float().numpy(), np.ones((2, 6, 16), np.float32), keep=0.25)
    assert isinstance(as_numpy[0].keys, np.ndarray)
    with pytest.raises(lb.TensorError, match="keys: Unknown device type meta"):
        lb.compact(keys.to("meta"), keys, keys, keep=0.5)


def test_arrays_elsewhere_are_refused_with_what_to_do() -> None:
    class OnGpu:
        def __dlpack_device__(self) -> tuple[int, int]:
            return (2, 1)

        def __dlpack__(self, **_: Any) -> Any:
            raise AssertionError("nobody asks for what cannot be read")

    keys = np.ones((2, 9, 4), np.float32)
    with pytest.raises(lb.TensorError, match=r"values: is on cuda:1 .* arg\.cpu\(\)"):
        lb.compact(keys, OnGpu(), keys, keep=4)


def test_jax_arrays_come_back_as_such() -> None:
    jax = pytest.importorskip("jax")
    keys = jax.random.normal(jax.random.key(0), (2, 40, 16))
    compacted = lb.compact(keys, keys, keys[:, :6], keep=0.25)
    assert isinstance(compacted[0].keys, jax.Array) and compacted.copied_bytes == 0


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"keys": np.ones((2, 9, 4))}, lb.TensorError, "float64 is not computed with"),
        ({"keys": np.ones((9, 4), np.float32)}, lb.TensorError, r"got the shape \[9, 4\]"),
        ({"keys": "text"}, lb.TensorError, "want an array of NumPy"),
        ({"values": np.ones((2, 9, 5), np.float32)}, lb.TensorError, "values: expected shape"),
        ({"values": np.ones((3, 2, 9, 4), np.float32)}, lb.TensorError, "values: 3 layers, keys: 1"),
        ({"queries": np.ones((2, 3, 5), np.float32)}, lb.TensorError, "queries: expected shape"),
        ({"queries": np.full((2, 3, 4), np.nan, np.float32)}, lb.TensorError, "NaN"),
        ({"queries": np.ones((2, 0, 4), np.float32)}, lb.TensorError, "empty"),
        ({"keep": 0.0}, lb.ConfigError, "keep_ratio"),
        ({"keep": True}, lb.ConfigError, "keep: want"),
        ({"keep": 2.5}, lb.ConfigError, "keep_ratio"),
        ({"tau": 3}, lb.ConfigError, "want one of"),
        ({"keeep": 3}, lb.ConfigError, "there is no setting 'keeep'; there are keep|no setting \"keeep\"; there are keep"),
        ({"select": "snapvk"}, lb.ConfigError, "no selection is called `snapvk`; there are snapkv"),
        ({"select": "snapkv:windw=3"}, lb.ConfigError, "takes no `windw`"),
        ({"scale": 0.0}, lb.ConfigError, "scale"),
        ({"group_size": 7}, lb.ConfigError, "group_size"),
        ({"at": [5, 3]}, lb.ConfigError, "ascending"),
        ({"at": [99]}, lb.ConfigError, "beyond the cache"),
        ({"config": {"budget": {"kept_len": 3}}}, lb.ConfigError, "config says everything"),
        ({"keep": None, "config": {"budgets": {}}}, lb.ConfigError, "budgets"),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, Any], error: type[Exception], says: str) -> None:
    rng = np.random.default_rng(5)
    given: dict[str, Any] = {
        "keys": random(rng, 2, 9, 4),
        "values": random(rng, 2, 9, 4),
        "queries": random(rng, 2, 3, 4),
        "keep": 4,
    }
    with pytest.raises(error, match=says) as caught:
        lb.compact(**{**given, **change})
    assert isinstance(caught.value, lb.LatentBriefingError) and isinstance(caught.value, ValueError)
