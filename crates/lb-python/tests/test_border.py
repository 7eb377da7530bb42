"""The border: memory that stays flat, threads, signals, what cannot be pickled."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import latent_briefing as lb

# The issue asks for a million; that takes minutes.
CALLS = int(os.environ.get("LATENT_BRIEFING_LEAK_CALLS", "20000"))
# What allocators may keep without anything being lost.
FLAT = 8 << 20


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def caches(seed: int = 0, slots: int = 24) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape, np.float32) for shape in ((2, slots, 8), (2, slots, 8), (2, 4, 8))]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_many_calls_leave_no_memory_behind() -> None:
    arrays = caches()
    wrong = [arrays[0], arrays[1], np.full_like(arrays[2], np.nan)]

    def calls(count: int) -> None:
        for number in range(count):
            lb.compact(*arrays, keep=0.25)
            if number % 50 == 0:
                with pytest.raises(lb.TensorError):
                    lb.compact(*wrong, keep=0.25)

    calls(2000)
    gc.collect()
    before = resident()
    calls(CALLS)
    gc.collect()
    assert resident() - before < FLAT, f"{(resident() - before) / CALLS:.1f} bytes a call"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_sessions_and_briefings_leave_no_memory_behind(worker: lb.Worker) -> None:
    def rounds(count: int) -> None:
        for _ in range(count):
            session = worker.session()
            session.extend("The Velmar ledger is kept by Anara. " * 4, progress=lambda done, all: True)
            briefing = session.brief("Who keeps the Velmar ledger?", keep=0.5)
            session.ask("Who keeps it?", over=briefing, max_new_tokens=2, on_text=lambda text: True)
            [one["keys"] for one in briefing.layers()]

    rounds(10)
    gc.collect()
    before = resident()
    rounds(60)
    gc.collect()
    assert resident() - before < FLAT


def test_threads_get_what_one_thread_gets() -> None:
    inputs = [caches(seed, 60) for seed in range(8)]
    alone = [lb.compact(*arrays, keep=0.3)[0] for arrays in inputs]
    wrong: list[Any] = []

    def work(offset: int) -> None:
        for step in range(25):
            number = (offset + step) % len(inputs)
            got = lb.compact(*inputs[number], keep=0.3)[0]
            same = got.kept == alone[number].kept and np.array_equal(got.values, alone[number].values)
            if not same:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_snapshots_are_asked_from_threads_while_the_session_grows(session: lb.Session) -> None:
    snapshot = session.snapshot()
    alone = snapshot.ask("Who keeps the Velmar ledger?", keep=0.5).text
    answers: list[str] = []

    def ask() -> None:
        answers.append(snapshot.ask("Who keeps the Velmar ledger?", keep=0.5).text)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    session.extend("Something else entirely.")
    for thread in threads:
        thread.join()
    assert answers == [alone] * 3 and snapshot.seq_len < session.seq_len


def test_a_long_call_lets_other_threads_run() -> None:
    rng = np.random.default_rng(0)
    keys = rng.standard_normal((2, 4, 3000, 64), np.float32)
    queries = rng.standard_normal((2, 4, 512, 64), np.float32)
    steps, over = 0, threading.Event()

    def count() -> None:
        nonlocal steps
        while not over.is_set():
            steps += 1
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    before = steps
    lb.compact(keys, keys, queries, keep=0.1)
    ran = steps - before
    over.set()
    thread.join()
    assert ran > 5


@pytest.fixture(autouse=True)
def heeds_ctrl_c() -> Iterator[None]:
    """Where a shell runs this in the background it ignores SIGINT, and Python with it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Interrupted:
    """Sends this process a SIGINT after some seconds."""

    def __init__(self, seconds: float) -> None:
        self.timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))

    def __enter__(self) -> None:
        self.timer.start()

    def __exit__(self, *_: object) -> None:
        self.timer.cancel()


needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="Windows sends itself no SIGINT")


@needs_signals
def test_ctrl_c_ends_a_long_compaction() -> None:
    rng = np.random.default_rng(0)
    keys = rng.standard_normal((24, 4, 3000, 64), np.float32)
    queries = rng.standard_normal((24, 4, 512, 64), np.float32)
    begun = time.monotonic()
    with Interrupted(0.3), pytest.raises(KeyboardInterrupt):
        # An error target is a search of many rounds.
        lb.compact(keys, keys, queries, error=0.05)
    interrupted = time.monotonic() - begun
    assert lb.compact(*caches(), keep=0.5).kept_len > 0
    assert interrupted < 30


@needs_signals
def test_ctrl_c_leaves_a_session_as_it_was(worker: lb.Worker) -> None:
    session = worker.session()
    session.extend("The Velmar ledger is kept by Anara.")
    before = (session.seq_len, session.tokens, len(session))
    long = "The Oslund beacon has 40 lamps. " * 150
    # Without a signal it would enter.
    assert session.fork().extend(long)["entered"] > 1000

    def interrupt(done: int, all: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        session.extend(long, progress=interrupt)
    assert (session.seq_len, session.tokens, len(session)) == before
    assert session.ask("Who keeps the Velmar ledger?", keep=0.9).text == "Anara"


@needs_signals
def test_ctrl_c_ends_an_answer(session: lb.Session) -> None:
    heard: list[str] = []

    def interrupt(text: str) -> None:
        heard.append(text)
        if len(heard) == 1:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        session.ask("What is known?", via="full-kv", on_text=interrupt, max_new_tokens=200)
    assert session.ledger["calls"] == 0
    assert session.ask("Who keeps the Velmar ledger?", via="full-kv").text == "Anara"


def test_what_a_listener_raises_is_raised_and_nothing_is_changed(worker: lb.Worker) -> None:
    session = worker.session()
    before = session.seq_len
    long = "The Oslund beacon has 40 lamps. " * 150

    def fail(done: int, all: int) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        session.extend(long, progress=fail)
    assert session.seq_len == before
    with pytest.raises(lb.Cancelled):
        session.extend(long, progress=lambda done, all: False)
    assert session.seq_len == before and session.extend("It has 40 pages.")["entered"] > 0
    # Behind the last pass there is nothing left to call off: what is raised then is raised, and all has entered.
    before = len(session)
    with pytest.raises(LookupError, match="mine"):
        session.extend("Short.", progress=fail)
    assert len(session) == before + 1 and session.segments[-1][1] == "Short."


def test_a_call_that_takes_too_long_is_ended(session: lb.Session) -> None:
    with pytest.raises(lb.TimedOut) as caught:
        session.ask("What is known?", timeout=0.0)
    assert isinstance(caught.value, TimeoutError) and session.ledger["calls"] == 0


def test_what_holds_a_model_is_not_pickled_and_says_why(worker: lb.Worker, session: lb.Session) -> None:
    briefing = session.brief("Who keeps the Velmar ledger?", keep=0.5)
    objects = {
        "Worker.load": worker,
        "save": session,
        "save(path)": briefing,
        "session": session.snapshot(),
        "log": lb.Rlm(worker),
    }
    for says, object in objects.items():
        with pytest.raises(TypeError, match="cannot pickle") as caught:
            pickle.dumps(object)
        assert says in str(caught.value)
        with pytest.raises(TypeError, match="cannot pickle"):
            copy.copy(object)


def test_exceptions_are_pickled() -> None:
    with pytest.raises(lb.ConfigError) as caught:
        lb.compact(*caches(), keep=0.0)
    copied = pickle.loads(pickle.dumps(caught.value))
    assert str(copied) == str(caught.value) and copied.field == "budget.keep_ratio"
