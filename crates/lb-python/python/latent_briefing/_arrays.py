"""Arrays over the border: who lends them, and in what they come back."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _native


class _Bits:
    """Numbers of 16 bits that NumPy's DLPack has no name for, as whole ones."""

    latent_briefing_bfloat16 = True

    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack__(self, **asked: Any) -> Any:
        return self._array.__dlpack__(**asked)

    def __dlpack_device__(self) -> tuple[int, int]:
        device: tuple[int, int] = self._array.__dlpack_device__()
        return device


class _AsBits:
    """A native array of bfloat16, lent as whole numbers."""

    def __init__(self, array: _native.Array) -> None:
        self._array = array

    def __dlpack__(self, **asked: Any) -> Any:
        return self._array.__dlpack__(as_bits=True, **asked)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()


def lendable(array: Any) -> Any:
    """What the native side borrows: the array itself wherever it speaks DLPack."""
    if isinstance(array, (list, tuple)) and array and not isinstance(array[0], (int, float)):
        return [lendable(one) for one in array]
    if isinstance(array, np.ndarray) and array.dtype.name == "bfloat16":
        return _Bits(array.view(np.uint16))
    if getattr(array, "requires_grad", False):
        return array.detach()
    return array


def to_numpy(array: _native.Array) -> npt.NDArray[Any]:
    """A native array as one of NumPy's, sharing its memory; bfloat16 needs the package ml_dtypes."""
    if array.dtype == "bfloat16":
        kind = importlib.import_module("ml_dtypes").bfloat16
        return np.from_dlpack(_AsBits(array)).view(kind)
    return np.from_dlpack(array)


def framework(example: Any) -> Callable[[_native.Array], Any]:
    """What turns native arrays into those of the library that `example` (or the first of a list) comes from."""
    while isinstance(example, (list, tuple)) and example:
        example = example[0]
    module = type(example).__module__.partition(".")[0]
    if module == "torch":
        from_dlpack: Callable[[Any], Any] = importlib.import_module("torch").from_dlpack
        return from_dlpack
    if module in ("jax", "jaxlib"):
        from_jax: Callable[[Any], Any] = importlib.import_module("jax.dlpack").from_dlpack
        return from_jax
    return to_numpy


@dataclass(frozen=True, eq=False)
class SelectorLayer:
    """What a selector of one's own sees of a layer; every array is float32.

    `keys`, `values`: `[kv_heads, seq_len, head_dim]`. `queries`: `[kv_heads, group_size * tokens, head_dim]`, rows ordered
    (head of the group, token). `attention`: `[kv_heads, seq_len]`, what the queries paid each slot, aggregated as the
    configuration says. `bias`: `[kv_heads, seq_len]` where the cache has one; -inf marks padding. `context` and `repeat` are
    further queries, where the selector needs them.
    """

    keys: npt.NDArray[np.float32]
    values: npt.NDArray[np.float32]
    queries: npt.NDArray[np.float32]
    attention: npt.NDArray[np.float32]
    index: int
    layers: int
    group_size: int
    scale: float
    bias: npt.NDArray[np.float32] | None = None
    context: npt.NDArray[np.float32] | None = None
    repeat: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, _native.Array):
                object.__setattr__(self, name, to_numpy(value))


def numbers(rows: Sequence[_native.Array]) -> list[npt.NDArray[Any]]:
    """Native arrays as NumPy's."""
    return [to_numpy(row) for row in rows]
