"""How much of a recorded log's worth a handoff keeps, from Python: the figures of `latent-briefing bench logs`, item by item.

    python retained.py --worker MODEL --data logs.jsonl [--limit N] [--tokens 96] HANDOFF ...

    retained = 1 - (NLL_condition - NLL_full) / (NLL_none - NLL_full)

A line of the data has a trajectory of messages, a task and a target, the recorded continuation.
"""

from __future__ import annotations

import argparse
import json
import pathlib

import numpy as np

import latent_briefing as lb


def nll(session: lb.Session, task: str, target: list[int], handoff: str) -> float:
    """Nats a token of the target behind what the handoff gives the worker."""
    return -float(np.mean(lb.to_numpy(session.log_probabilities(task, target, via=handoff)), dtype=np.float64))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker")
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--limit", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("handoff", nargs="+")
    asked = parser.parse_args()
    worker = lb.Worker.load(asked.worker) if asked.worker else lb.Worker.embedded()
    for line in asked.data.read_text().splitlines()[: asked.limit]:
        item = json.loads(line)
        session = worker.session()
        session.extend_messages(item["trajectory"])
        target = worker.encode(item["target"])[: asked.tokens]
        full, nothing = (nll(session, item["task"], target, via) for via in ("full-kv", "none"))
        print(f"{item['id']}: {session.seq_len} positions, full {full:.4f}, none {nothing:.4f} nats a token")
        for handoff in asked.handoff:
            own = nll(session, item["task"], target, handoff)
            print(f"  {handoff}: {own:.4f} nats, retained {1 - (own - full) / (nothing - full):.4f}")


if __name__ == "__main__":
    main()
