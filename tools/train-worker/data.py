"""Batches: briefing episodes from the project's own generator, and random-token recall."""

import json
import random
import subprocess

import torch

# The prompt of the worker, as `lb-orchestrate` writes it: head, log lines, task, end of the template.
HEAD = "<|im_start|>user\nNotes so far:\n"
TASK = "Task: {question}"
TAIL = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


def line_text(line):
    return f"{line['source']}: {line['text']}\n"


class Episodes:
    """An endless stream of episodes of one length, from `lb-episodes`."""

    def __init__(self, binary, split, words, questions, seed, tok, plain=False, focus=None):
        self.command = [binary, "--split", split, "--questions", str(questions), "--min-words", str(words[0]),
                        "--max-words", str(words[1])]
        if plain:
            self.command.append("--plain")
        if focus:
            self.command += ["--focus", focus]
        self.seed, self.tok, self.buffer = seed, tok, []
        self.head = tok.encode(HEAD).ids
        self.tail = tok.encode(TAIL).ids
        self.end = tok.token_to_id("<|im_end|>")

    def refill(self, count=64):
        command = self.command + ["--seed", str(self.seed), "--count", str(count)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        self.seed += count
        for row in out.splitlines():
            self.buffer.append(self.encode(json.loads(row)))

    def encode(self, episode):
        ids = lambda texts: [e.ids for e in self.tok.encode_batch(texts)]
        lines = ids([line_text(line) for line in episode["lines"]])
        questions = episode["questions"]
        asked = ids([TASK.format(question=q["text"]) for q in questions])
        answers = ids([q["answer"] for q in questions])
        return {
            "lines": lines,
            "qa": [(a + self.tail, b + [self.end], q["kind"], self.hints(q, len(a + self.tail)))
                   for a, b, q in zip(asked, answers, questions)],
        }

    def hints(self, question, length):
        """(position in the prompt, token) for the steps of a question: the entity in between where the answer is due,
        its second token one position earlier; a rating where its item has just been named."""
        found = []
        for step in question.get("steps", []):
            ids = self.tok.encode(step["value"]).ids
            if step["upto"] == question["text"]:
                found += [(length - 1, ids[0]), (length - 2, ids[1])] if len(ids) > 1 else [(length - 1, ids[0])]
            else:
                found.append((len(self.tok.encode(TASK.format(question=step["upto"])).ids) - 1, ids[0]))
        return found

    def next(self):
        if not self.buffer:
            self.refill()
        return self.buffer.pop()


class Batch:
    """A row is [log, padding | question 1, question 2, ..., padding]; `log` is the width of the left part.

    A question sees the log and itself only, and stands right behind the log, exactly as when it is asked alone.
    `owner` [rows, right part] numbers the question that a token belongs to (-1 = padding).
    """

    def __init__(self, rows, stretch=0, rng=random):
        n = len(rows)
        self.log = max(sum(map(len, row["log"])) for row in rows)
        right = max(sum(len(q[0]) for q in row["qa"]) for row in rows)
        total = self.log + right
        self.owner = torch.full((n, right), -1)
        self.tokens = torch.zeros((n, total), dtype=torch.long)
        self.positions = torch.zeros((n, total), dtype=torch.long)
        self.targets = torch.full((n, total), -100)
        self.hints = torch.full((n, total), -100)
        self.log_lengths = torch.tensor([sum(map(len, row["log"])) for row in rows])
        self.answer_of = torch.full((n, total), -1, dtype=torch.long)
        self.kinds, self.real = [], 0
        for r, row in enumerate(rows):
            self.place(r, row, stretch, rng)

    def place(self, r, row, stretch, rng):
        at, position = 0, 0
        for line in row["log"]:
            # Gaps between lines show long distances to short logs (positional skip-wise training).
            position += rng.randint(0, stretch) if stretch and at else 0
            self.put(r, at, position, line)
            at, position = at + len(line), position + len(line)
        for start, answer in row.get("asked_in_log", []):
            self.expect(r, start, answer, "recall")
        for position_in_log, token in row.get("hints_in_log", []):
            self.hints[r, position_in_log] = token
        start = self.log
        for i, (tokens, answer, kind, hints) in enumerate(row["qa"]):
            self.put(r, start, position, tokens)
            for offset, token in hints:
                self.hints[r, start + offset] = token
            self.owner[r, start - self.log:start - self.log + len(tokens)] = i
            start += len(tokens)
            self.expect(r, start - len(answer), answer, kind)

    def put(self, r, at, position, tokens):
        self.tokens[r, at:at + len(tokens)] = torch.tensor(tokens)
        self.positions[r, at:at + len(tokens)] = torch.arange(position, position + len(tokens))
        self.real += len(tokens)

    def expect(self, r, start, answer, kind):
        self.targets[r, start - 1:start - 1 + len(answer)] = torch.tensor(answer)
        self.answer_of[r, start - 1:start - 1 + len(answer)] = len(self.kinds)
        self.kinds.append(kind)


def episode_row(stream, max_questions):
    episode = stream.next()
    qa = [(asked + answer, answer, kind, hints) for asked, answer, kind, hints in episode["qa"][:max_questions]]
    return {"log": [stream.head] + episode["lines"], "qa": qa}


def recall_row(vocab, pairs, key_len, rng, gap=0):
    """Random (key, value) pairs, then each asked three times in shuffled order, loss on the values. Up to `gap` random
    tokens stand between entries."""
    token = lambda: rng.randrange(vocab)
    keys = set()
    while len(keys) < pairs:
        keys.add(tuple(token() for _ in range(key_len)))
    table = [(list(k), token()) for k in sorted(keys)]
    rng.shuffle(table)
    log, asked, at = [], [], 0

    def put(tokens):
        nonlocal at
        log.append(tokens)
        at += len(tokens)
        if gap and (filler := [token() for _ in range(rng.randint(0, gap))]):
            log.append(filler)
            at += len(filler)

    for k, v in table:
        put(k + [v])
    for _ in range(3):
        for k, v in rng.sample(table, len(table)):
            asked.append((at + key_len, [v]))
            put(k + [v])
    return {"log": log, "qa": [], "asked_in_log": asked}


def bound_row(vocab, marker, pairs, key_len, gap, rng):
    """Recall at a distance: a key, up to `gap` random tokens, a marker, the value; then each key again, with other tokens
    in between, loss on the value. What a question does: name a subject, and much later the answer is due."""
    token = lambda: rng.randrange(vocab)
    entry = lambda key, value: [*key, *(token() for _ in range(rng.randint(0, gap))), marker, value]
    keys = set()
    while len(keys) < pairs:
        keys.add(tuple(token() for _ in range(key_len)))
    table = [(k, token()) for k in sorted(keys)]
    rng.shuffle(table)
    log = [entry(k, v) for k, v in table]
    at, asked = sum(map(len, log)), []
    for _ in range(3):
        for k, v in rng.sample(table, len(table)):
            log.append(entry(k, v))
            at += len(log[-1])
            asked.append((at - 1, [v]))
    return {"log": log, "qa": [], "asked_in_log": asked}


def drill_row(kind, vocab, marks, pairs, gap, rng):
    """Joining in its barest form, many answers a row: entries `key, filler, mark, value` in shuffled order, then
    questions `key(s), filler, mark, answer`. `hops`: the value is the key of a second table; `comparing`: of two keys, the
    one with the higher digit; `counting`: how many keys have a value. `marks`: one token for each table and for the
    question, and the ten digits."""
    first, second, ask, digits = marks
    token = lambda: rng.randrange(vocab)
    filler = lambda: [token() for _ in range(rng.randint(0, gap))]
    keys = rng.sample(range(vocab), 2 * pairs)
    entries, questions = [], []  # a question: (keys, answer, {offset from its start: step})
    if kind == "hops":
        middles, ends = keys[pairs:], [token() for _ in range(pairs)]
        order = rng.sample(range(pairs), pairs)
        for i in range(pairs):
            entries += [[keys[i], *filler(), first, middles[order[i]]], [middles[i], *filler(), second, ends[i]]]
        questions = [([keys[i]], ends[order[i]], middles[order[i]]) for i in range(pairs)]
    elif kind == "comparing":
        rated = {k: rng.randint(1, 9) for k in keys[:pairs]}
        entries = [[k, *filler(), first, digits[r]] for k, r in rated.items()]
        for a, b in {tuple(rng.sample(list(rated), 2)) for _ in range(2 * pairs)}:
            if rated[a] != rated[b]:
                questions.append(([a, b], max((a, b), key=rated.get), None))
    else:
        values = keys[pairs:pairs + 4]
        having = {k: rng.choice(values) for k in keys[:pairs]}
        entries = [[k, *filler(), first, v] for k, v in having.items()]
        counts = {v: list(having.values()).count(v) for v in values}
        questions = [([v], digits[n], None) for v, n in counts.items() if 1 <= n <= 9]
    rng.shuffle(entries)
    log, asked, hints = list(entries), [], []
    at = sum(map(len, log))
    # Each is asked once: a second time, the answer could be copied from the first.
    for about, answer, step in rng.sample(questions, len(questions)):
        entry = [*about, *filler(), ask, answer]
        log.append(entry)
        at += len(entry)
        asked.append((at - 1, [answer]))
        if step is not None:
            hints.append((at - 2, step))
    return {"log": log, "qa": [], "asked_in_log": asked, "hints_in_log": hints}
