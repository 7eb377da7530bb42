"""Learns vectors that are read behind a task in the place of its answer (LookaheadKV, arXiv 2603.10899, without its adapters).

The model is frozen. For every item that `lookahead_items` wrote, the vectors run behind the cache of trajectory and task, and what
they see of the trajectory is held to what the answer's queries saw of it, for each layer and KV head:

    loss = KL(answer's scores || vectors' scores),  both as shares of their sum

Scores are the library's own: the root mean square over queries, those of all heads of a group together. See README.md.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

FORMAT = "latent-briefing-vectors-1"


class Watch:
    """Attention over a given cache that sums up how far its scores are from what is wanted."""

    def __init__(self):
        self.wanted = None

    def begin(self, item):
        self.wanted, self.of_task = item["answer"], item["task"]
        self.weight, self.seq_len, self.losses = item["weight"], item["seq_len"], []

    def __call__(self, module, query, key, value, attention_mask, scaling, **_):
        heads, m, width = query.shape[1:]
        groups, slots = key.shape[1], key.shape[2]
        q = query.reshape(groups, heads // groups * m, width)
        logits = (q @ key[0].transpose(1, 2)).float() * scaling
        hidden = torch.ones(m, m, dtype=torch.bool).triu(1).repeat(heads // groups, 1)
        masked = logits.clone()
        masked[:, :, slots - m :].masked_fill_(hidden, -math.inf)
        out = masked.softmax(-1).to(value.dtype) @ value[0]
        if self.wanted is not None:
            self.look(module.layer_idx, logits[:, :, : self.seq_len].softmax(-1))
        return out.reshape(1, heads, m, width).transpose(1, 2), None

    def look(self, layer, seen):
        # As the library joins them: mean squares, the vectors' rows with their weight.
        squares = seen.square().mean(1)
        if self.of_task is not None:
            squares = squares * self.weight + self.of_task[layer].square() * (1 - self.weight)
        scores = (squares + 1e-16).sqrt()
        wanted = self.wanted[layer]
        self.losses.append(divergence(wanted, scores))


def divergence(wanted, scores):
    """KL of shares, by head."""
    share = lambda x: x / x.sum(-1, keepdim=True)
    p, q = share(wanted), share(scores)
    return (p * ((p + 1e-9).log() - (q + 1e-9).log())).sum(-1)


def read_items(folders, args):
    items = []
    for folder in folders:
        for line in (folder / "items.jsonl").read_text().splitlines():
            item = json.loads(line)
            item["path"] = folder / item["file"]
            if item["seq_len"] <= args.longest:
                items.append(item)
    return items


def load_item(item, args):
    """Tensors by layer."""
    tensors = load_file(item["path"])
    layers = sum(name.startswith("keys.") for name in tensors)
    by = lambda name: [tensors[f"{name}.{layer}"] for layer in range(layers)]
    rows = lambda name: [x.float() for x in by(name)]
    answer, of_task = rows("answer"), rows("task")
    tasks, answers = item["task_len"], len(item["answer"])
    weight = answers / (answers + tasks)
    if args.joined:
        # What the library would have with the answer's own queries beside the task's.
        answer = [(a.square() * weight + t.square() * (1 - weight)).sqrt() for a, t in zip(answer, of_task)]
    return {
        "answer": answer, "task": of_task if args.joined else None, "weight": weight, "seq_len": item["seq_len"],
        "keys": by("keys"), "values": by("values"), "positions": item["seq_len"] + tasks, "probe": tensors["probe"],
    }


def run(model, watch, vectors, item):
    """Loss of one item."""
    watch.begin(item)
    cache = DynamicCache()
    for layer, (keys, values) in enumerate(zip(item["keys"], item["values"])):
        cache.update(keys[None].to(vectors.dtype), values[None].to(vectors.dtype), layer)
    positions = torch.arange(item["positions"], item["positions"] + len(vectors))[None]
    model.model(inputs_embeds=vectors[None], past_key_values=cache, position_ids=positions, use_cache=True)
    return torch.stack(watch.losses)


def beginning(model, items, m):
    """Embeddings of what answers begin with, drawn from all of them."""
    tokens = [token for item in items for token in item["answer"][:m]]
    random.shuffle(tokens)
    with torch.no_grad():
        return model.get_input_embeddings()(torch.tensor(tokens[:m] if len(tokens) >= m else (tokens * m)[:m])).clone()


def write(path, vectors, probe, name, args, items, note):
    on = sorted({item["id"] for item in items})
    about = {"format": FORMAT, "model": name, "trained_on": f"{len(items)} answers of {len(on)} logs; {note}"}
    save_file({"vectors": vectors.detach().half().contiguous(), "probe": probe.half().contiguous()}, str(path), metadata=about)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the GGUF file, or the folder, that the items were made with")
    parser.add_argument("--items", type=Path, nargs="+", required=True, help="folders of lookahead_items")
    parser.add_argument("--held-out", type=Path, nargs="*", default=[], help="the same, to look at and not to learn from")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vectors", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rate", type=float, default=0.01, help="of Adam, in parts of the embeddings' root mean square")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--longest", type=int, default=6000, help="positions; longer items are left out")
    parser.add_argument("--joined", action="store_true", help="hold the task's scores with the vectors' to the task's with the answer's")
    parser.add_argument("--start-from", type=Path, help="a file of vectors")
    parser.add_argument("--check-tokens", action="store_true", help="read the answers' own tokens instead, and say the loss: about 0")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)

    watch = Watch()
    ALL_ATTENTION_FUNCTIONS.register("watch", watch)
    where = {"gguf_file": args.model.name} if args.model.is_file() else {}
    folder = args.model.parent if args.model.is_file() else args.model
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="watch", **where)
    model.requires_grad_(False).eval()
    items, held_out = read_items(args.items, args), read_items(args.held_out, args)
    embed = model.get_input_embeddings()

    if args.check_tokens:
        for item in items[:3]:
            with torch.no_grad():
                print(run(model, watch, embed(torch.tensor(item["answer"])), load_item(item, args)).mean().item())
        return

    vectors = beginning(model, items, args.vectors)
    if args.start_from:
        vectors = load_file(args.start_from)["vectors"].float()
    size = vectors.square().mean().sqrt().item()
    # Steps of a like size whatever the scale of the embeddings is.
    learned = torch.nn.Parameter(vectors / size)
    optimizer = torch.optim.Adam([learned], lr=args.rate, betas=(0.9, 0.98))
    steps = args.epochs * len(items)
    begin, step, probe = time.time(), 0, None

    def held(what):
        with torch.no_grad():
            losses = [run(model, watch, learned * size, load_item(item, args)).mean().item() for item in held_out]
        if losses:
            print(f"{what}: held out {sum(losses) / len(losses):.4f}", flush=True)

    held("before")
    for epoch in range(args.epochs):
        random.shuffle(items)
        total = 0.0
        for item in items:
            left = 1 - max(step / steps, (time.time() - begin) / (60 * args.minutes))
            if left <= 0:
                break
            for group in optimizer.param_groups:
                group["lr"] = args.rate * min(1.0, (step + 1) / 10) * max(left, 0.02)
            loaded = load_item(item, args)
            probe = loaded["probe"]
            loss = run(model, watch, learned * size, loaded).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_([learned], 1.0)
            optimizer.step()
            total, step = total + loss.item(), step + 1
            if step % 20 == 0:
                print(f"{step} steps: {loss.item():.4f}, {(time.time() - begin) / 60:.1f} min", flush=True)
        minutes = (time.time() - begin) / 60
        print(f"epoch {epoch}: {total / len(items):.4f}, {minutes:.1f} min", flush=True)
        note = f"{args.vectors} vectors, {step} steps"
        write(args.out, learned * size, probe, items[0]["model"], args, items, note)
        held(f"epoch {epoch}")
        if minutes >= args.minutes:
            break


if __name__ == "__main__":
    main()
