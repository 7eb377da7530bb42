"""Trains the built-in worker: a small Qwen3ForCausalLM that answers questions about an orchestrator's log.

    cargo build --release -p lb-eval --example lb-episodes
    python tools/train-worker/train.py --out runs/worker --minutes 60

Resumes from OUT/last.pt. Writes OUT/log.jsonl (learning curve) and OUT/worker/ (Hugging Face layout, bf16).
See README.md beside this file.
"""

import argparse
import copy
import json
import os
import random
import subprocess
import time
from collections import defaultdict
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from tokenizers import Tokenizer
from transformers import Qwen3Config, Qwen3ForCausalLM

import attention
import tokenizer as bpe
from data import Batch, Episodes, bound_row, drill_row, episode_row, line_text, recall_row

# Words of log. The first lessons are plain: one sentence pattern a relation, nothing but facts.
PLAIN = [14, 28, 56, 112, 224]
LEVELS = PLAIN + [30, 60, 120, 240, 480, 900, 1500, 2200]
# Lessons of one kind of question each, with a length of their own: (plain, words of log).
LESSONS = [(True, 24), (True, 48), (True, 96), (False, 40), (False, 80), (False, 160), (False, 320), (False, 640)]
KINDS = ["two-hop", "corrected", "count", "comparison"]
# Random-token drills in joining, with the number of pairs of their own.
DRILLS = ["hops", "comparing", "counting"]
DRILL_PAIRS = [3, 5, 8, 12, 20]
EVAL = [("512-2048 tokens", (285, 1080)), ("2048-4096 tokens", (1100, 2150))]
EVAL_SEED = 900_000_000
# Accuracy of one-token recall at which episodes take over; more is slow to come and not needed.
RECALLED = 0.8
# Recall at a distance, stage by stage: pairs, tokens a key, tokens between key and value.
BOUND = [([4, 8], [1], 2), ([8, 16], [1], 4), ([8, 16], [1, 2], 4), ([8, 16, 32], [1, 2], 8)]


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=Path("runs/worker"))
    p.add_argument("--episodes", default="target/release/examples/lb-episodes", help="the generator's binary")
    p.add_argument("--minutes", type=float, default=60, help="whole training, earlier runs counted in")
    p.add_argument("--tokens", type=int, default=7000, help="tokens a batch")
    p.add_argument("--lr", type=float, default=3e-3)
    p.add_argument("--decay-from", type=float, default=0.3, help="share of the time after which the rate falls to 0")
    p.add_argument("--layers", type=int, default=6)
    p.add_argument("--hidden", type=int, default=192)
    p.add_argument("--intermediate", type=int, default=480)
    p.add_argument("--heads", type=int, default=6)
    p.add_argument("--kv-heads", type=int, default=3)
    p.add_argument("--vocab", type=int, default=1536)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--device", default="cpu")
    p.add_argument("--start-from", type=Path, help="a last.pt whose weights to begin with; may have fewer layers")
    p.add_argument("--start-level", type=int, help="length to start or go on with, an index into LEVELS")
    p.add_argument("--pass-at", type=float, default=0.8, help="one-hop accuracy at which logs grow longer")
    p.add_argument("--lessons", type=float, default=0.5, help="share of batches that teach one kind of question")
    p.add_argument("--drills", type=float, default=0.3, help="share of batches that are random-token drills in joining")
    p.add_argument("--hint-weight", type=float, default=0.5, help="of the loss on the steps to an answer")
    p.add_argument("--eval-minutes", type=float, default=8)
    p.add_argument("--questions", type=int, default=28, help="questions per log in training")
    return p.parse_args()


def load_tokenizer(args):
    path = args.out / "worker" / "tokenizer.json"
    if not path.exists():
        texts = []
        command = [args.episodes, "--split", "train", "--seed", "500000000", "--count", "8000", "--max-words", "400",
                   "--questions", "20"]
        for row in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines():
            episode = json.loads(row)
            texts += [line_text(line) for line in episode["lines"]]
            texts += [f"Task: {q['text']}" for q in episode["questions"]] + [q["answer"] for q in episode["questions"]]
        bpe.save(bpe.build(texts, args.vocab), args.out / "worker")
    return Tokenizer.from_file(str(path))


def new_model(args, tok):
    config = Qwen3Config(
        vocab_size=tok.get_vocab_size(), hidden_size=args.hidden, intermediate_size=args.intermediate,
        num_hidden_layers=args.layers, num_attention_heads=args.heads, num_key_value_heads=args.kv_heads, head_dim=64,
        max_position_embeddings=8192, rope_theta=10000.0, tie_word_embeddings=True, attention_dropout=0.0,
        eos_token_id=tok.token_to_id("<|im_end|>"), bos_token_id=None, pad_token_id=tok.token_to_id("<|endoftext|>"),
            )
    config._attn_implementation = "briefing"
    model = Qwen3ForCausalLM(config)
    for name, weight in model.named_parameters():
        # Gains of 1 bound the attention logits by about sqrt(head_dim); they cannot sharpen in time.
        if name.endswith(("q_norm.weight", "k_norm.weight")):
            torch.nn.init.constant_(weight, 1.5)
    return model


def optimisers(model, lr):
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    sharp = [p for n, p in model.named_parameters() if n.endswith(("q_norm.weight", "k_norm.weight"))]
    norms = [p for n, p in model.named_parameters() if p.ndim == 1 and not n.endswith(("q_norm.weight", "k_norm.weight"))]
    embed = [p for n, p in model.named_parameters() if "embed" in n]
    muon = torch.optim.Muon(matrices, lr=lr, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    groups = [{"params": embed, "lr": lr}, {"params": norms, "lr": lr}, {"params": sharp, "lr": 3 * lr}]
    adam = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0)
    for optimiser in (muon, adam):
        for group in optimiser.param_groups:
            group["peak"] = group["lr"]
    return muon, adam


def grown(old, new, layers):
    """Weights for a deeper model that computes what the old one does: new layers, copies of their neighbours whose outputs
    start at zero, stand before the last. Embeddings beyond the vocabulary are left out."""
    had = 1 + max(int(name.split(".")[2]) for name in old if name.startswith("model.layers."))
    source = list(range(had - 1)) + [had - 1 - (layers - had - i) % 2 for i in range(layers - had)] + [had - 1]
    fresh = range(had - 1, layers - 1)
    for name, weight in new.items():
        parts = name.split(".")
        if name.startswith("model.layers."):
            layer = int(parts[2])
            weight.copy_(old[".".join(["model.layers", str(source[layer]), *parts[3:]])])
            if layer in fresh and name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.zero_()
        else:
            weight.copy_(old[name][: weight.shape[0]])
    return new


def forward(model, batch, device):
    tokens, positions, targets = (t.to(device) for t in (batch.tokens, batch.positions, batch.targets))
    # A four-dimensional mask is passed through; our attention knows the layout and reads none.
    no_mask = torch.zeros((1, 1, 1, 1), device=device)
    halfway = []
    middle = model.model.layers[len(model.model.layers) * 2 // 3 - 1]
    hook = middle.register_forward_hook(lambda _, __, out: halfway.append(out[0] if isinstance(out, tuple) else out))
    with torch.autocast(device, dtype=torch.bfloat16):
        attention.layout(batch, device)
        hidden = model.model(input_ids=tokens, position_ids=positions, attention_mask=no_mask, use_cache=False)[0]
        chosen = targets != -100
        logits = model.lm_head(hidden[chosen])
        # The steps to an answer, read off at two thirds of the depth, where the rest can still use them.
        hinted = batch.hints.to(device) != -100
        steps = model.lm_head(model.model.norm(halfway[0][hinted])).float()
    hook.remove()
    forward.steps = steps, batch.hints.to(device)[hinted]
    return logits.float(), targets[chosen], batch.answer_of[batch.targets != -100]


def exact(logits, targets, answer_of, kinds):
    """(kind, right) per answer: right where every token of it is the most likely one, which is what greedy decoding writes."""
    wrong = torch.zeros(len(kinds), dtype=torch.bool)
    wrong[answer_of[(logits.argmax(-1) != targets).cpu()]] = True
    return [(kind, not bool(w)) for kind, w in zip(kinds, wrong)]


@torch.no_grad()
def evaluate(model, args, tok, n=8, per=10):
    report = {}
    model.eval()
    for split in ("held-out", "train"):
        for name, words in EVAL[: 2 if split == "held-out" else 1]:
            stream = Episodes(args.episodes, split, words, per, EVAL_SEED, tok)
            score = defaultdict(list)
            for _ in range(n):
                batch = Batch([episode_row(stream, per)])
                for kind, right in exact(*forward(model, batch, args.device), batch.kinds):
                    score[kind].append(right)
            report[f"{split} {name}"] = {k: round(sum(v) / len(v), 3) for k, v in sorted(score.items())}
    model.train()
    return report


class Curriculum:
    """Which length comes next: the newest level most of the time, any earlier one else."""

    def __init__(self, args, tok, level, plan, rng):
        # `plan` chooses what kind of batch comes next and is the same for all processes; `rng` fills it.
        self.args, self.tok, self.level, self.plan, self.rng = args, tok, level, plan, rng
        self.streams, self.pools, self.recent = {}, {}, []
        self.recall, self.recall_recent, self.pairs = 0.0, [], 0
        self.bound, self.bound_recent, self.marker = 0, [], tok.token_to_id(":")
        self.lessons, self.lessons_recent = [0] * len(KINDS), [[] for _ in KINDS]
        self.drills, self.drills_recent = [0] * len(DRILLS), [[] for _ in DRILLS]
        one = tok.token_to_id
        self.marks = (one(":"), one(","), one("?"), [one(str(digit)) for digit in range(10)])

    def stream(self, level, focus=None):
        """Episodes of one level, or of one level of a lesson."""
        if (level, focus) not in self.streams:
            plain, longest = LESSONS[level] if focus else (level < len(PLAIN), LEVELS[level])
            words = (max(10, longest * 2 // 3), longest)
            seed = 1_000_000_000 * (len(self.streams) + 1) + self.rng.randrange(10**8)
            self.streams[level, focus] = Episodes(self.args.episodes, "train", words, self.args.questions, seed, self.tok,
                                                  plain, focus)
        return self.streams[level, focus]

    def batch(self):
        plan, rng = self.plan, self.rng
        if self.recall >= RECALLED and plan.random() < (0.3 if self.level < len(PLAIN) else 0.04):
            self.now = "bound"
            pairs, key_len, gap = BOUND[min(self.bound, len(BOUND) - 1)]
            pairs, key_len = plan.choice(pairs), plan.choice(key_len)
            row = lambda: bound_row(self.tok.get_vocab_size() - 26, self.marker, pairs, key_len, gap, rng)
            width = pairs * 4 * (key_len + 2 + gap // 2)
            return Batch([row() for _ in range(max(1, self.args.tokens * 4 // 7 // width))])
        if plan.random() < (0.9 if self.recall < RECALLED else 0.05):
            self.now = "recall"
            later = self.recall >= RECALLED
            key_len, gap = (plan.choice([1, 2, 2]), plan.choice([0, 2])) if later else (1, 0)
            # Until recall is there, more steps count for more than larger batches.
            tokens = self.args.tokens if later else self.args.tokens * 4 // 7
            # Few pairs first: the jump from guessing to recall comes sooner there.
            pairs = plan.choice([4, 6, 8, 12] if self.pairs == 0 else [8, 12, 16] if self.pairs == 1 else [8, 16, 32, 64])
            # Likewise few different tokens: copying learned on 128 of them carries over to all.
            vocab = 128 if self.pairs == 0 else self.tok.get_vocab_size() - 26
            rows = [recall_row(vocab, pairs, key_len, rng, gap)
                    for _ in range(max(1, tokens // (pairs * 4 * (key_len + 1 + gap // 2))))]
            return Batch(rows)
        if self.level >= len(PLAIN) and plan.random() < self.args.drills:
            kind = plan.choices(range(len(DRILLS)), [1 + max(self.drills) - level for level in self.drills])[0]
            level = self.drills[kind] if plan.random() < 0.6 else plan.randrange(self.drills[kind] + 1)
            self.now = ("drill", kind, level)
            # Joining alone at first: without fillers a key is where its mark says.
            pairs, gap = DRILL_PAIRS[level], 0 if level < 2 else plan.choice([0, 2, 4])
            row = lambda: drill_row(DRILLS[kind], self.tok.get_vocab_size() - 26, self.marks, pairs, gap, rng)
            return Batch([row() for _ in range(max(1, self.args.tokens // (pairs * 5 * (3 + gap // 2))))])
        if self.level >= len(PLAIN) and plan.random() < self.args.lessons:
            # The kind that is furthest behind comes most often.
            kind = plan.choices(range(len(KINDS)), [1 + max(self.lessons) - level for level in self.lessons])[0]
            # The first four from the start: with few facts a guess is too often right to teach much.
            level = self.lessons[kind] if plan.random() < 0.4 else plan.randrange(max(4, self.lessons[kind] + 1))
            self.now = (kind, level)
            return Batch(self.rows(level, KINDS[kind]), self.stretch(LESSONS[level][1]), rng)
        # Shorter logs are rehearsed; plain ones hardly, once the whole language is there.
        shortest = 0 if self.level < len(PLAIN) or plan.random() < 0.1 else len(PLAIN)
        newest = 0.6 if self.level + 1 < len(LEVELS) else 0.25
        level = self.level if plan.random() < newest else plan.randrange(shortest, self.level + 1)
        self.now = level
        return Batch(self.rows(level), self.stretch(LEVELS[level]), rng)

    def stretch(self, words):
        """Largest gap between lines: four times in ten so wide that distances reach 4,300 positions."""
        room = 4300 - words * 1.9
        return int(2 * room / (words / 10) * self.rng.random()) if self.rng.random() < 0.4 and room > 0 else 0

    def rows(self, level, focus=None):
        """A batch of rows of like length: drawn from a sorted pool, so that little is padding."""
        pool = self.pools.setdefault((level, focus), [])
        size = lambda row: (sum(map(len, row["log"])), sum(len(q[0]) for q in row["qa"]))
        if not pool:
            stream = self.stream(level, focus)
            count = 128 if (LESSONS[level][1] if focus else LEVELS[level]) <= 120 else 24
            pool += sorted((episode_row(stream, self.args.questions) for _ in range(count)), key=lambda r: sum(size(r)))
        start = self.rng.randrange(max(1, len(pool) - 8))
        rows, log, right = [], 0, 0
        while start < len(pool):
            row = pool[start]
            log, right = max(log, size(row)[0]), max(right, size(row)[1])
            if rows and (log + right) * (len(rows) + 1) > self.args.tokens:
                break
            rows.append(pool.pop(start))
        return rows

    def record(self, results):
        if self.now == "recall":
            self.recall_recent = (self.recall_recent + [sum(r for _, r in results) / len(results)])[-20:]
            mean = sum(self.recall_recent) / 20
            if self.pairs < 2 and mean > 0.85:
                self.pairs, self.recall_recent = self.pairs + 1, []
            elif self.pairs == 2:
                self.recall = max(self.recall, mean)
        elif self.now == "bound":
            self.bound_recent = (self.bound_recent + [sum(r for _, r in results) / len(results)])[-15:]
            if self.bound < len(BOUND) and sum(self.bound_recent) / 15 > 0.8:
                self.bound, self.bound_recent = self.bound + 1, []
                return True
        elif isinstance(self.now, tuple) and self.now[0] == "drill":
            _, kind, level = self.now
            if level == self.drills[kind]:
                recent = self.drills_recent[kind] = (self.drills_recent[kind] + [sum(r for _, r in results) / len(results)])[-12:]
                if len(recent) == 12 and sum(recent) / 12 > 0.85 and level + 1 < len(DRILL_PAIRS):
                    self.drills[kind], self.drills_recent[kind] = level + 1, []
                    return True
        elif isinstance(self.now, tuple):
            kind, level = self.now
            asked = [r for k, r in results if k == KINDS[kind]]
            if asked and level == self.lessons[kind]:
                recent = self.lessons_recent[kind] = (self.lessons_recent[kind] + [sum(asked) / len(asked)])[-8:]
                if len(recent) == 8 and sum(recent) / 8 > 0.85 and level + 1 < len(LESSONS):
                    self.lessons[kind], self.lessons_recent[kind] = level + 1, []
                    return True
        elif self.now == self.level:
            easy = [r for k, r in results if k == "one-hop"]
            if easy:
                self.recent = (self.recent + [sum(easy) / len(easy)])[-12:]
            if len(self.recent) == 12 and sum(self.recent) / 12 > self.args.pass_at and self.level + 1 < len(LEVELS):
                self.level, self.recent = self.level + 1, []
                return True
        return False


def export(model, tok, args, name="worker"):
    folder = args.out / name
    half = copy.deepcopy(model).to(torch.bfloat16).cpu()
    half.save_pretrained(folder, safe_serialization=True)
    bpe.save(tok, folder)


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world > 1:
        dist.init_process_group("gloo")
        args.tokens //= world
    args.out.mkdir(parents=True, exist_ok=True)
    if world > 1 and rank:
        dist.barrier()  # the first process writes the tokenizer, the others read it
    tok = load_tokenizer(args)
    if world > 1 and not rank:
        dist.barrier()
    model = new_model(args, tok).to(args.device)
    muon, adam = optimisers(model, args.lr)
    state = {"seconds": 0.0, "step": 0, "seen": 0, "level": 0, "recall": 0.0, "pairs": 0, "bound": 0,
             "lessons": [0] * len(KINDS), "drills": [0] * len(DRILLS)}
    last = args.out / "last.pt"
    if args.start_from and not last.exists():
        saved = torch.load(args.start_from, map_location=args.device, weights_only=False)
        model.load_state_dict(grown(saved["model"], model.state_dict(), args.layers))
        state.update({k: v for k, v in saved["state"].items() if k not in ("seconds", "step")})
    if last.exists():
        saved = torch.load(last, map_location=args.device, weights_only=False)
        model.load_state_dict(saved["model"])
        muon.load_state_dict(saved["muon"])
        adam.load_state_dict(saved["adam"])
        for optimiser, peaks in ((muon, [args.lr]), (adam, [args.lr, args.lr, 3 * args.lr])):
            for group, peak in zip(optimiser.param_groups, peaks):
                group["peak"] = peak
        state.update(saved["state"])
    plan = random.Random(args.seed * 1_000_003 + state["step"])
    rng = random.Random(args.seed * 1_000_003 + state["step"] + 7919 * (rank + 1))
    course = Curriculum(args, tok, state["level"] if args.start_level is None else args.start_level, plan, rng)
    course.recall, course.pairs, course.bound = state["recall"], state["pairs"], state["bound"]
    course.lessons, course.drills = list(state["lessons"]), list(state["drills"])
    log = open(args.out / "log.jsonl", "a", buffering=1)
    started, before = time.time(), state["seconds"]
    next_eval, next_save = before + 60 * args.eval_minutes, before + 180
    sums = defaultdict(list)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    weight = {"count": 2.0, "comparison": 1.5, "two-hop": 1.5, "corrected": 1.5}
    while True:
        elapsed = before + time.time() - started
        if world > 1:
            # The first process decides how far we are; the others follow.
            told = torch.tensor([elapsed, course.level, course.recall, course.pairs, course.bound, *course.lessons,
                                 *course.drills], dtype=torch.float64)
            dist.broadcast(told, 0)
            if rank:
                elapsed, course.recall = told[0].item(), told[2].item()
                course.level, course.pairs, course.bound = int(told[1]), int(told[3]), int(told[4])
                levels = [int(level) for level in told[5:]]
                course.lessons, course.drills = levels[: len(KINDS)], levels[len(KINDS):]
        share = elapsed / (60 * args.minutes)
        if share >= 1:
            break
        batch = course.batch()
        logits, targets, answer_of = forward(model, batch, args.device)
        losses = F.cross_entropy(logits, targets, reduction="none")
        w = torch.tensor([weight.get(k, 1.0) for k in batch.kinds])[answer_of].to(losses.device)
        loss = (losses * w).sum() / w.sum()
        steps, wanted = forward.steps
        if len(wanted):
            hinted = F.cross_entropy(steps, wanted, reduction="none")
            loss = loss + args.hint_weight * hinted.sum() / w.sum()
            sums["steps"] += (steps.argmax(-1) == wanted).tolist()
        loss.backward()
        if world > 1:
            flat = torch.cat([p.grad.view(-1) for p in model.parameters()])
            dist.all_reduce(flat)
            at = 0
            for p in model.parameters():
                p.grad.copy_(flat[at:at + p.numel()].view_as(p) / world)
                at += p.numel()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        warm = min(1.0, (state["step"] + 1) / 100)
        rate = warm * min(1.0, max(0.02, (1 - share) / (1 - args.decay_from)))
        for optimiser in (muon, adam):
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        state["step"] += 1
        state["seen"] += batch.real * world
        results = exact(logits.detach(), targets, answer_of, batch.kinds)
        risen = course.record(results)
        for kind, right in results:
            # Accuracy at the present length, not over all lengths.
            if course.now in ("recall", course.level):
                sums[kind].append(right)
            elif course.now == "bound":
                sums["bound"].append(right)
            elif isinstance(course.now, tuple) and course.now[0] == "drill":
                sums[f"{DRILLS[course.now[1]]} {DRILL_PAIRS[course.now[2]]}"].append(right)
            elif isinstance(course.now, tuple) and kind == KINDS[course.now[0]] and course.now[1] in (2, 4, 6):
                sums[f"{kind} {course.now[1]}"].append(right)
        sums["loss"].append(loss.item())
        state.update(seconds=elapsed, level=course.level, recall=course.recall, pairs=course.pairs, bound=course.bound,
                     lessons=list(course.lessons), drills=list(course.drills))
        if rank:
            sums.clear()
            continue
        if state["step"] % 50 == 0 or risen:
            row = {"minutes": round(elapsed / 60, 2), "step": state["step"], "tokens": state["seen"],
                   "words": LEVELS[course.level], "plain": course.level < len(PLAIN), "pairs": course.pairs,
                   "stage": course.bound, "lessons": course.lessons, "drills": course.drills,
                   **{k: round(sum(v) / len(v), 3) for k, v in sorted(sums.items())}}
            log.write(json.dumps(row) + "\n")
            sums.clear()
        if elapsed >= next_save:
            next_save = elapsed + 180
            temporary = last.with_suffix(".tmp")
            torch.save({"model": model.state_dict(), "muon": muon.state_dict(), "adam": adam.state_dict(), "state": state}, temporary)
            temporary.rename(last)
        if elapsed >= next_eval:
            next_eval = elapsed + 60 * args.eval_minutes
            export(model, tok, args)
            log.write(json.dumps({"minutes": round(elapsed / 60, 2), "eval": evaluate(model, args, tok)}) + "\n")
    if rank:
        return
    torch.save({"model": model.state_dict(), "muon": muon.state_dict(), "adam": adam.state_dict(), "state": state}, last)
    export(model, tok, args)
    log.write(json.dumps({"minutes": round(elapsed / 60, 2), "final": evaluate(model, args, tok, n=40)}) + "\n")


if __name__ == "__main__":
    main()
