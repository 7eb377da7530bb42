"""Which slots kvpress keeps of a real cache, and which of them our selections keep of the same keys, values and queries.

    pip install kvpress gguf safetensors
    python kvpress_slots.py record --model MODEL --data dev.jsonl --ids A,B,C --dir DIR
    python kvpress_slots.py compare --dir DIR --program latent-briefing --slots slots

MODEL is a GGUF file or a folder in the Hugging Face layout; a line of the data has an id, a trajectory of parts with their
content, and a task, as `bench logs` reads it. `record` runs the model and kvpress and writes tensors and kept slots into
DIR; `compare` needs neither. `slots` is an example of lb-am (cargo build --release -p lb-am --example slots) for settings
that `latent-briefing compact` has no flags for, and for queries that it does not read.

off: the context alone is compressed. on: the task stands behind it and is compressed with it. A press that looks from a
window takes the last WINDOW tokens (off) or those of the task (on) and keeps them; we get the cache before the window, the
window's queries, and as many slots as theirs keeps besides. Only these count.
"""

import argparse
import contextlib
import dataclasses
import json
import pathlib
import subprocess

import numpy
from safetensors.numpy import load_file, save_file

KEEP = (0.1, 0.05, 0.02)
WINDOW = 8
# Of kvpress, where nothing else is said.
SINKS, SAFE, FIRST_STAGE = 4, 0.2, 0.5


@dataclasses.dataclass
class Case:
    """A press, and the settings of ours that should mean the same."""

    name: str
    # Of the presses module, with its arguments, from the ratio that is removed and the window.
    press: object
    selection: str
    # Slots at the end that theirs keeps in any case: "window", "wide" (64) or a number.
    last: object = 0
    first: int = 0
    spans: int = 1
    sharing: object = None
    # Which queries of the context we read: "rotated" as the model has them, "averaged" as ExpectedAttentionPress has them.
    context: str = ""
    # What is taken out of theirs for the second column: names of `taken_out`.
    without: tuple = ()
    observed: bool = False


def snapkv(kernel):
    return lambda k, ratio, w: k.SnapKVPress(ratio, window_size=w, kernel_size=kernel)


def finch(k, ratio, w):
    press = k.FinchPress(ratio, rerotate_keys=False)
    press.window_size = w
    return press


def first_stage(keep, slots, kept, w):
    """Of what competes, the share that the first stage of CriticalKVPress takes."""
    return (max(int(keep * slots * FIRST_STAGE) - w, 0) + 0.5) / (kept - w)


def safeguard(keep, slots, kept, w):
    """Of what competes, the share that AdaKVPress leaves to each head."""
    return max(int(kept * SAFE) - w, 0) / (kept - w)


OWN, NORM = "own keys", "projection"
CASES = [
    Case("streaming", lambda k, r, w: k.StreamingLLMPress(r, n_sink=SINKS), "streaming:sinks=4"),
    Case("key-norm", lambda k, r, w: k.KnormPress(r), "key-norm"),
    Case("keydiff", lambda k, r, w: k.KeyDiffPress(r), "keydiff"),
    Case("snapkv", snapkv(1), "snapkv:window={w},pool=1", "window", without=(OWN,)),
    Case("snapkv, both by the mean of 5", snapkv(5), "snapkv:window={w},pool=1", "window", spans=5, without=(OWN,)),
    Case("snapkv, mean of 5, ours largest of 7", snapkv(5), "snapkv:window={w},pool=7", "window"),
    Case("snapkv, mean of 5, window of 64", snapkv(5), "snapkv:window={w},pool=1", "wide", spans=5, without=(OWN,)),
    Case(
        "pyramidkv, steepness 2",
        lambda k, r, w: k.PyramidKVPress(r, window_size=w, kernel_size=1, beta=2),
        "pyramidkv:window={w},pool=1,steepness=2",
        "window",
        without=(OWN,),
    ),
    Case("tova", lambda k, r, w: k.TOVAPress(r), "tova", 1, without=(OWN,)),
    Case("finch", finch, "finch", "window", without=(OWN,)),
    Case(
        "critical-kv",
        lambda k, r, w: k.CriticalKVPress(snapkv(1)(k, r, w)),
        "critical-kv:first={first}",
        "window",
        without=(OWN, NORM),
    ),
    Case(
        "per-head, shared out in a layer (AdaKV)",
        lambda k, r, w: k.AdaKVPress(snapkv(1)(k, r, w)),
        "per-head",
        "window",
        sharing="layer",
        without=(OWN,),
    ),
    Case(
        "h2o:recent=0 (ObservedAttention)",
        lambda k, r, w: k.ObservedAttentionPress(r),
        "h2o:recent=0",
        context="rotated",
        observed=True,
        without=("mean over queries",),
    ),
    Case(
        "expected-attention",
        lambda k, r, w: k.ExpectedAttentionPress(r, n_sink=SINKS),
        "expected-attention",
        first=SINKS,
        context="rotated",
    ),
    Case(
        "expected-attention, queries averaged over 512 positions",
        lambda k, r, w: k.ExpectedAttentionPress(r, n_sink=SINKS),
        "expected-attention",
        first=SINKS,
        context="averaged",
    ),
]
# KVzipPress runs the model itself, so it is no case of those above. It goes by the context alone.
ZIPPED = [
    Case("kvzip, shared out among all", None, "kvzip", sharing="all", without=(OWN,)),
    Case("kvzip, shared out in a layer", None, "kvzip", sharing="layer", without=(OWN,)),
]


def window_of(case, question):
    return {"window": question or WINDOW, "wide": 64}.get(case.last, case.last)


# ---------------------------------------------------------------------------------------------------------------------
# kvpress's side


@contextlib.contextmanager
def replaced(owner, name, value):
    before = owner.__dict__[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextlib.contextmanager
def taken_out(names, kvpress):
    """kvpress with a part of a method as ours has it."""
    import torch

    snap, critical, observed = kvpress.SnapKVPress, kvpress.CriticalKVPress, kvpress.ObservedAttentionPress
    seen, mean, zipped = snap.compute_window_attention, observed.score, kvpress.KVzipPress._compute_cross_attention

    def over_the_prefix(*arguments):
        weights = seen(*arguments)
        return weights / weights.sum(-1, keepdim=True)

    def over_the_chunk(self, *arguments):
        weights = zipped(self, *arguments)
        sink = min(self.n_sink, self.start_idx)
        chunk = slice(sink, sink + self.end_idx - self.start_idx)
        weights[..., chunk] /= weights[..., chunk].sum(-1, keepdim=True)
        return weights

    def sums(*arguments):
        scores = mean(*arguments)
        return scores * torch.arange(scores.shape[-1], 0, -1)

    with contextlib.ExitStack() as stack:
        if OWN in names:
            stack.enter_context(replaced(snap, "compute_window_attention", staticmethod(over_the_prefix)))
            stack.enter_context(replaced(kvpress.KVzipPress, "_compute_cross_attention", over_the_chunk))
        if NORM in names:
            plain = staticmethod(lambda values, module: values.abs().sum(-1))
            stack.enter_context(replaced(critical, "vwl1norm", plain))
        if "mean over queries" in names:
            stack.enter_context(replaced(observed, "score", sums))
        yield


def places(keys):
    """Where each key stands, head by head; no two are alike."""
    return [{row.tobytes(): slot for slot, row in enumerate(rows)} for rows in keys[0].numpy()]


def slots_of(where, kept):
    """The slots of the keys that stayed: they are copied bit for bit."""
    return [sorted(where[row.tobytes()] for row in rows) for where, rows in zip(where, kept[0].numpy())]


def unmasked(module, heads, slots):
    """What AdaKVPress and KVzipPress leave: they say which slots are masked."""
    _, masked_heads, masked_slots = module.masked_key_indices
    kept = numpy.ones((heads, slots), bool)
    kept[masked_heads.numpy(), masked_slots.numpy()] = False
    module.masked_key_indices = None
    return [numpy.flatnonzero(row).tolist() for row in kept]


class Recorder:
    """Calls every press with what each attention layer has read, cut to the length of each mode."""

    def __init__(self, kvpress, model, lengths):
        self.kvpress, self.model, self.lengths = kvpress, model, lengths
        self.tensors = {}
        self.kept = {}
        # Tokens before the context proper, which KVzipPress does not score.
        self.prefix = 0

    def add(self, name, tensor):
        self.tensors.setdefault(name, []).append(tensor[0].float().contiguous().numpy())

    def __call__(self, module, _, kwargs, output):
        from kvpress.utils import get_prerope_query_states
        from transformers.models.llama.modeling_llama import rotate_half

        hidden = kwargs["hidden_states"]
        layer = kwargs["past_key_values"].layers[module.layer_idx]
        cos, sin = kwargs["position_embeddings"]
        plain = get_prerope_query_states(module, hidden)
        rotated = plain * cos.unsqueeze(1) + rotate_half(plain) * sin.unsqueeze(1)
        if layer.keys.shape[2] > hidden.shape[1]:
            self.add("repeat", rotated)
            return
        self.add("keys", layer.keys)
        self.add("values", layer.values)
        self.add("queries", rotated)
        self.where = places(layer.keys)
        for mode, (slots, question) in self.lengths.items():
            press = self.kvpress.ExpectedAttentionPress(n_sink=SINKS)
            averaged, _ = press.apply_avg_rope(module, plain[:, :, :slots], None, slots)
            self.add("averaged-" + mode, averaged)
            cut = {**kwargs, "position_embeddings": (cos[:, :slots], sin[:, :slots])}
            given = hidden[:, :slots], layer.keys[:, :, :slots], layer.values[:, :, :slots]
            for case in CASES:
                w = window_of(case, question)
                attention = output[1][..., :slots, :slots] if case.observed else None
                for out in {(), case.without}:
                    for keep in KEEP:
                        with taken_out(out, self.kvpress):
                            lists = self.pressed(case.press(self.kvpress, 1 - keep, w), module, *given, attention, cut)
                        key = mode, case.name, bool(out), keep
                        self.kept.setdefault(key, []).append(lists)

    def pressed(self, press, module, hidden, keys, values, attention, kwargs):
        with replaced_config(module.config):
            # AdaKVPress refuses a model of eager attention, which it cannot mask later. Nothing is masked here.
            kept, _ = press.compress(module, hidden, keys, values, attention, kwargs)
        if getattr(module, "masked_key_indices", None) is not None:
            return unmasked(module, keys.shape[1], keys.shape[2])
        return slots_of(self.where, kept)


@contextlib.contextmanager
def replaced_config(config):
    before = config._attn_implementation
    config._attn_implementation = "sdpa"
    try:
        yield
    finally:
        config._attn_implementation = before


def load(path):
    import torch
    import transformers

    where = {"gguf_file": path.name} if path.suffix == ".gguf" else {}
    folder = path.parent if where else path
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **where)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **where)
    return tokenizer, model.eval()


def texts(tokenizer, item):
    """Tokens of the context, as kvpress's pipeline has them, and of the task behind it."""
    context = "\n\n".join(part["content"] for part in item["trajectory"])
    mark = "#" * (len(context) + 10)
    whole = tokenizer.apply_chat_template(
        [{"role": "user", "content": context + mark}], add_generation_prompt=True, tokenize=False
    )
    tokens = [tokenizer.encode(text, add_special_tokens=False) for text in (whole.split(mark)[0], "\n\n" + item["task"])]
    return tokens


@contextlib.contextmanager
def hooked(model, hook):
    for layer in model.model.layers:
        layer.self_attn.rotary_emb = model.model.rotary_emb
    handles = [layer.self_attn.register_forward_hook(hook, with_kwargs=True) for layer in model.model.layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def record(arguments):
    import kvpress
    import torch
    import transformers

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    arguments.dir.mkdir(parents=True, exist_ok=True)
    tokenizer, model = load(arguments.model)
    # KVzipPress loads the tokenizer once more, from where the model says that it comes from.
    tokenizer.save_pretrained(arguments.dir / "tokenizer")
    model.config.name_or_path = model.config._name_or_path = str(arguments.dir / "tokenizer")
    items = {item["id"]: item for item in map(json.loads, arguments.data.read_text().splitlines())}
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    group = model.config.num_attention_heads // model.config.num_key_value_heads
    for name in arguments.ids.split(","):
        context, task = texts(tokenizer, items[name])
        both = torch.tensor([context + task])
        lengths = {"off": (len(context), 0), "on": (len(context) + len(task), len(task))}
        print(name, lengths, flush=True)
        recorder = Recorder(kvpress, model, lengths)
        model.set_attn_implementation("eager")
        with hooked(model, recorder):
            model.model(input_ids=both, past_key_values=transformers.DynamicCache())
        write(arguments.dir / name, recorder, lengths, group, versions)
        print("presses", flush=True)

        model.set_attn_implementation("sdpa")
        recorder = Recorder(kvpress, model, {})
        cache = transformers.DynamicCache()
        press = zipping(kvpress, recorder, len(context))
        with hooked(model, recorder), press(model):
            model.model(input_ids=both[:, : len(context)], past_key_values=cache)
        write(arguments.dir / (name + "-zip"), recorder, {"off": (len(context), 0)}, group, versions)
        print("kvzip", flush=True)


def zipping(kvpress, recorder, slots):
    """A KVzipPress that scores in both ways and says what it would leave at every ratio."""
    press = kvpress.KVzipPress(1 - KEEP[0])
    score, cut = press.score_kvzip, press.compress_post
    others = []

    def score_twice(*arguments):
        if not others:
            others.append(press.score_val.clone())
        mine = press.score_val
        press.score_val = others[0]
        with taken_out((OWN,), kvpress):
            score(*arguments)
        press.score_val = mine
        return score(*arguments)

    def every_ratio(model):
        recorder.prefix = press.prefix_length
        modules = [layer.self_attn for layer in model.model.layers]
        for out, press.score_val in ((False, press.score_val), (True, others[0])):
            for case in ZIPPED:
                for keep in KEEP:
                    press.compression_ratio, press.layerwise = 1 - keep, case.sharing == "layer"
                    cut(model)
                    heads = model.config.num_key_value_heads
                    lists = [unmasked(module, heads, slots) for module in modules]
                    recorder.kept["off", case.name, out, keep] = lists

    press.score_kvzip, press.compress_post = score_twice, every_ratio
    return press


def write(path, recorder, lengths, group, versions):
    tensors = {name: numpy.ascontiguousarray(numpy.stack(layers)) for name, layers in recorder.tensors.items()}
    save_file(tensors, f"{path}.safetensors")
    kept = [[*key, lists] for key, lists in recorder.kept.items()]
    told = {"lengths": lengths, "group": group, "prefix": recorder.prefix, "versions": versions, "kept": kept}
    pathlib.Path(f"{path}.json").write_text(json.dumps(told))


# ---------------------------------------------------------------------------------------------------------------------
# Our side


def grouped(queries, group):
    """[layers, heads, tokens, width] as [layers, KV heads, group * tokens, width]."""
    layers, heads, tokens, width = queries.shape
    return numpy.ascontiguousarray(queries.reshape(layers, heads // group, group * tokens, width))


class Ours:
    """Our program on one cut of a cache."""

    def __init__(self, arguments, group, tensors):
        self.arguments, self.group = arguments, group
        self.cache, self.out = arguments.dir / "cut.safetensors", arguments.dir / "kept.safetensors"
        save_file(tensors, self.cache)

    def kept(self, jobs):
        """Slots `[layer][head]` of every job `(selection, count, spans, sharing)`."""
        plain = [self.by_program(*job) if self.has_flags(job) else None for job in jobs]
        others = [job for job, done in zip(jobs, plain) if done is None]
        rest = iter(self.by_example(others) if others else [])
        return [done if done is not None else next(rest) for done in plain]

    @staticmethod
    def has_flags(job):
        selection, _, spans, sharing = job
        needs_more = selection.startswith(("h2o", "expected-attention", "kvzip"))
        return spans == 1 and sharing is None and not needs_more

    def by_program(self, selection, count, _, __):
        flags = f"--score mean --pool 1 --sinks 0 --beta zero --values direct --group-size {self.group} --kept-len {count}"
        files = ["--input", str(self.cache), "--output", str(self.out), "--selection", selection]
        subprocess.run([self.arguments.program, "compact", *files, *flags.split()], check=True, stdout=subprocess.DEVNULL)
        indices = load_file(self.out)["indices"]
        return [[[int(slot) for slot in head if slot >= 0] for head in layer] for layer in indices]

    def by_example(self, jobs):
        settings = [
            {
                "budget": {"kept_len": count},
                "selection": selection,
                "score": "mean",
                "spans": {"mean": {"width": spans}},
                "protect": {"first": 0, "last": 0},
                "sharing": sharing,
            }
            for selection, count, spans, sharing in jobs
        ]
        asked, answer = self.arguments.dir / "settings.json", self.arguments.dir / "slots.json"
        asked.write_text(json.dumps(settings))
        subprocess.run([self.arguments.slots, self.cache, str(self.group), asked, answer], check=True)
        return json.loads(answer.read_text())


def compare(arguments):
    counted = {}
    for told in sorted(arguments.dir.glob("*.json")):
        if told.with_suffix(".safetensors").exists():
            one_item(arguments, json.loads(told.read_text()), load_file(told.with_suffix(".safetensors")), counted)
    show(counted)
    rows = [[*key, *value] for key, value in counted.items()]
    (arguments.dir / "overlap.json").write_text(json.dumps(rows))


def one_item(arguments, told, tensors, counted):
    theirs = {(mode, name, out, keep): lists for mode, name, out, keep, lists in told["kept"]}
    group, names = told["group"], {key[1] for key in theirs}
    for mode, (slots, question) in told["lengths"].items():
        cuts = {}
        for case in CASES + ZIPPED:
            first = told["prefix"] if case in ZIPPED else case.first
            if case.name in names:
                cuts.setdefault((first, window_of(case, question), case.context), []).append(case)
        for (first, last, context), cases in cuts.items():
            end = slots - last
            jobs, compared = [], []
            for case in cases:
                for keep in KEEP:
                    lists = theirs[mode, case.name, False, keep]
                    kept = sum(len(head) for layer in lists for head in layer)
                    kept //= len(lists) * len(lists[0])
                    variants = [(out, inside(theirs.get((mode, case.name, out, keep)), first, end)) for out in (False, True)]
                    rows = [row for layer in variants[0][1] for row in layer]
                    count = round(sum(map(len, rows)) / len(rows))
                    if count < 1:
                        continue
                    given = keep, slots, kept, last
                    selection = case.selection.format(w=last, first=first_stage(*given) if kept > last else 0)
                    floor = safeguard(*given) if case not in ZIPPED and kept > last else 0
                    sharing = {case.sharing: {"floor": floor}} if case.sharing else None
                    jobs.append((selection, count, case.spans, sharing))
                    compared.append(((mode, case.name, keep), variants))
            if not jobs:
                continue
            cut = {name: numpy.ascontiguousarray(tensors[name][:, :, first:end]) for name in ("keys", "values")}
            cut["queries"] = grouped(tensors["queries"][:, :, slots - max(last, 1) : slots], group)
            if context:
                source = tensors["queries" if context == "rotated" else "averaged-" + mode]
                cut["context"] = grouped(source[:, :, first:end], group)
            if "repeat" in tensors:
                cut["repeat"] = grouped(tensors["repeat"], group)
            for ours, (key, variants) in zip(Ours(arguments, group, cut).kept(jobs), compared):
                for out, lists in variants:
                    if lists is not None:
                        tally(counted, (*key, out), ours, lists, first)


def inside(lists, first, end):
    """Of kept slots, those that competed."""
    return lists and [[[slot for slot in head if first <= slot < end] for head in layer] for layer in lists]


def tally(counted, key, ours, theirs, first):
    both = mine = others = shorter = 0
    for layer, other_layer in zip(ours, theirs, strict=True):
        for head, other in zip(layer, other_layer, strict=True):
            both += len({slot + first for slot in head} & set(other))
            mine, others = mine + len(head), others + len(other)
            shorter += min(len(head), len(other))
    before = counted.get(key, (0, 0, 0, 0, 0))
    counted[key] = tuple(a + b for a, b in zip(before, (both, mine, others, shorter, 1)))


def show(counted):
    for mode, title in (("off", "the context alone"), ("on", "the task compressed with it")):
        print(f"\nquery_aware {mode}: {title}. In %, of the slots that compete; (n) where n items had such slots.\n")
        print("| | " + " | ".join([f"{keep:.0%}" for keep in KEEP] * 2) + " | taken out |")
        print("|---|" + "---|" * (2 * len(KEEP) + 1))
        most = max(value[4] for key, value in counted.items())
        for case in CASES + ZIPPED:
            cells = []
            for out in (False, True):
                for keep in KEEP:
                    both, mine, others, shorter, items = counted.get((mode, case.name, keep, out), (0,) * 5)
                    text = f"{100 * both / max(mine, others):.1f}" if both else ""
                    if shorter < 0.99 * others:
                        text += f" [{100 * both / shorter:.1f}]"
                    cells.append(text + (f" ({items})" if both and items < most else ""))
            print(f"| {case.name} | " + " | ".join(cells) + f" | {', '.join(case.without)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("record")
    one.add_argument("--model", type=pathlib.Path, required=True)
    one.add_argument("--data", type=pathlib.Path, required=True)
    one.add_argument("--ids", required=True)
    two = commands.add_parser("compare")
    two.add_argument("--program", required=True)
    two.add_argument("--slots", required=True)
    for command in (one, two):
        command.add_argument("--dir", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    {"record": record, "compare": compare}[arguments.command](arguments)


if __name__ == "__main__":
    main()
