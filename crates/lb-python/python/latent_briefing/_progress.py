"""Progress bars: tqdm's, where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

Report = Callable[[int, int], Any]


def bar(what: str = "reading", delay: float = 0.0) -> Report | None:
    """A bar of tqdm that hears (done, all), or nothing where tqdm is not installed."""
    # Without widgets, the bar for notebooks would only warn.
    module = "tqdm.auto" if importlib.util.find_spec("ipywidgets") else "tqdm"
    try:
        tqdm = importlib.import_module(module).tqdm
    except ImportError:
        return None
    shown: Any = None

    def report(done: int, all: int) -> bool:
        nonlocal shown
        if shown is None:
            shown = tqdm(total=all, desc=what, unit="token", delay=delay, leave=False)
        shown.total = all
        shown.update(max(done - shown.n, 0))
        if done >= all:
            shown.close()
        return True

    return report


def usual() -> Report | None:
    """A bar in a notebook, after a second; nothing elsewhere."""
    shell = sys.modules.get("IPython")
    running = shell.get_ipython() if shell is not None else None
    if type(running).__name__ != "ZMQInteractiveShell":
        return None
    return bar(delay=1.0)
