"""KV caches compacted for a task, and workers that answer over them.

    import latent_briefing as lb

    session = lb.Worker.embedded().session()          # or Worker.load("model.gguf"), Worker.load("Qwen/Qwen3-4B")
    session.extend("The Velmar ledger is kept by Anara.")
    print(session.ask("Who keeps the Velmar ledger?", keep=0.5))

`compact` works on plain arrays, `Worker` and `Session` on models and trajectories, `Rlm` is the loop around them, and `serve`
puts a worker behind HTTP. `latent_briefing.transformers`, `.kvpress` and `.rlms` are for the libraries of those names.
"""

from __future__ import annotations

import html as _html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import _arrays, _native
from ._arrays import SelectorLayer, to_numpy
from ._errors import (
    Cancelled,
    ConfigError,
    LatentBriefingError,
    ModelError,
    RunStopped,
    ServeError,
    SessionError,
    TensorError,
    TimedOut,
)
from ._native import Answer, Array, Briefing, Rlm, Run, Server, Session, Snapshot, Worker, __version__
from ._native import serve as serve

__all__ = [
    "Answer",
    "Array",
    "Briefing",
    "Cancelled",
    "Compacted",
    "CompactedLayer",
    "ConfigError",
    "LatentBriefingError",
    "ModelError",
    "Rlm",
    "Run",
    "RunStopped",
    "Selector",
    "SelectorLayer",
    "ServeError",
    "Server",
    "Session",
    "SessionError",
    "Snapshot",
    "TensorError",
    "TimedOut",
    "Worker",
    "__version__",
    "compact",
    "register_selector",
    "selectors",
    "serve",
    "to_numpy",
]


@dataclass(frozen=True, eq=False, repr=False)
class CompactedLayer:
    """What is left of the cache of one layer, in arrays of the library that the keys came from.

    `keys`, `values`: `[kv_heads, kept_len, head_dim]` in the cache's dtype. `bias`: `[kv_heads, kept_len]`, float32, to be added
    to each key's logit; -inf fills up heads that keep fewer. `kept`: the slots of each head, or one list for all of them.
    `scale`: what q · k is multiplied with.
    """

    keys: Any
    values: Any
    bias: Any
    kept: list[list[int]]
    scale: float

    def __repr__(self) -> str:
        return f"CompactedLayer(keys {tuple(self.keys.shape)})"


@dataclass(frozen=True, eq=False, repr=False)
class Compacted(Sequence[CompactedLayer]):
    """A compacted cache, layer by layer, and the report on how it came about.

    `report` has `seq_len`, `kept_len`, `keep_ratio`, the `scores` of positions, the `mask`, how the fits of `beta` and `values`
    went, and `timing`. `copied_bytes` is what had to be copied of the input: 0 for rows that lie one behind the other.
    """

    layers: tuple[CompactedLayer, ...]
    report: dict[str, Any]
    copied_bytes: int

    @property
    def keep_ratio(self) -> float:
        """Kept / original slots over all layers and heads."""
        return float(self.report["keep_ratio"])

    @property
    def kept_len(self) -> int:
        """Slots of the head that keeps the most."""
        return int(self.report["kept_len"])

    @property
    def seq_len(self) -> int:
        """Slots before, of the longest layer."""
        return int(self.report["seq_len"])

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: Any) -> Any:
        return self.layers[index]

    def __iter__(self) -> Iterator[CompactedLayer]:
        return iter(self.layers)

    def __repr__(self) -> str:
        return f"Compacted({len(self.layers)} layers, {self.kept_len} of {self.seq_len} slots, {100 * self.keep_ratio:.1f} %)"


def compact(
    keys: Any,
    values: Any,
    queries: Any,
    *,
    bias: Any = None,
    scale: float | None = None,
    group_size: int | None = None,
    at: Any = None,
    units: Sequence[int] | None = None,
    context: Any = None,
    repeat: Any = None,
    counts: Sequence[Sequence[int]] | None = None,
    **config: Any,
) -> Compacted:
    """Compacts a cache for the given queries (Attention Matching, arXiv 2602.16284).

    Positions that the queries do not attend to are dropped; biases on the rest's keys are fitted to the attention mass, and
    values to the attention output, of the full cache. Nothing of the input is changed, and nothing of it is copied where it is
    on the CPU with its rows one behind the other.

    Shapes: `keys` and `values` are `[layers, kv_heads, seq_len, head_dim]`, or a list of `[kv_heads, seq_len, head_dim]` (or
    `[1, ...]`, as in the caches of transformers), one for each layer, which may differ in length; or a single layer's. float32,
    float16 or bfloat16. `queries` likewise: `[heads, tokens, head_dim]` with all query heads, or `[kv_heads, group_size * tokens,
    head_dim]` with the rows ordered (head of the group, token); float32 or the cache's dtype, after query norm and rotation.
    `bias`: `[kv_heads, seq_len]` for each layer, float32, where the cache was compacted before.

    `scale` is what q · k is multiplied with, 1/√head_dim where it is not given. `at` are slots that are to stay, instead of a
    selection: for all layers, for each, or for each head of each. `units` are the slots at which units of the text begin
    (`spans="sentences"`). `context` and `repeat` are further queries, for selections that read them (`h2o`, `kvzip`). `counts`
    says how many slots each head of each layer keeps.

    Settings, as in the text of a handoff: one budget of `keep` (a ratio as float, a number of slots as int), `tau`, `error` and
    `coverage`; `select` (see `selectors()`), `score`, `heads`, `floor`, `spans`, `fade`, `fold`, `threshold`, `rank`, `fit`
    ("all", "none", "values", "biases"), `bits`; or `config`, a dictionary in the JSON form of the library's `Compaction`, which
    says everything.

    Errors: `TensorError` for shapes, dtypes, devices and numbers that are none, `ConfigError` for settings.

    >>> import numpy, latent_briefing
    >>> random = lambda *shape: numpy.random.default_rng(0).standard_normal(shape, numpy.float32)
    >>> compacted = latent_briefing.compact(random(2, 2, 100, 16), random(2, 2, 100, 16), random(2, 4, 3, 16), keep=0.1)
    >>> compacted
    Compacted(2 layers, ...
    """
    lend = _arrays.lendable
    done = _native.compact(
        lend(keys),
        lend(values),
        lend(queries),
        None if bias is None else lend(bias),
        scale,
        group_size,
        at,
        None if units is None else list(units),
        None if context is None else lend(context),
        None if repeat is None else lend(repeat),
        None if counts is None else [list(layer) for layer in counts],
        config,
    )
    own = _arrays.framework(keys)
    layers = (
        CompactedLayer(own(one["keys"]), own(one["values"]), own(one["bias"]), one["kept"], one["scale"])
        for one in done["layers"]
    )
    return Compacted(tuple(layers), done["report"], done["copied_bytes"])


@dataclass(frozen=True)
class Selector:
    """A selection that `select=` knows: its name, what it keeps, and its arguments with what they are."""

    name: str
    about: str
    arguments: Mapping[str, str]


def selectors() -> dict[str, Selector]:
    """Every selection that there is, by name; those that were registered come last."""
    found = (Selector(name, about, dict(keys)) for name, about, keys in _native.selectors())
    return {selector.name: selector for selector in found}


def register_selector(
    name: str,
    function: Callable[[SelectorLayer], Any] | None = None,
    *,
    about: str = "",
    needs: Sequence[str] = ("queries",),
    lists: str = "head",
    heads: str = "equal",
    counts_only: bool = False,
) -> Any:
    """Makes a function of yours a selection, for the whole process; `select=name` means it from then on. Also a decorator.

    The function is called once for each layer with a `SelectorLayer` and returns the scores of its slots, higher ones first:
    `[kv_heads, seq_len]`, or `[seq_len]` where `lists` is "layer". Spans, budgets, protected positions, sharing among heads,
    biases and values are the library's. Scores that are nowhere negative also say what the fit of values holds fast.

    `needs`: "queries" (what the cache is compacted for), "context", "repeat", none of them. `heads`: how what the heads would
    keep is shared out among them: "equal", "layer", "all". `counts_only`: the scores are an order and no more, so that budgets
    by scores (`tau`, `coverage`) are refused.

    >>> import latent_briefing, numpy
    >>> @latent_briefing.register_selector("value-norm-example", needs=())
    ... def value_norm(layer):
    ...     return numpy.linalg.norm(layer.values, axis=-1)
    >>> "value-norm-example" in latent_briefing.selectors()
    True
    """

    def registered(function: Callable[[SelectorLayer], Any]) -> Callable[[SelectorLayer], Any]:
        said = about or (function.__doc__ or "a function of Python").strip().partition("\n")[0]
        _native.register_selector(name, function, said, list(needs), lists, heads, counts_only)
        return function

    return registered if function is None else registered(function)


def _briefing_repr_html(briefing: Briefing) -> str:
    """The heat map in a frame of its own, so that its style stays its own."""
    page = _html.escape(briefing.html(), quote=True)
    height = 320 + min(briefing.seq_len // 4, 400)
    return f'<iframe srcdoc="{page}" style="width:100%;height:{height}px;border:1px solid #8884" sandbox="allow-scripts"></iframe>'
