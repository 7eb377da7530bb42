"""A worker of ours under `rlms`, with a scripted root model in place of a paid API."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("rlm")

import rlm  # noqa: E402

import latent_briefing as lb  # noqa: E402
from latent_briefing.rlms import BriefedLM, BriefedRLM  # noqa: E402

pytestmark = pytest.mark.peers

DOCUMENT = "finding: The Velmar ledger is kept by Anara.\nfinding: The Oslund beacon has 40 lamps.\n"
TURNS = [
    "I look at it.\n```repl\nprint(context)\n```",
    "I ask.\n```repl\nwho = llm_query('Who keeps the Velmar ledger?')\nboth = llm_query_batched(['Who keeps it?', 'How many lamps?'])\n```",
    "Done.\n```repl\nanswer['content'] = who\nanswer['ready'] = True\n```",
]


@pytest.fixture
def scripted() -> Iterator[dict[str, Any]]:
    """A server that speaks chat completions and gives the turns one after the other."""
    left, asked = list(TURNS), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            message = {"role": "assistant", "content": left.pop(0)}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            reply = {"id": "1", "object": "chat.completion", "created": 0, "model": "scripted", "choices": choices, "usage": usage}
            body = json.dumps(reply).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    yield {"backend": "vllm", "backend_kwargs": {"base_url": url, "api_key": "none", "model_name": "scripted"}, "asked": asked}
    server.shutdown()
    thread.join()


def test_calls_of_the_repl_are_answered_over_a_briefing(worker: lb.Worker, scripted: dict[str, Any]) -> None:
    asked = scripted.pop("asked")
    loop = BriefedRLM(worker=worker, settings={"keep": 0.9}, max_iterations=4, **scripted)
    done = loop.completion(DOCUMENT, root_prompt="Who keeps the Velmar ledger?")
    # Nothing of the document was in the prompt: the worker has it from what the REPL printed.
    assert done.response == "Anara" and len(asked) == 3
    session = loop.session
    assert session is not None
    sources = [segment[0] for segment in session.segments]
    assert sources == ["reasoning", "code", "tool", "reasoning", "code", "reasoning", "code"]
    ledger = session.ledger
    assert ledger["calls"] == 3 and ledger["tokens"]["reused"] > 0
    assert loop.client.get_usage_summary().total_output_tokens == ledger["tokens"]["generated"]
    assert worker.name in done.usage_summary.model_usage_summaries


def test_a_served_worker_is_another_backend(worker: lb.Worker, scripted: dict[str, Any]) -> None:
    scripted.pop("asked")
    with lb.serve(worker, "127.0.0.1:0") as server:
        other = {"base_url": f"{server.url}/v1", "api_key": "none", "model_name": worker.name}
        loop = rlm.RLM(max_iterations=4, other_backends=["vllm"], other_backend_kwargs=[other], **scripted)
        done = loop.completion(DOCUMENT)
    # Whatever the small worker says to a prompt without a trajectory: it was asked, and it was no error.
    assert "Error" not in done.response
    usage = done.usage_summary.model_usage_summaries[worker.name]
    assert usage.total_calls == 3 and usage.total_output_tokens > 0


def test_the_client_answers_by_itself(session: lb.Session) -> None:
    client = BriefedLM(session, model_name="ours", via="full-kv")
    assert client.completion("Who keeps the Velmar ledger?") == "Anara"
    assert client.get_last_usage().total_calls == 1 and client.get_last_usage().total_output_tokens > 0
    empty = BriefedLM(session.fork(), keep=0.5)
    assert isinstance(empty.completion([{"role": "user", "content": "Who keeps the Velmar ledger?"}]), str)
