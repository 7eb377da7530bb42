"""Workers, sessions, briefings, the loop and the server, on the built-in worker."""

from __future__ import annotations

import html.parser
import json
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import latent_briefing as lb

TASK = "Who keeps the Velmar ledger?"


def test_four_lines_give_an_answer() -> None:
    session = lb.Worker.embedded().session()
    session.extend("The Velmar ledger is kept by Anara.")
    answer = session.ask(TASK, keep=0.9)
    assert str(answer) == "Anara" and answer.handoff == "latent-briefing" and answer.briefing is not None


def test_a_briefing_tells_what_it_kept(session: lb.Session, tmp_path: Path) -> None:
    briefing = session.brief(TASK, keep=0.3)
    assert len(briefing) == briefing.kept_len < briefing.seq_len == session.seq_len
    shares = lb.to_numpy(briefing.kept_by)
    assert shares.shape == (briefing.seq_len,) and abs(shares.mean() - briefing.keep_ratio) < 1e-5
    assert "".join(piece for piece, *_ in briefing.explain()).count("Velmar") == 1
    kept = [position for position, one in enumerate(briefing.explain()) if one[2]]
    assert kept == briefing.kept_positions
    assert briefing.timing["total"] > 0 and briefing.report["seq_len"] == session.seq_len
    for layer in briefing.layers():
        keys, bias = lb.to_numpy(layer["keys"]), lb.to_numpy(layer["bias"])
        assert keys.shape[:2] == bias.shape and np.isfinite(bias[:, 0]).all()
    path = tmp_path / "briefing"
    briefing.save(path)
    again = lb.Worker.embedded().load_briefing(path)
    assert session.ask(TASK, over=again).text == session.ask(TASK, over=briefing).text
    assert again.kept_positions == briefing.kept_positions


def test_a_notebook_shows_the_heat_map_in_a_frame(session: lb.Session) -> None:
    session.extend("<script>alert(1)</script> & \"quotes\"")
    shown = session.brief(TASK, keep=0.3)._repr_html_()

    class Frame(html.parser.HTMLParser):
        tags: list[tuple[str, dict[str, str | None]]] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.tags.append((tag, dict(attrs)))

    frame = Frame()
    frame.feed(shown)
    ((tag, attributes),) = frame.tags
    page = attributes["srcdoc"] or ""
    assert tag == "iframe" and "Velmar" in page and "<script>alert" not in page and "position 3" in page


def test_a_session_is_saved_forked_and_read_again(worker: lb.Worker, session: lb.Session, tmp_path: Path) -> None:
    fork = session.fork()
    fork.extend("More.")
    assert fork.seq_len > session.seq_len
    session.save(tmp_path / "session")
    again = worker.load_session(tmp_path / "session")
    assert again.tokens == session.tokens and again.segments == session.segments
    assert again.ask(TASK, via="full-kv").text == "Anara"


def test_segments_come_in_many_forms(worker: lb.Worker) -> None:
    session = worker.session(admit=["finding", "tool"], max_segment_tokens=20)
    session.extend("One.")
    session.extend(("tool", "Two."))
    session.extend([{"source": "tool", "text": "Three.", "name": "Web Surfer"}, "Four.", ("reasoning", "Five.")])
    assert [segment[0] for segment in session.segments] == ["finding", "tool", "tool", "finding", "reasoning"]
    assert session.segments[2] == ("tool", "Three.", "Web Surfer")
    session.extend_messages([{"role": "user", "content": "Six."}, {"role": "assistant", "content": "Seven."}])
    assert len(session) == 7
    with pytest.raises(lb.ConfigError, match="none of finding"):
        session.extend("Eight.", "rumour")


def test_handoffs_are_named_as_everywhere(session: lb.Session) -> None:
    session.note("The ledger is Anara's.", key="ledger")
    for via in ("full-kv", "packed-kv:bits=8", "text-replay", "notes", "bm25:0.5", "recent:0.5", "latent-briefing:keep=0.5"):
        answer = session.ask(TASK, via=via, max_new_tokens=4)
        assert answer.handoff == via.partition(":")[0]
    dictionary = session.ask(TASK, via={"recent": {"keep_ratio": 0.5}}, max_new_tokens=4)
    assert dictionary.handoff == "recent" and session.ledger["calls"] == 8
    tasks = [TASK, "How many lamps has the Oslund beacon?"]
    alone = [session.fork().ask(task, keep=0.9).text for task in tasks]
    assert [answer.text for answer in session.ask_all(tasks, keep=0.9)] == alone and alone[0] == "Anara"
    with pytest.raises(lb.ConfigError, match="via says everything"):
        session.ask(TASK, via="full-kv", keep=0.5)


def test_settings_are_those_of_the_grammar() -> None:
    from latent_briefing import _native

    said = _native.settings_json(keep=0.1, select="snapkv:window=16,pool=5", score="max", spans=3, bits=8, echo=0, draft=8)
    assert said["compaction"]["budget"] == {"keep_ratio": 0.1}
    assert said["compaction"]["selection"] == "snapkv:window=16,pool=5"
    assert said["storage"] == "bits8" and said["lookahead"]["echo"] == 0
    assert _native.settings_json(config=said) == said
    assert _native.settings_json(keep=64)["compaction"]["budget"] == {"kept_len": 64}
    assert _native.settings_json(keep=np.float64(0.5)) == _native.settings_json(keep=0.5)


def test_probabilities_of_a_given_answer(session: lb.Session, worker: lb.Worker) -> None:
    right = lb.to_numpy(session.log_probabilities(TASK, "Anara", via="full-kv")).sum()
    wrong = lb.to_numpy(session.log_probabilities(TASK, "Bruno", via="full-kv")).sum()
    nothing = lb.to_numpy(session.log_probabilities(TASK, "Anara", via="none")).sum()
    assert right > wrong and right > nothing
    # The same from logits that were read behind the briefing by hand.
    briefing = session.brief(TASK, keep=0.5)
    task, answer = session.task_tokens(TASK), worker.encode("Anara")
    logits = lb.to_numpy(worker.logits(task + answer[:-1], over=briefing))[len(task) - 1 :].astype(np.float64)
    logs = logits - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True)) - logits.max(1, keepdims=True)
    by_hand = logs[np.arange(len(answer)), answer]
    np.testing.assert_allclose(lb.to_numpy(session.log_probabilities(TASK, "Anara", over=briefing)), by_hand, atol=1e-4)


def test_answers_stream_and_stop(session: lb.Session) -> None:
    pieces: list[str] = []
    whole = session.ask(TASK, via="full-kv", on_text=pieces.append)
    assert "".join(pieces).strip() == whole.text
    cut = session.ask("What is known?", via="full-kv", on_text=lambda text: False)
    assert cut.stopped == "callback" and cut.tokens["generated"] == 1


def test_progress_is_told(worker: lb.Worker) -> None:
    told: list[tuple[int, int]] = []
    worker.session().extend("The Velmar ledger. " * 50, progress=lambda done, all: told.append((done, all)))
    assert told[-1][0] == told[-1][1] > 0
    pytest.importorskip("tqdm")
    worker.session().extend("The Velmar ledger. " * 50, progress=True)


def test_a_function_is_a_selection(session: lb.Session) -> None:
    seen: list[lb.SelectorLayer] = []

    @lb.register_selector("test-attention", about="what the task looks at")
    def by_attention(layer: lb.SelectorLayer) -> np.ndarray:
        seen.append(layer)
        return layer.attention

    ours = session.brief(TASK, select="test-attention", keep=0.3)
    theirs = session.brief(TASK, select="per-head", heads="equal", keep=0.3)
    assert ours.kept_positions == theirs.kept_positions
    assert seen[0].keys.shape == seen[0].values.shape and seen[0].attention.shape == seen[0].keys.shape[:2]
    # A draft is written over a briefing of its own, so that layers are asked more than once, each time in order.
    layers = len(ours.layers())
    assert [layer.index for layer in seen] == list(range(layers)) * (len(seen) // layers)
    assert lb.selectors()["test-attention"].about == "what the task looks at"

    @lb.register_selector("test-last", needs=(), lists="layer", counts_only=True)
    def last(layer: lb.SelectorLayer) -> np.ndarray:
        return np.arange(layer.keys.shape[1], dtype=np.float32)

    rng = np.random.default_rng(0)
    keys = rng.standard_normal((2, 30, 8), np.float32)
    (kept,) = lb.compact(keys, keys, keys[:, :3], select="test-last", keep=4, spans=1)
    assert kept.kept == [[0, 27, 28, 29]]
    with pytest.raises(lb.ConfigError, match="tau"):
        lb.compact(keys, keys, keys[:, :3], select="test-last", tau=3)
    with pytest.raises(lb.ConfigError, match="already"):
        lb.register_selector("test-last", last)


def test_what_a_selector_raises_is_raised() -> None:
    def broken(layer: lb.SelectorLayer) -> Any:
        raise KeyError("mine")

    lb.register_selector("test-broken", broken)
    lb.register_selector("test-short", lambda layer: layer.attention[:, :-1])
    rng = np.random.default_rng(0)
    keys = rng.standard_normal((2, 30, 8), np.float32)
    with pytest.raises(KeyError, match="mine"):
        lb.compact(keys, keys, keys[:, :3], select="test-broken", keep=4)
    with pytest.raises(lb.TensorError, match=r"\[2, 30\] from the selector test-short"):
        lb.compact(keys, keys, keys[:, :3], select="test-short", keep=4)


def test_the_loop_runs_with_a_function_and_with_a_script(worker: lb.Worker, tmp_path: Path) -> None:
    rlm = lb.Rlm(worker, log_dir=tmp_path, max_iterations=4)
    assert rlm.add_context("The Velmar ledger is kept by Anara.\n" * 3) == "context"
    events: list[str] = []

    def orchestrate(messages: list[dict[str, str]]) -> str:
        if len([message for message in messages if message["role"] == "assistant"]) == 0:
            return "```repl\nfound = llm_query('Who keeps the Velmar ledger?', context)\nprint(found)\n```"
        return "```repl\nFINAL(found)\n```"

    run = rlm.run(orchestrate, "Who keeps it?", on_event=lambda event: events.append(event["kind"]))
    assert "Anara" in run.answer and run.turns == 2 and run.ledger["worker"]["calls"] == 1
    assert events[0] == "turn_began" and events[-1] == "answered" and "call_ended" in events
    assert run.log is not None and json.loads(Path(run.log).read_text().splitlines()[0])["type"] == "metadata"
    again = rlm.run(["```repl\nFINAL(len(context))\n```"], "How long is it?")
    assert again.answer == str(len("The Velmar ledger is kept by Anara.\n") * 3)


def test_a_loop_that_stops_can_go_on(worker: lb.Worker) -> None:
    rlm = lb.Rlm(worker)
    with pytest.raises(lb.LatentBriefingError, match="all 1 replies"):
        rlm.run(["```repl\nx = 1\n```"], "What is x?")

    def fail(messages: list[dict[str, str]]) -> str:
        raise RuntimeError("the orchestrator is out")

    with pytest.raises(RuntimeError, match="is out"):
        rlm.run(fail, "What is x?")
    assert rlm.run(["```repl\nFINAL(x)\n```"], "What is x?").answer == "1"


def test_a_server_answers_and_stops(worker: lb.Worker) -> None:
    with lb.serve(worker, "127.0.0.1:0") as server:
        body = json.dumps({"model": worker.name, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4})
        request = urllib.request.Request(
            f"{server.url}/v1/chat/completions", body.encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            assert "content" in json.load(reply)["choices"][0]["message"]
        url = server.url
    with pytest.raises(OSError):
        urllib.request.urlopen(f"{url}/healthz", timeout=5)
    with pytest.raises(lb.ServeError, match="keys"):
        lb.serve(worker, "0.0.0.0:0")


def test_what_is_wrong_with_a_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(lb.ModelError, match="no such file"):
        lb.Worker.load("./nothing.gguf")
    with pytest.raises(lb.LatentBriefingError):
        lb.Worker.load(tmp_path)
