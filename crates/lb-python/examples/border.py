"""What the border between Python and Rust costs: the time of a call less the time that the library itself reports.

    python border.py [CALLS]
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np

import latent_briefing as lb


def overhead(shape: tuple[int, ...], calls: int) -> tuple[float, float]:
    """Medians in microseconds: of what the library takes, and of what comes on top."""
    layers, heads, slots, width = shape
    rng = np.random.default_rng(0)
    keys = rng.standard_normal(shape, np.float32)
    queries = rng.standard_normal((layers, heads, 8, width), np.float32)
    inside, outside = [], []
    for _ in range(calls):
        begun = time.perf_counter()
        done = lb.compact(keys, keys, queries, keep=8)
        whole = time.perf_counter() - begun
        own = done.report["timing"]["total"]
        seconds = own["secs"] + own["nanos"] * 1e-9
        inside.append(1e6 * seconds)
        outside.append(1e6 * (whole - seconds))
    return statistics.median(inside), statistics.median(outside)


def main() -> None:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    print("layers x heads x slots x width | library, us | border, us")
    for shape in ((1, 1, 16, 16), (1, 4, 256, 64), (8, 4, 256, 64), (24, 4, 1024, 64)):
        inside, outside = overhead(shape, calls)
        print(f"{' x '.join(map(str, shape)):30} | {inside:11.0f} | {outside:10.0f}")


if __name__ == "__main__":
    main()
