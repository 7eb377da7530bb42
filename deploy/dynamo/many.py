"""Dynamo's front end, three workers, one store: a worker is killed and another told to end while 200 requests over 10 trajectories run.

    python deploy/dynamo/many.py path/to/latent-briefing path/to/latent-briefing-dynamo [--worker MODEL] [--router kv]

Wants the Python packages openai and httpx, and in the Python that --front names (this one without it) Dynamo's front end, as README.md
installs it. Trajectories are made by `latent-briefing serve`, which answers every request first; every answer of the workers must have the
same tokens. Prints the times of one worker beside those of three, without and with the losses.
"""

import argparse
import concurrent.futures
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

import httpx
import openai

TOWNS = ["Oslo", "Turin", "Kyoto", "Lima", "Accra", "Riga", "Quito", "Hobart"]
NAMES = ["Ana", "Bo", "Cleo", "Dan", "Eve", "Finn", "Gil", "Hana"]
HANDOFFS = ["latent-briefing:keep=0.2", "full-kv", "bm25:0.3", "latent-briefing:keep=0.5"]
SERVE, FRONT = 8304, 8300


def until(holds, what, seconds=240):
    for _ in range(int(seconds * 5)):
        with contextlib.suppress(httpx.HTTPError):
            if holds():
                return
        time.sleep(0.2)
    sys.exit(f"{what} did not come")


def trajectories(base):
    for n in range(10):
        segments = [
            {"source": "finding", "text": f"The {TOWNS[(n + i) % 8]} ledger of {1900 + i} is kept by {NAMES[(n + 3 * i) % 8]}."}
            for i in range(24)
        ]
        httpx.post(base + "/v1/trajectories", json={"id": f"t{n}", "segments": segments}, timeout=300).raise_for_status()


class Failures:
    """Answers that were failures, each of which the client asked for again."""

    def __init__(self):
        self.by_status = {}

    def note(self, response):
        if response.status_code >= 400:
            self.by_status[response.status_code] = self.by_status.get(response.status_code, 0) + 1


def ask(client, number, dynamo, long):
    briefing = {"trajectory": f"t{number % 10}", "handoff": HANDOFFS[number % 4]}
    if number % 5 == 4:
        extra, headers = {}, {}
    elif dynamo:
        # The same object, where Dynamo lets it through; the session is its router's word for what should stay with one worker.
        extra, headers = {"chat_template_kwargs": {"briefing": briefing}}, {"x-dynamo-session-id": briefing["trajectory"]}
    else:
        extra, headers = {"briefing": briefing}, {}
    begin = time.time()
    answer = client.chat.completions.create(
        model="latent-briefing",
        messages=[{"role": "user", "content": f"Who keeps the {TOWNS[number % 8]} ledger of {1900 + number % 24}?"}],
        max_tokens=long or 24,
        logprobs=True,
        extra_headers=headers,
        extra_body=extra | ({"ignore_eos": True} if long else {}),
    )
    choice = answer.choices[0]
    # Dynamo shows a control token as nothing, and an answer of nothing as null.
    shown = lambda text: re.sub(r"<\|\w+\|>", "", text or "")  # noqa: E731
    tokens = [shown(token.token) for token in choice.logprobs.content]
    return shown(choice.message.content), tokens, choice.finish_reason, time.time() - begin


def run(base, dynamo, long, disturb=lambda done: None):
    failures = Failures()
    web = httpx.Client(event_hooks={"response": [failures.note]}, timeout=300, limits=httpx.Limits(max_connections=64))
    client = openai.OpenAI(base_url=base + "/v1", api_key="none", max_retries=8, http_client=web)
    begin = time.time()
    answers, times, tokens, failed = {}, [], 0, []
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        futures = {pool.submit(ask, client, number, dynamo, long): number for number in range(200)}
        for done, future in enumerate(concurrent.futures.as_completed(futures), 1):
            disturb(done)
            try:
                text, pieces, finish, seconds = future.result()
                answers[futures[future]] = (text, pieces, finish)
                times.append(seconds)
                tokens += len(pieces)
            except Exception as error:  # noqa: BLE001 - every kind is told
                failed.append(f"{futures[future]}: {type(error).__name__} {error}")
    wall = time.time() - begin
    times.sort()
    told = f"p50 {times[len(times) // 2]:.2f} s, p95 {times[int(0.95 * len(times))]:.2f} s" if times else "no answer"
    again = ", ".join(f"{count} times {status}" for status, count in sorted(failures.by_status.items())) or "none"
    print(f"  {len(answers)} answers, {len(failed)} failed; {told}, {tokens / wall:.0f} tokens/s, {wall:.1f} s in all; refusals asked again: {again}",
          flush=True)
    for line in failed[:5]:
        print("  ", line)
    return answers, failed


def compare(wanted, answers):
    other = sorted(number for number in wanted if answers.get(number) != wanted[number])
    print(f"  {len(other)} of {len(wanted)} answers have other tokens than the single process's", flush=True)
    for number in other[:3]:
        print(f"    {number}: {answers.get(number)} for {wanted[number]}")
    return len(other)


class Dynamo:
    """A front end and its workers, in a world of their own."""

    def __init__(self, args, folder, store, count):
        self.folder = folder
        os.makedirs(folder)
        self.env = os.environ | {
            "DYN_DISCOVERY_BACKEND": "file", "DYN_FILE_KV": os.path.join(folder, "discovery"), "DYN_REQUEST_PLANE": "tcp",
        }
        self.logs = []
        front = [args.front, "-m", "dynamo.frontend", "--http-host", "127.0.0.1", "--http-port", str(FRONT), "--router-mode", args.router,
                 "--router-session-affinity-ttl-secs", "600", "--router-session-affinity-mode", args.affinity, "--migration-limit", str(args.migrations)]
        front += ["--no-router-kv-events"] if args.router == "kv" else []
        self.front = self.begin("front", front)
        worker = [args.dynamo, "--store", store] + (["--worker", args.worker] if args.worker else [])
        self.workers = [self.begin(f"worker{n}", worker) for n in range(count)]
        until(lambda: self.instances() == count, f"the front end and {count} workers; their logs are in {folder}")

    def begin(self, name, command):
        log = open(os.path.join(self.folder, name + ".log"), "wb")
        self.logs.append(log)
        return subprocess.Popen(command, env=self.env, stdout=log, stderr=log)

    def instances(self):
        told = httpx.get(f"http://127.0.0.1:{FRONT}/health", timeout=2).json()
        models = httpx.get(f"http://127.0.0.1:{FRONT}/v1/models", timeout=2).json()["data"]
        return len([one for one in told.get("instances", []) if one.get("endpoint") == "generate"]) if models else 0

    def moved(self):
        """Requests that the front end sent to another worker, as its log tells."""
        with open(os.path.join(self.folder, "front.log"), encoding="utf-8", errors="replace") as log:
            text = log.read()
        return text.count("Creating new stream, retrying"), text.count("recreating stream")

    def end(self):
        for process in [*self.workers, self.front]:
            process.kill()
            process.wait()
        for log in self.logs:
            log.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("serve", help="the program latent-briefing")
    parser.add_argument("dynamo", help="the program latent-briefing-dynamo")
    parser.add_argument("--worker", help="a model for both; the built-in worker without it")
    parser.add_argument("--front", default=sys.executable, help="a Python that has dynamo.frontend")
    parser.add_argument("--router", default="least-loaded", help="Dynamo's --router-mode")
    parser.add_argument("--affinity", choices=["hard", "soft"], default="soft", help="Dynamo's --router-session-affinity-mode")
    parser.add_argument("--long", type=int, default=0, metavar="TOKENS", help="answers of so many tokens, whatever the model would end with")
    parser.add_argument("--migrations", type=int, default=3, help="times that the front end moves a request; 0: only the client asks again")
    parser.add_argument("--logs", help="a new folder that keeps the store and the logs")
    args = parser.parse_args()
    wrong = 0
    with contextlib.ExitStack() as stack:
        folder = args.logs or stack.enter_context(tempfile.TemporaryDirectory())
        os.makedirs(folder, exist_ok=True)
        store = os.path.join(folder, "store")
        command = [args.serve, "serve", "--listen", f"127.0.0.1:{SERVE}", "--store", store]
        alone = subprocess.Popen(command + (["--worker", args.worker] if args.worker else []), stderr=subprocess.DEVNULL)
        try:
            base = f"http://127.0.0.1:{SERVE}"
            until(lambda: httpx.get(base + "/readyz", timeout=1).status_code == 200, "the server")
            trajectories(base)
            print("one process, latent-briefing serve:", flush=True)
            wanted, failed = run(base, False, args.long)
        finally:
            alone.terminate()
            alone.wait()
        if failed:
            sys.exit("a single process failed")
        lost = {}
        for name, count, disturbed in (("one worker", 1, False), ("three workers", 3, False), ("three workers, two of them lost", 3, True)):
            dynamo = Dynamo(args, os.path.join(folder, name.replace(" ", "-").replace(",", "")), store, count)

            def disturb(done, dynamo=dynamo, disturbed=disturbed):
                if disturbed and done == 60:
                    dynamo.workers[0].kill()
                    print("  one is killed", flush=True)
                if disturbed and done == 120:
                    dynamo.workers[1].send_signal(signal.SIGTERM)
                    lost["drained"] = time.time()
                    print("  two is told to end", flush=True)

            try:
                print(f"Dynamo, {name}:", flush=True)
                answers, failed = run(f"http://127.0.0.1:{FRONT}", True, args.long, disturb)
                wrong += len(failed) + compare(wanted, answers)
                if disturbed:
                    code = dynamo.workers[1].wait(120)
                    early, late = dynamo.moved() if args.migrations else (0, 0)
                    print(f"  two ended with {code} within {time.time() - lost['drained']:.0f} s; the front end moved {early} requests before their "
                          f"first token and {late} behind it", flush=True)
                    wrong += code != 0
            finally:
                dynamo.end()
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
