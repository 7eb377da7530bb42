"""Three worker servers, one store, one front end: a server is killed and another told to end while 200 requests over 10 trajectories run.

    python tools/many/many.py path/to/latent-briefing [--worker MODEL] [--index redis://127.0.0.1:6379/0]

Wants haproxy and the Python packages openai and httpx. Every answer must be the one that a single server gives. Prints the times beside
those of a single server.
"""

import argparse
import concurrent.futures
import os
import signal
import subprocess
import sys
import tempfile
import time

import httpx
import openai

TOWNS = ["Oslo", "Turin", "Kyoto", "Lima", "Accra", "Riga", "Quito", "Hobart"]
NAMES = ["Ana", "Bo", "Cleo", "Dan", "Eve", "Finn", "Gil", "Hana"]
HERE = os.path.dirname(os.path.abspath(__file__))


def serve(args, port, store):
    command = [args.program, "serve", "--listen", f"127.0.0.1:{port}", "--store", store]
    command += ["--worker", args.worker] if args.worker else []
    command += ["--index", args.index] if args.index else []
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def ready(base, name="server"):
    for _ in range(600):
        try:
            if httpx.get(base + "/readyz", timeout=1).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    sys.exit(f"{name} at {base} is not ready")


def trajectories(base):
    ids = []
    for n in range(10):
        segments = [
            {"source": "finding", "text": f"The {TOWNS[(n + i) % 8]} ledger of {1900 + i} is kept by {NAMES[(n + 3 * i) % 8]}."}
            for i in range(24)
        ]
        name = f"t{n}"
        told = httpx.post(base + "/v1/trajectories", json={"id": name, "segments": segments}, timeout=120)
        told.raise_for_status()
        ids.append(name)
    return ids


def ask(client, number, ids):
    name = ids[number % 10]
    handoff = ["latent-briefing:keep=0.2", "full-kv", "bm25:0.3"][number % 3]
    begin = time.time()
    answer = client.chat.completions.create(
        model="latent-briefing",
        messages=[{"role": "user", "content": f"Who keeps the {TOWNS[number % 8]} ledger of {1900 + number % 24}?"}],
        max_tokens=24,
        extra_headers={"x-trajectory": name},
        extra_body={"briefing": {"trajectory": name, "handoff": handoff}},
    )
    return answer.choices[0].message.content, time.time() - begin, answer.usage.completion_tokens


def run(base, ids, disturb=lambda done: None):
    client = openai.OpenAI(base_url=base + "/v1", api_key="none", max_retries=6, timeout=300)
    begin, done = time.time(), 0
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        futures = {pool.submit(ask, client, number, ids): number for number in range(200)}
        answers, times, tokens, failed = {}, [], 0, []
        for future in concurrent.futures.as_completed(futures):
            done += 1
            disturb(done)
            try:
                text, seconds, written = future.result()
                answers[futures[future]] = text
                times.append(seconds)
                tokens += written
            except Exception as error:  # noqa: BLE001 - every kind is told
                failed.append(f"{futures[future]}: {type(error).__name__} {error}")
    times.sort()
    wall = time.time() - begin
    print(f"  {len(answers)} answers, {len(failed)} failed; p50 {times[len(times) // 2]:.2f} s, p95 {times[int(0.95 * len(times))]:.2f} s, "
          f"{tokens / wall:.0f} tokens/s, {wall:.0f} s in all")
    for line in failed[:5]:
        print("  ", line)
    return answers, failed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--worker")
    parser.add_argument("--index", help="of a program that was built with the feature redis")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        alone = serve(args, 8204, os.path.join(folder, "alone"))
        try:
            ready("http://127.0.0.1:8204")
            ids = trajectories("http://127.0.0.1:8204")
            print("one server:")
            wanted, failed = run("http://127.0.0.1:8204", ids)
        finally:
            alone.terminate()
            alone.wait()
        if failed:
            sys.exit("a single server failed")
        store = os.path.join(folder, "store")
        servers = [serve(args, port, store) for port in (8201, 8202, 8203)]
        front = None
        try:
            for port in (8201, 8202, 8203):
                ready(f"http://127.0.0.1:{port}")
            front = subprocess.Popen(["haproxy", "-f", os.path.join(HERE, "haproxy.cfg"), "-db", "-q"], stderr=subprocess.DEVNULL)
            ready("http://127.0.0.1:8200", "haproxy")
            ids = trajectories("http://127.0.0.1:8200")

            def disturb(done):
                if done == 60:
                    servers[0].kill()
                    print("  one is killed")
                if done == 120:
                    servers[1].send_signal(signal.SIGTERM)
                    print("  two is told to end")

            print("three servers:")
            answers, failed = run("http://127.0.0.1:8200", ids, disturb)
        finally:
            for process in servers + ([front] if front else []):
                process.kill()
                process.wait()
    other = [number for number in wanted if answers.get(number) != wanted[number]]
    print(f"  {len(other)} of {len(wanted)} answers are others than a single server's")
    sys.exit(1 if other or failed else 0)


if __name__ == "__main__":
    main()
