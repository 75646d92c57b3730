"""Latencies of the service of docs/service.py, by clients over loopback.

    python benchmarks/service.py [--repeats 20] [--threads 1]

The recording is one of the demonstration's, five seconds at the model's rate. The
service is a process of its own; each client sends its next request when it has the
answer to the one before.
"""

from __future__ import annotations

import argparse
import http.client
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median, quantiles
from urllib.parse import quote

from lmaczs.demo.scenes import write_scenes

SERVICE = Path(__file__).parents[1] / "docs" / "service.py"
SCENE, RATE = "dog_by_the_fire", 32000
CASES = {
    "classify, 4 labels": "/classify?label=dog&label=rain&label=siren&label=fire",
    "explain, 1 prompt": "/explain?prompt=dog",
    "explain, 1 prompt, sound": "/explain?prompt=dog&sounds=1",
    "explain, 3 prompts": f"/explain?prompt=dog&prompt={quote('crackling fire')}"
    "&prompt=siren",
    "explain, absent prompt": "/explain?prompt=siren",
}


def ask(port: int, path: str, body: bytes, times: int) -> list[float]:
    """Seconds from sending to the whole answer, of requests on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        connection.request("POST", path, body)
        answer = connection.getresponse()
        text = answer.read()
        seconds.append(time.perf_counter() - begin)
        if answer.status != 200:
            raise RuntimeError(text.decode())
    connection.close()
    return seconds


def measure(port: int, path: str, body: bytes, clients: int, repeats: int) -> str:
    """Median and 95th percentile in ms, and requests a second, of clients at once."""
    begin = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        waiting = [pool.submit(ask, port, path, body, repeats) for _ in range(clients)]
        seconds = [one for future in waiting for one in future.result()]
    rate = len(seconds) / (time.perf_counter() - begin)
    high = quantiles(seconds, n=20)[-1]
    return f"{1000 * median(seconds):.0f} | {1000 * high:.0f} | {rate:.1f}"


def main() -> None:
    """Start the service, ask and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1, help="of the service")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = {scene.name: path for scene, path in write_scenes(Path(folder), RATE)}
        body = paths[SCENE].read_bytes()
    process = subprocess.Popen(
        [sys.executable, "-u", SERVICE, "--port", "0"],
        env={**os.environ, "OMP_NUM_THREADS": str(args.threads)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().split("/")[2].split(":")[1])
        print("| request | clients | median, ms | 95 %, ms | requests/s |")
        print("|---|---|---|---|---|")
        for name, path in CASES.items():
            ask(port, path, body, 2)  # the first ones warm up
            for clients in (1, 3):
                found = measure(port, path, body, clients, args.repeats)
                print(f"| {name} | {clients} | {found} |", flush=True)
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
