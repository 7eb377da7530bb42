"""Attention Matching by its authors' own code and by ours, item by item, on real caches.

    git clone https://github.com/adamzweiger/compaction REFERENCE
    pip install torch transformers gguf safetensors accelerate scipy
    python am_reference.py record --model MODEL --data dev.jsonl --ids A,B,C --dir DIR
    python am_reference.py theirs --dir DIR --reference REFERENCE
    python am_reference.py ours --dir DIR --program compacted
    python am_reference.py table --dir DIR

MODEL is a GGUF file or a folder in the Hugging Face layout; a line of the data has an id, a trajectory of parts with their
content, and a task, as `bench logs` reads it. `record` runs the model in f32: the keys and values of the trajectory in some layers, and
three kinds of queries: the task's, those of the trajectory itself (context), and those of the answer that is written
greedily over the full cache. Compactions are made from the first or the second, and measured on the third.

`compacted` is an example of lb-am (cargo build --release -p lb-am --example compacted).

Both sides keep the same number of slots in every head, and everything is measured by the same lines, below. Times are those of the
processor, of one thread: set OMP_NUM_THREADS=1.
"""

import argparse
import json
import math
import os
import pathlib
import resource
import subprocess
import sys
import time

import numpy
from safetensors.numpy import load_file, save_file

KEEP = (0.05, 0.1)
ROWS = ("task", "context")
ANSWER = 64
# As evaluation/configs/algorithms/default.py of the reference has them, without queries on policy, which need the model.
THEIRS = {
    "top": ("HighestAttentionKeysCompaction", dict(score_method="rms", nnls_iters=2, c2_method="lsq"), (-3.0, 3.0)),
    "omp": ("OMPCompaction", dict(nnls_iters=0, c2_method="lsq", drop_key_beta_cutoff=-7), (None, 7.0)),
}
BOUNDS = (-3.0, 3.0)
# What the keys of both sides have in common: the root mean square of attention, no spans, nothing that stays in any case.
PLAIN = {
    "score": "rms",
    "spans": {"max": {"width": 1}},
    "protect": {"first": 0, "last": 0},
    "sharing": "equal",
}
OURS = {
    "top": {"selection": "per-head"},
    "omp": {"selection": "omp"},
    # Rows as in the paper, and with their fit of the values.
    "omp-mass": {"selection": "omp:row_power=0"},
    "omp-lstsq": {"selection": "omp", "values": "least_squares"},
}


# ---------------------------------------------------------------------------------------------------------------------
# What is compacted


def load(path):
    import torch
    import transformers

    where = {"gguf_file": path.name} if path.suffix == ".gguf" else {}
    folder = path.parent if where else path
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **where)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **where)
    return tokenizer, model.eval()


def texts(tokenizer, item):
    """Tokens of the trajectory, and of the task and the beginning of an answer behind it."""
    context = "\n\n".join(part["content"] for part in item["trajectory"])
    mark = "#" * (len(context) + 10)
    message = [{"role": "user", "content": context + mark}]
    head, tail = tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False).split(mark)
    pieces = head, "\n\n" + item["task"] + tail
    return [tokenizer.encode(piece, add_special_tokens=False) for piece in pieces]


class Queries:
    """What each layer asks, after rotation: `[layer]`, each a list of `[heads, tokens, width]` in the order of the passes."""

    def __init__(self, model, layers):
        self.layers = [[] for _ in model.model.layers]
        for layer in layers:
            model.model.layers[layer].self_attn.register_forward_hook(self, with_kwargs=True)

    def __call__(self, module, _, kwargs, __):
        hidden, (cos, sin) = kwargs["hidden_states"], kwargs["position_embeddings"]
        plain = module.q_proj(hidden).view(*hidden.shape[:-1], -1, module.head_dim)
        plain = getattr(module, "q_norm", lambda same: same)(plain).transpose(1, 2)
        half = plain.shape[-1] // 2
        turned = plain.roll(half, -1)
        turned[..., :half] *= -1
        rotated = plain * cos.unsqueeze(1) + turned * sin.unsqueeze(1)
        self.layers[module.layer_idx].append(rotated[0].float().numpy().copy())

    def all(self):
        return numpy.stack([numpy.concatenate(passes, 1) for passes in self.layers if passes])


def record(arguments):
    import torch
    import transformers

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    arguments.dir.mkdir(parents=True, exist_ok=True)
    tokenizer, model = load(arguments.model)
    items = {item["id"]: item for item in map(json.loads, arguments.data.read_text().splitlines())}
    group = model.config.num_attention_heads // model.config.num_key_value_heads
    ends = model.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends, tokenizer.eos_token_id])
    layers = [int(layer) for layer in arguments.layers.split(",")]
    queries = Queries(model, layers)
    for name in arguments.ids.split(","):
        path = arguments.dir / name.replace("#", "-")
        context, task = texts(tokenizer, items[name])
        queries.layers = [[] for _ in queries.layers]
        cache, given, written = transformers.DynamicCache(), context + task, []
        while len(written) < ANSWER:
            out = model(torch.tensor([given]), past_key_values=cache, use_cache=True, logits_to_keep=1)
            token = int(out.logits[0, -1].argmax())
            written.append(token)
            if token in ends:
                break
            given = [token]
        asked, slots = queries.all(), len(context)
        kinds = {
            "context": asked[:, :, :slots],
            "task": asked[:, :, slots : slots + len(task)],
            # The last token of the task is the first to ask for the answer.
            "answer": asked[:, :, slots + len(task) - 1 :],
        }
        tensors = {kind: grouped(rows, group) for kind, rows in kinds.items()}
        for kind in ("keys", "values"):
            rows = [getattr(cache.layers[layer], kind)[0, :, :slots].float().numpy() for layer in layers]
            tensors[kind] = numpy.ascontiguousarray(numpy.stack(rows))
        save_file(tensors, f"{path}.safetensors")
        told = {
            "id": name,
            "slots": slots,
            "task": len(task),
            "answer": tensors["answer"].shape[2] // group,
            "written": tokenizer.decode(written),
            "group": group,
            "layers": layers,
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        }
        print(told, flush=True)
        path.with_suffix(".item").write_text(json.dumps(told))


def grouped(queries, group):
    """[layers, heads, tokens, width] as [layers, KV heads, group * tokens, width]."""
    layers, heads, tokens, width = queries.shape
    return numpy.ascontiguousarray(queries.reshape(layers, heads // group, group * tokens, width))


def items_of(arguments):
    """Name, what was noted and the tensors of each item."""
    for path in sorted(arguments.dir.glob("*.item")):
        if arguments.only and path.stem not in arguments.only.split(","):
            continue
        yield path.stem, json.loads(path.read_text()), load_file(path.with_suffix(".safetensors"))


def jobs_of(told):
    for rows in ROWS:
        for keep in KEEP:
            yield rows, keep, round(keep * told["slots"])


def named(arguments, name, rows, keep, side, method):
    folder = arguments.dir / "made"
    folder.mkdir(exist_ok=True)
    return folder / f"{name}.{rows}.{keep}.{side}.{method}.safetensors"


# ---------------------------------------------------------------------------------------------------------------------
# Their side


def theirs(arguments):
    import torch

    sys.path.insert(0, str(arguments.reference))
    from compaction import algorithms

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    for name, told, tensors in items_of(arguments):
        for rows, keep, count in jobs_of(told):
            for method, (algorithm, settings, (lower, upper)) in THEIRS.items():
                path = named(arguments, name, rows, keep, "theirs", method)
                if path.exists():
                    continue
                bounds = {"nnls_lower_bound": lower and math.exp(lower), "nnls_upper_bound": math.exp(upper)}
                compaction = getattr(algorithms, algorithm)(**settings, **bounds)
                torch.manual_seed(0)
                made, seconds = by_head(compaction, tensors, rows, count)
                save_file({**made, "seconds": numpy.array([seconds])}, path)
                print(path.name, f"{seconds:.1f} s", flush=True)


def by_head(compaction, tensors, rows, count):
    """Each head by itself, as their PerLayerHeadCompaction does it."""
    import torch

    made, seconds = {"slots": [], "bias": [], "values": []}, 0.0
    heads = tensors["keys"].shape[:2]
    for layer in range(heads[0]):
        for head in range(heads[1]):
            keys, values, queries = (torch.from_numpy(tensors[kind][layer, head]) for kind in ("keys", "values", rows))
            begin = time.process_time()
            _, bias, values, slots = compaction.compute_compacted_cache(keys, values, queries, count)
            seconds += time.process_time() - begin
            order = numpy.argsort(slots)
            made["slots"].append(numpy.array(slots, numpy.int64)[order])
            made["bias"].append(bias.numpy()[order])
            made["values"].append(values.numpy()[order])
    # Where dropped keys had no replacement, a head keeps fewer.
    longest = max(map(len, made["slots"]))
    filled = {"slots": -1, "bias": -numpy.inf, "values": 0.0}
    for name, lists in made.items():
        pad = [numpy.pad(x, [(0, longest - len(x))] + [(0, 0)] * (x.ndim - 1), constant_values=filled[name]) for x in lists]
        made[name] = numpy.stack(pad).reshape(*heads, *pad[0].shape)
    return made, seconds


# ---------------------------------------------------------------------------------------------------------------------
# Our side


def ours(arguments):
    settings = json.loads(arguments.settings) if arguments.settings else OURS
    for name, told, tensors in items_of(arguments):
        for rows in ROWS:
            jobs, paths = [], []
            for _, keep, count in filter(lambda job: job[0] == rows, jobs_of(told)):
                for method, setting in settings.items():
                    path = named(arguments, name, rows, keep, "ours", method)
                    given = setting.get("slots")
                    config = {"budget": {"kept_len": count}, **PLAIN, **setting}
                    config.pop("slots", None)
                    job = {"config": config}
                    if given:
                        # The keys of a method of theirs, and our fits.
                        other = load_file(named(arguments, name, rows, keep, "theirs", given))["slots"]
                        job["slots"] = [[[int(slot) for slot in head if slot >= 0] for head in layer] for layer in other]
                    if arguments.again or not path.exists():
                        jobs.append(job)
                        paths.append(path)
            if jobs:
                run(arguments, {**{k: tensors[k] for k in ("keys", "values")}, "queries": tensors[rows]}, told, jobs, paths)


def run(arguments, tensors, told, jobs, paths):
    folder = arguments.dir / "job"
    folder.mkdir(exist_ok=True)
    save_file({name: numpy.ascontiguousarray(rows) for name, rows in tensors.items()}, folder / "cache.safetensors")
    command = [arguments.program, folder / "cache.safetensors", str(told["group"]), folder / "jobs.json", folder]
    for job, path in zip(jobs, paths):
        (folder / "jobs.json").write_text(json.dumps([job]))
        before = used()
        subprocess.run(command, check=True, env={**os.environ, "RAYON_NUM_THREADS": "1"})
        # Reading the tensors is in it.
        seconds = used() - before
        made = load_file(folder / "0.safetensors")
        made["slots"] = made["slots"].astype(numpy.int32).astype(numpy.int64)
        made["bias"] = numpy.where(made["slots"] < 0, -numpy.inf, made["bias"]).astype(numpy.float32)
        save_file({**made, "seconds": numpy.array([seconds])}, path)
        print(path.name, f"{seconds:.1f} s", flush=True)


def used():
    """Seconds of the processor that programs called from here have taken."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


# ---------------------------------------------------------------------------------------------------------------------
# What both are worth


def weights(queries, keys):
    """exp of the logits less the row's maximum, and the maximum."""
    logits = queries.astype(numpy.float64) @ keys.astype(numpy.float64).T / math.sqrt(keys.shape[1])
    largest = logits.max(1, keepdims=True)
    return numpy.exp(logits - largest), largest


def measured(tensors, rows, made, bounds, solve):
    """Of each head: error of output and mass on the answer's queries, objective of the biases and its bounded optimum."""
    layers, heads = tensors["keys"].shape[:2]
    found = []
    for layer in range(layers):
        for head in range(heads):
            keys, values = tensors["keys"][layer, head], tensors["values"][layer, head].astype(numpy.float64)
            slots = made["slots"][layer, head]
            live = slots >= 0
            slots, bias = slots[live], made["bias"][layer, head][live].astype(numpy.float64)
            kept = made["values"][layer, head][live].astype(numpy.float64)
            full, _ = weights(tensors["answer"][layer, head], keys)
            less = full[:, slots] * numpy.exp(bias)
            output = full @ values / full.sum(1, keepdims=True)
            other = less @ kept / less.sum(1, keepdims=True)
            one = {
                "error": numpy.linalg.norm(other - output) / numpy.linalg.norm(output),
                "squared": numpy.square(other - output).sum(),
                "norm": numpy.square(output).sum(),
                "mass": numpy.abs(less.sum(1) / full.sum(1) - 1).mean(),
                "kept": len(slots),
            }
            if solve:
                train, _ = weights(tensors[rows][layer, head], keys)
                one |= objective(train[:, slots], train.sum(1), bias, bounds)
            found.append(one)
    return found


def objective(columns, mass, bias, bounds):
    """That of the biases over the norm of the mass, and its optimum within bounds, by an active set on the triangle of a QR."""
    from scipy.optimize import lsq_linear

    triangle, right = numpy.linalg.qr(numpy.column_stack([columns, mass]), mode="r"), None
    t = columns.shape[1]
    if len(triangle) > t:
        triangle, right, rest = triangle[:t, :t], triangle[:t, t], triangle[t, t] ** 2
    else:
        triangle, right, rest = triangle[:, :t], triangle[:, t], 0.0
    lower, upper = (0.0 if bounds[0] is None else math.exp(bounds[0])), math.exp(bounds[1])
    size = numpy.linalg.norm(triangle, axis=0).clip(1e-300)
    answer = lsq_linear(triangle / size, right, (lower * size, upper * size), method="bvls", tol=1e-13, max_iter=20 * t)
    norm = numpy.square(mass).sum()
    before = numpy.square(columns @ numpy.exp(bias) - mass).sum()
    return {"fit": before / norm, "optimum": (2 * answer.cost + rest) / norm}


def table(arguments):
    results = json.loads((arguments.dir / "results.json").read_text()) if (arguments.dir / "results.json").exists() else {}
    for name, told, tensors in items_of(arguments):
        for rows, keep, _ in jobs_of(told):
            made = {}
            pattern = f"{name}.{rows}.{keep}.*.safetensors"
            for path in sorted((arguments.dir / "made").glob(pattern)):
                side, method = path.name.removesuffix(".safetensors").rsplit(".", 2)[1:]
                made[side, method] = load_file(path)
                key = f"{name}|{rows}|{keep}|{side}|{method}"
                if key in results and results[key]["made"] == path.stat().st_mtime:
                    continue
                bounds = THEIRS[method][2] if side == "theirs" else BOUNDS
                heads = measured(tensors, rows, made[side, method], bounds, not arguments.no_optimum)
                results[key] = {"made": path.stat().st_mtime, "seconds": float(made[side, method]["seconds"][0]), **mean(heads)}
            for method in ("top", "omp"):
                if {("theirs", method), ("ours", method)} <= made.keys():
                    both = overlap(made["theirs", method]["slots"], made["ours", method]["slots"])
                    results[f"{name}|{rows}|{keep}|ours|{method}"]["overlap"] = both
        (arguments.dir / "results.json").write_text(json.dumps(results, indent=1))
    show(arguments, results)


def mean(heads):
    out = {name: float(numpy.mean([head[name] for head in heads])) for name in ("error", "mass", "kept")}
    out["pooled"] = math.sqrt(sum(head["squared"] for head in heads) / sum(head["norm"] for head in heads))
    if "fit" in heads[0]:
        fit, optimum = (numpy.array([head[name] for head in heads]) for name in ("fit", "optimum"))
        out |= {"fit": float(fit.mean()), "optimum": float(optimum.mean())}
        # Rounding of f32 is left out of what a fit may be above its optimum.
        above = (fit - optimum) / numpy.maximum(optimum, 1e-9)
        out |= {"above": float(fit.mean() / max(optimum.mean(), 1e-9) - 1), "above_most": float(above.max())}
    return out


def overlap(some, others):
    pairs = [(set(a[a >= 0].tolist()), set(b[b >= 0].tolist())) for a, b in zip(some.reshape(-1, some.shape[2]), others.reshape(-1, others.shape[2]))]
    return sum(len(a & b) for a, b in pairs) / sum(max(len(a), len(b)) for a, b in pairs)


FIGURES = {
    "error of the output, mean over heads": lambda r: f"{r['error']:.3f}",
    "error of the mass": lambda r: f"{r['mass']:.3f}",
    "objective of the biases above its optimum within the bounds, all heads together (the worst head)": lambda r: (
        f"{r['above']:.1%} ({r['above_most']:.1%})"
    ),
    "seconds": lambda r: f"{r['seconds']:.1f}",
}


def show(arguments, results):
    columns = [tuple(column.split(":")) for column in arguments.columns.split(",")]
    for rows in ROWS:
        for keep in KEEP:
            found = {}
            for key, figures in results.items():
                name, *job, side, method = key.split("|")
                if job == [rows, str(keep)]:
                    found.setdefault(name, {})[side, method] = figures
            for figure, cell in FIGURES.items():
                if "optimum" in figure and arguments.no_optimum:
                    continue
                print(f"\n{rows} queries, {keep:.0%}: {figure}\n")
                print("| item | " + " | ".join(" ".join(column) for column in columns) + " | slots of OMP alike |")
                print("|---|" + "---|" * (len(columns) + 1))
                for name, made in found.items():
                    cells = [cell(made[column]) if column in made else "" for column in columns]
                    alike = made.get(("ours", "omp"), {}).get("overlap")
                    print(f"| {name} | " + " | ".join(cells) + f" | {'' if alike is None else format(alike, '.0%')} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("record")
    one.add_argument("--model", type=pathlib.Path, required=True)
    one.add_argument("--data", type=pathlib.Path, required=True)
    one.add_argument("--ids", required=True)
    one.add_argument("--layers", default="4,10,16,22", help="spread over the depth of the model")
    two = commands.add_parser("theirs")
    two.add_argument("--reference", type=pathlib.Path, required=True)
    three = commands.add_parser("ours")
    three.add_argument("--program", required=True)
    three.add_argument("--settings", help="other settings, as JSON: of each name what differs from the plain ones")
    three.add_argument("--again", action="store_true")
    four = commands.add_parser("table")
    four.add_argument("--no-optimum", action="store_true", help="skip what takes longest")
    four.add_argument("--columns", default="theirs:top,ours:top,theirs:omp,ours:omp")
    for command in (one, two, three, four):
        command.add_argument("--dir", type=pathlib.Path, required=True)
        command.add_argument("--only", help="of which items, by the names of their files")
    arguments = parser.parse_args()
    {"record": record, "theirs": theirs, "ours": ours, "table": table}[arguments.command](arguments)


if __name__ == "__main__":
    main()
