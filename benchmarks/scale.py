"""What a corpus costs a clip, and what that is for a hundred million.

    python benchmarks/scale.py [FOLDER] [--clips 40] [--blocks 20000] [--rows 1000000]

FOLDER is what `benchmarks/corpus.py --folder FOLDER` wrote; without it a small one is
made. Measured are processor seconds of a clip with one thread; bytes of a clip in each
table; and what a corpus of many blocks asks of the process that hands them out: to plan
so many clips, to list so many blocks, and to pass a tenth of them through Ray.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from corpus import PROMPTS, command, make_clips, run, sources_of

from lmaczs import ZeroShotInterpreter
from lmaczs.corpus.engines import Counts
from lmaczs.corpus.plan import clips_of_manifest, planned
from lmaczs.corpus.rows import RowMaker, Wanted
from lmaczs.corpus.store import Copies, Store
from lmaczs.corpus.tables import TABLES, file_of
from lmaczs.data.csv_table import read_csv_table

HUNDRED_MILLION = 1e8


def used(work: Callable[[], Any]) -> float:
    """Processor seconds of a piece of work."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def ignored(*kept: object) -> None:
    """Nothing is kept."""


def made(maker: RowMaker, clips: Sequence[dict[str, Any]]) -> None:
    """Make the rows of clips, twenty at once."""
    for first in range(0, len(clips), 20):
        with Copies() as copies:
            maker(clips[first : first + 20], copies, ignored)


def costs(interpreter: ZeroShotInterpreter, clips: Sequence[dict[str, Any]]) -> None:
    """Print what a clip costs, by what is wanted of it."""
    wanted = {
        "scores alone (a prompt that is never there)": Wanted(("zxqj",), 0, False),
        "the decoder's masks": Wanted(PROMPTS, 0),
        "refined masks": Wanted(PROMPTS, "auto"),
    }
    print("| what is wanted | processor ms a clip | machine-hours for 10^8, 64 cores |")
    print("|---|---|---|")
    for name, one in wanted.items():
        maker = RowMaker(interpreter, one)
        made(maker, clips[:4])
        seconds = used(lambda maker=maker: made(maker, clips)) / len(clips)
        hours = seconds * HUNDRED_MILLION / 3600 / 64
        print(f"| {name} | {1000 * seconds:.0f} | {hours:.0f} |", flush=True)


def sizes(folder: Path, clips: int) -> None:
    """Print how many bytes a clip has in each table."""
    print("| table | bytes a clip | GB for 10^8 |")
    print("|---|---|---|")
    for table in (*TABLES, "plan"):
        total = sum(one.stat().st_size for one in folder.glob(f"{table}/**/*.parquet"))
        each = total / clips
        print(f"| {table} | {each:.0f} | {each * HUNDRED_MILLION / 1e9:.0f} |")


def memory(name: str, count: int, make: Callable[[], Any]) -> None:
    """Print how much of memory what is made takes, for each of so many."""
    tracemalloc.start()
    kept = make()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del kept
    print(f"{name}: {size / count / 1024:.1f} KiB in memory", flush=True)


def planning(rows: int) -> None:
    """Print what it takes to plan clips of a Parquet manifest."""
    import pyarrow.parquet as pq

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clips.parquet")
        station = "s3://recordings/station-{:02d}/{:012d}.flac".format
        names = [station(n % 100, n) for n in range(rows)]
        pq.write_table(pa.table({"path": names}), path)
        del names
        count = [0, 0]

        def plan() -> None:
            for file in planned(clips_of_manifest(str(path)), 64):
                file.digest()
                count[0] += file.blocks
                count[1] += len(file.to_bytes())

        seconds = used(plan)
    print(
        f"{rows} clips planned in {seconds:.1f} s: {count[0]} blocks, "
        f"{count[1] / rows:.1f} bytes a clip"
    )


def listing(blocks: int) -> None:
    """Print what it takes to list the blocks that are done."""
    with tempfile.TemporaryDirectory() as folder:
        for block in range(blocks):
            path = Path(folder, file_of("clips", block))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        store = Store(folder)
        print(f"{blocks} blocks listed in {used(lambda: store.names('clips')):.2f} s")


def handed(block: int) -> Counts:
    """A block that takes no time."""
    return Counts(block, 64, 0, 0, 0)


def through_ray(blocks: int) -> None:
    """Print how many blocks a second Ray hands out."""
    from lmaczs.corpus.cluster import run_ray

    begin = time.perf_counter()
    for number, _ in enumerate(run_ray(range(blocks), lambda: handed, 2)):
        if not number:
            begin, first = time.perf_counter(), time.perf_counter() - begin
    rate = (blocks - 1) / (time.perf_counter() - begin)
    text = f"{rate:.0f} a second, the first after {first:.0f} s"
    print(f"{blocks} blocks through Ray: {text}", flush=True)


def small_corpus(work: Path) -> Path:
    """Clips of the demonstration's sources, and their corpus."""
    (work / "clips").mkdir()
    manifest = make_clips(20, sources_of([], work), work / "clips")
    run(command(manifest, work / "local"))
    return work


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--blocks", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        folder = args.folder or small_corpus(Path(work))
        manifest = folder / "clips" / "clips.csv"
        table = pa.concat_tables(clips_of_manifest(str(manifest)))
        sizes(folder / "local", len(table))
        planning(args.rows)
        listing(args.blocks)
        through_ray(args.blocks // 10)
        interpreter = ZeroShotInterpreter.from_hparams(run_opts={"device": "cpu"})
        rows = table.slice(0, args.clips).to_pylist()
        clips = [{"clip": n, **row} for n, row in enumerate(rows)]
        costs(interpreter, clips)
        maker = RowMaker(interpreter, Wanted(PROMPTS, 0))
        with Copies() as copies:
            memory("rows of a clip", len(clips), lambda: maker(clips, copies, ignored))
        memory("a row of a CSV", len(table), lambda: read_csv_table(manifest, (), ()))


if __name__ == "__main__":
    main()
