"""A compaction in plain NumPy and f64, from the formulas of `crates/lb-am/MATHEMATICS.md` and none of its code."""

from __future__ import annotations

import numpy as np

Rows = np.ndarray


def attention(queries: Rows, keys: Rows, bias: Rows | None, scale: float) -> tuple[Rows, Rows, Rows]:
    """Row maximum, weights exp(s - m) and their sums, of one head."""
    logits = scale * queries @ keys.T
    if bias is not None:
        logits = logits + bias
    top = logits.max(1, keepdims=True)
    weights = np.exp(logits - top)
    return top, weights, weights.sum(1, keepdims=True)


def scores(queries: Rows, keys: Rows, bias: Rows | None, scale: float, how: str) -> Rows:
    """The attention to each slot, aggregated over queries."""
    _, weights, mass = attention(queries, keys, bias, scale)
    seen = weights / mass
    if how == "mean":
        return seen.mean(0)
    return seen.max(0) if how == "max" else np.sqrt((seen**2).mean(0))


def mass_error(queries: Rows, keys: Rows, bias: Rows | None, scale: float, kept: list[int], beta: Rows) -> tuple[float, float]:
    """Squared errors of the mass that kept slots with biases have, and the squared mass."""
    _, weights, mass = attention(queries, keys, bias, scale)
    missing = weights[:, kept] @ np.exp(beta)[:, None] - mass
    return float((missing**2).sum()), float((mass**2).sum())


def gradient(queries: Rows, keys: Rows, bias: Rows | None, scale: float, kept: list[int], beta: Rows) -> tuple[Rows, Rows]:
    """Of the squared error of the mass by each weight, and the size that it is measured by."""
    _, weights, mass = attention(queries, keys, bias, scale)
    rows = weights[:, kept]
    missing = rows @ np.exp(beta)[:, None] - mass
    return (rows.T @ missing)[:, 0], np.linalg.norm(rows, axis=0) * np.linalg.norm(mass)


def ridge(
    queries: Rows,
    keys: Rows,
    values: Rows,
    bias: Rows | None,
    scale: float,
    kept: list[int],
    stored: Rows,
    importance: Rows,
) -> Rows:
    """Values by the ridge towards the originals, lambda 1 and p 1, for stored biases."""
    _, weights, mass = attention(queries, keys, bias, scale)
    target = weights / mass @ values
    _, own, sums = attention(queries, keys[kept], stored, scale)
    shares = own / sums
    mean = importance.mean()
    omega = np.clip(importance / mean, 1e-2, 1e2) if mean > 0 else np.ones(len(kept))
    gram = shares / omega @ shares.T
    strength = np.trace(gram) / len(gram)
    rest = target - shares @ values[kept]
    return values[kept] + (shares / omega).T @ np.linalg.solve(gram + strength * np.eye(len(gram)), rest)
