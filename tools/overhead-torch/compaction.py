"""The steps of a compaction in batched PyTorch, beside this library's, on the same tensors and threads.

    cargo build --release --example overhead
    python tools/overhead-torch/compaction.py -- --shape 14b --seq-len 16384 --layers 4
"""

import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import torch
from safetensors import safe_open

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
POWER_ROUNDS = 12
OMEGA = (1e-2, 1e2)
# Elements of logits held at once that are tried, the fastest of which is used.
TILES = (1 << 18, 1 << 20, 1 << 22, 1 << 24)
# Elements of kept logits that the fits take at once: as many heads as that allows.
GROUP = 1 << 27
# ‖C2 − ours‖ / ‖ours‖ and |β − ours| that still count as the same result, by dtype of the cache.
VALUES_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 1e-2, torch.float16: 3e-3}
BETA_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 4e-2, torch.float16: 1e-2}


class Job:
    """The tensors that the example wrote, layers joined along the heads, and its results."""

    def __init__(self, path):
        with safe_open(path, "pt") as file:
            self.config = json.loads(file.metadata()["config"])
            names = set(file.keys())
            self.layers = sum(name.startswith("keys.") for name in names)
            self.selections = sorted({name.split(".")[0] for name in names if ".kept." in name}, reverse=True)
            read = lambda name: torch.stack([file.get_tensor(f"{name}.{i}") for i in range(self.layers)])
            self.keys, self.values = read("keys"), read("values")
            self.queries = read("queries").float()
            self.ours = {s: [read(f"{s}.{part}") for part in ("kept", "beta", "values")] for s in self.selections}
        config = self.config
        self.ratio = config["budget"]["keep_ratio"]
        self.pool = config["spans"]["max"]["width"]
        self.first = config["protect"]["first"]
        self.nnls = config["beta"]["nnls"]
        self.ridge = config["values"]["ridge"]
        unsupported = [
            config["score"] != "mean", config["across"] != "mean", config["protect"]["last"] != 0,
            self.nnls["start"] != "shared", self.nnls["rows"] != "mass",
        ]
        if any(unsupported):
            sys.exit("compaction.py: the file was made with other settings than the example's")

    @property
    def kept_len(self):
        return max(self.first, math.ceil(self.ratio * self.keys.shape[2] - 1e-9))


def observe(queries, keys, values, tile, products):
    """One layer: row maximum, mass, output, and each head's mean attention to each position."""
    heads, n, d = queries.shape
    slots = keys.shape[1]
    keys = keys if products == "native" else keys.float()
    values = values.float() if products == "f32" else values
    scaled = (queries / math.sqrt(d)).to(keys.dtype)
    rows = max(1, min(n, tile // slots))
    heads_at_once = max(1, min(heads, tile // (rows * slots)))
    maximum, mass = torch.empty(heads, n, 1), torch.empty(heads, n, 1)
    output, scores = torch.empty(heads, n, d), torch.zeros(heads, 1, slots)
    # Buffers are reused: fresh ones would cost page faults each time.
    buffer = torch.empty(heads_at_once * rows * slots)
    narrow = None if products == "f32" else torch.empty(buffer.shape, dtype=values.dtype)
    for head in range(0, heads, heads_at_once):
        h = slice(head, min(head + heads_at_once, heads))
        for row in range(0, n, rows):
            r = slice(row, min(row + rows, n))
            shape = (h.stop - h.start, r.stop - r.start, slots)
            phi = buffer[: math.prod(shape)].view(shape)
            small = None if narrow is None else narrow[: math.prod(shape)].view(shape)
            if products == "native":
                phi.copy_(torch.bmm(scaled[h, r], keys[h].mT, out=small))
            else:
                torch.bmm(scaled[h, r], keys[h].mT, out=phi)
            m = phi.amax(-1, keepdim=True)
            phi.sub_(m).exp_()
            z = phi.sum(-1, keepdim=True)
            inverse = z.reciprocal()
            maximum[h, r], mass[h, r] = m, z
            scores[h].baddbmm_(inverse.mT, phi, alpha=1 / n)
            weights = phi if products == "f32" else small.copy_(phi)
            output[h, r] = torch.bmm(weights, values[h]).float() * inverse
    return maximum, mass, output, scores.squeeze(1)


def select(scores, job):
    """The best positions of each row of scores, the first ones always, ties to the earlier; and the pooled scores."""
    pooled = torch.nn.functional.max_pool1d(scores.unsqueeze(1), job.pool, 1, job.pool // 2).squeeze(1)
    ranked = pooled.clone()
    ranked[:, : job.first] = math.inf
    kept = torch.sort(ranked, descending=True, stable=True).indices[:, : job.kept_len]
    return pooled, kept.sort().values


def lipschitz(phi):
    """An upper bound, close from above, on the largest eigenvalue of ΦᵀΦ."""
    v = torch.ones(phi.shape[0], 1, phi.shape[2])
    for _ in range(POWER_ROUNDS):
        v = (v @ phi.mT) @ phi
        v = (v / v.amax(2, keepdim=True)).clamp_min_(1e-6)
    return (((v @ phi.mT) @ phi) / v).amax(2, keepdim=True)


def fit_beta(phi, mass, nnls):
    """ln w of the bounded weights: projected gradient with momentum from the best shared weight, never uphill.

    Vectors are rows: batched products with a row are ten times faster here than with a column.
    """
    lower, upper = math.exp(nnls["lower"]), math.exp(nnls["upper"])
    mass = mass.mT
    rows = phi.sum(-1).unsqueeze(1)
    shared = (rows * mass).sum(2, keepdim=True) / rows.square().sum(2, keepdim=True)
    w = shared.clamp(lower, upper).expand(-1, 1, phi.shape[2])
    step = 1 / lipschitz(phi)
    image = rows * w[:, :, :1]
    objective = (image - mass).square().sum(2, keepdim=True)
    ahead, ahead_image, momentum = w, image, 1.0
    for _ in range(nnls["iterations"]):
        following = (ahead - step * ((ahead_image - mass) @ phi)).clamp_(lower, upper)
        following_image = following @ phi.mT
        error = (following_image - mass).square().sum(2, keepdim=True)
        better = error <= objective
        best, best_image = torch.where(better, following, w), torch.where(better, following_image, image)
        objective = torch.where(better, error, objective)
        grown = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        along, past = momentum / grown, (momentum - 1) / grown
        ahead = best + along * (following - best) + past * (best - w)
        ahead_image = best_image + along * (following_image - best_image) + past * (best_image - image)
        w, image, momentum = best, best_image, grown
    return w.squeeze(1).log()


def fit_values(x, y, values, importance, ridge):
    """C2 of a ridge towards the originals, dual where there are fewer queries than kept positions."""
    originals = values.float()
    residual = torch.baddbmm(y, x, originals, alpha=-1)
    omega = (importance / importance.mean(-1, keepdim=True)).pow(ridge["importance"]).clamp(*OMEGA)
    softened = x / omega.unsqueeze(1)
    n, t = x.shape[1:]
    scale = ridge["lambda"] * torch.linalg.vecdot(softened, x).sum(-1) / n
    if n < t:
        gram = softened @ x.mT
        gram.diagonal(dim1=1, dim2=2).add_(scale.unsqueeze(1))
        return originals.baddbmm(softened.mT, torch.cholesky_solve(residual, torch.linalg.cholesky(gram)))
    gram = x.mT @ x
    gram.diagonal(dim1=1, dim2=2).add_(scale.unsqueeze(1) * omega)
    return originals + torch.cholesky_solve(x.mT @ residual, torch.linalg.cholesky(gram))


def compact(job, selection, tile, products="f32"):
    """Slots, biases and values, `[layers, heads, t, ..]`, and seconds by step."""
    clock = {"scores": 0.0, "mask": 0.0, "beta": 0.0, "values": 0.0}
    began = last = time.perf_counter()

    def lap(step):
        nonlocal last
        now = time.perf_counter()
        clock[step] += now - last
        last = now

    layers, heads, slots, d = job.keys.shape
    parts = [observe(job.queries[i], job.keys[i], job.values[i], tile, products) for i in range(layers)]
    maximum, mass, output, scores = (torch.stack(part) for part in zip(*parts))
    lap("scores")
    groups = {"shared": (1, 1), "per-layer": (layers, 1), "per-head": (layers, heads)}[selection]
    wanted = {"shared": (0, 1), "per-layer": (1,), "per-head": ()}[selection]
    mean = scores.mean(wanted, keepdim=True) if wanted else scores
    pooled, kept = select(mean.reshape(-1, slots), job)
    t = kept.shape[1]
    pooled = pooled.gather(1, kept).view(*groups, t).expand(layers, heads, t)
    kept = kept.view(*groups, t).expand(layers, heads, t)
    lap("mask")
    beta, values = [], []
    n = job.queries.shape[2]
    at_once = max(1, GROUP // (heads * n * t))
    for start in range(0, layers, at_once):
        part = slice(start, start + at_once)
        flat = lambda tensor: tensor[part].reshape(-1, *tensor.shape[2:])
        take = lambda tensor: flat(tensor).gather(1, flat(kept).unsqueeze(2).expand(-1, -1, d))
        keys, originals = take(job.keys), take(job.values)
        # The fits are small beside the scores; they stay in f32 whatever those are in.
        logits = torch.bmm(flat(job.queries) / math.sqrt(d), keys.float().mT)
        bias = fit_beta((logits - flat(maximum)).exp_(), flat(mass), job.nnls).to(job.keys.dtype).float()
        beta.append(bias.view(-1, heads, t))
        lap("beta")
        x = torch.softmax(logits.add_(bias.unsqueeze(1)), -1)
        fitted = fit_values(x, flat(output), originals, flat(pooled), job.ridge)
        values.append(fitted.to(job.values.dtype).view(-1, heads, t, d))
        lap("values")
    clock["total"] = time.perf_counter() - began
    return (kept, torch.cat(beta), torch.cat(values)), clock


def compare(job, selection, result):
    """Worst differences to what this library made of the same tensors."""
    kept, beta, values = result
    our_kept, our_beta, our_values = job.ours[selection]
    same = (kept == our_kept).all(-1)
    differing = (~same).sum().item()
    if not same.any():
        return {"heads_that_differ": differing, "beta": math.inf, "values": math.inf, "equal": False}
    off = (values[same].float() - our_values[same].float()).flatten(1).norm(dim=1)
    off = (off / our_values[same].float().flatten(1).norm(dim=1)).max().item()
    beta_off = (beta[same] - our_beta[same]).abs().max().item()
    dtype = job.keys.dtype
    equal = differing == 0 and off <= VALUES_TOLERANCE[dtype] and beta_off <= BETA_TOLERANCE[dtype]
    return {"heads_that_differ": differing, "beta": beta_off, "values": off, "equal": equal}


def fastest_tile(job, products):
    """The tile at which scoring one layer is fastest, each tried twice."""

    def seconds(tile):
        began = time.perf_counter()
        observe(job.queries[0], job.keys[0], job.values[0], tile, products)
        return time.perf_counter() - began

    return min(TILES, key=lambda tile: min(seconds(tile), seconds(tile)))


def run_example(example, flags, threads, *more):
    command = [example, *flags, "--only-ours", *more]
    result = subprocess.run(command, env=os.environ | {"RAYON_NUM_THREADS": str(threads)}, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"compaction.py: {' '.join(map(str, command))}\n{result.stderr}")


def show(label, clocks):
    middle = {step: 1e3 * statistics.median(clock[step] for clock in clocks) for step in clocks[0]}
    totals = [1e3 * clock[which] for which in ("total", "min", "max") for clock in clocks if which in clock]
    steps = "  ".join(f"{step} {middle[step]:.1f}" for step in ("scores", "mask", "beta", "values"))
    print(f"{label:<26}{steps}  total {middle['total']:.1f} ({min(totals):.1f} to {max(totals):.1f}) ms", flush=True)
    return {"median_ms": middle, "min_ms": min(totals), "max_ms": max(totals), "runs": len(clocks)}


def our_clock(report, selection):
    names = {"shared": "shared", "per-layer": "per_layer", "per-head": "per_head"}
    seconds = next(b["seconds"] for b in report["batched"] if b["selection"] == names[selection])
    clock = {step: seconds[step]["median"] for step in ("scores", "mask", "beta", "values", "total")}
    return clock | {which: seconds["total"][which] for which in ("min", "max")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--example", default=ROOT / "target/release/examples/overhead", help="the built example")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3, help="each times torch, then the example, on every selection")
    parser.add_argument("--runs", type=int, default=3, help="compactions of each side in a round")
    parser.add_argument("--tile", type=int, help="elements of logits at once; default: the fastest of a few")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("flags", nargs="*", help="behind --: flags of the example: --shape, --layers, --seq-len, --task-tokens, --keep-ratio, --dtype, --selection")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_grad_enabled(False)
    with tempfile.TemporaryDirectory() as folder:
        tensors, figures = pathlib.Path(folder) / "tensors.safetensors", pathlib.Path(folder) / "figures.json"
        run_example(arguments.example, arguments.flags, arguments.threads, "--runs", "1", "--write-tensors", tensors)
        job = Job(tensors)
        tensors.unlink()
        modes = ["f32", "mixed", "native"] if job.keys.dtype == torch.bfloat16 else ["f32"]
        tiles = {products: arguments.tile or fastest_tile(job, products) for products in modes}
        results = {}
        for selection in job.selections:
            for products in modes:
                result, _ = compact(job, selection, tiles[products], products)
                results[selection, products] = {"check": compare(job, selection, result), "clocks": []}
        ours = {selection: [] for selection in job.selections}
        for _ in range(arguments.rounds):
            for (selection, products), entry in results.items():
                for _ in range(arguments.runs):
                    entry["clocks"].append(compact(job, selection, tiles[products], products)[1])
            run_example(arguments.example, arguments.flags, arguments.threads,
                        "--runs", str(arguments.runs), "--json", figures)
            report = json.loads(figures.read_text())
            for selection in job.selections:
                ours[selection].append(our_clock(report, selection))
    layers, heads, slots, _ = job.keys.shape
    dtype = str(job.keys.dtype).removeprefix("torch.")
    print(f"{layers} layers x {heads} KV heads x {slots} positions, {job.queries.shape[2]} queries, {job.kept_len} kept, "
          f"{dtype}, {arguments.threads} threads, torch {torch.__version__}")
    rows = []
    for selection in job.selections:
        our_figures = show(f"ours {selection}", ours[selection])
        for products in modes:
            entry = results[selection, products]
            label = f"torch {selection}, {products}"
            torch_figures = show(label, entry["clocks"])
            ratio = torch_figures["median_ms"]["total"] / our_figures["median_ms"]["total"]
            check = entry["check"]
            best = torch_figures["min_ms"] / our_figures["min_ms"]
            print(f"  {ratio:.2f}x our time ({best:.2f}x by the fastest runs); results {'equal' if check['equal'] else 'NOT EQUAL'}: "
                  f"{check['heads_that_differ']} heads keep other slots, β off by {check['beta']:.1e}, C2 by {check['values']:.1e}")
            rows.append({"selection": selection, "products": products, "tile": tiles[products], "ours": our_figures,
                         "torch": torch_figures, "ratio": ratio, "ratio_of_fastest": best, "check": check})
    if arguments.json:
        summary = {"layers": layers, "kv_heads": heads, "seq_len": slots, "n_queries": job.queries.shape[2],
                   "kept_len": job.kept_len, "dtype": dtype, "threads": arguments.threads, "torch": torch.__version__,
                   "rows": rows}
        partial = arguments.json.with_suffix(".partial")
        partial.write_text(json.dumps(summary, indent=1) + "\n")
        partial.rename(arguments.json)
    # Upcasting to f32 must agree; products in half precision are shown for what they are.
    if not all(row["check"]["equal"] for row in rows if row["products"] == "f32"):
        sys.exit("compaction.py: results differ, the times are not of the same computation")


if __name__ == "__main__":
    main()
