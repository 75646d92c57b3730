"""A corpus survives kills and lost machines, and lies in object stores."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lmaczs.audio.io import save_audio
from lmaczs.cli import main
from lmaczs.corpus.store import Store
from lmaczs.corpus.tables import file_of
from lmaczs.demo.scenes import render

RATE, COUNT = 32000, 24

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with as many recordings."""
    folder = tmp_path_factory.mktemp("sounds")
    for number in range(COUNT):
        name = ("siren", "dog", "rain")[number % 3]
        wav = render(name, RATE, 3.0, seed=number).float()
        save_audio(folder / f"{number:02d}.wav", wav, RATE)
    return folder


def line(sounds: Path | str, out: Path | str, *options: str) -> list[str]:
    """Words of a command, of blocks of two clips."""
    words = ["corpus", str(sounds), "--prompt", "siren", "--prompt", "dog"]
    words += ["--refine", "off", "--device", "cpu", "--block-clips", "2"]
    return [*words, "--quiet", "--out", str(out), *options]


def tree(folder: Path) -> dict[str, bytes]:
    """Content of every file below a folder."""
    files = (one for one in folder.rglob("*") if one.is_file())
    return {str(one.relative_to(folder)): one.read_bytes() for one in files}


def blocks_in(out: Path) -> int:
    """Blocks that are done."""
    return len(list(out.glob("clips/*/*.parquet")))


@pytest.fixture(scope="module")
def expected(
    sounds: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """The corpus that nothing disturbs."""
    out = tmp_path_factory.mktemp("expected")
    assert main(line(sounds, out)) == 0
    return tree(out)


KILLED = """
import os, signal, sys
from lmaczs.cli import main

replace, (file, *words) = os.replace, sys.argv[1:]

def killed(part, dest):
    if str(dest).endswith(file):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(part, dest)

os.replace = killed
main(words)
"""
"""A command that is killed when a file has been written but for its name."""


def test_what_is_killed_is_resumed(
    sounds: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    """Before a block's last table, and its second: nothing is lost or there twice."""
    out = tmp_path / "out"
    for table, block in (("clips", 2), ("events", 5)):
        words = [sys.executable, "-c", KILLED, file_of(table, block)]
        killed = subprocess.run([*words, *line(sounds, out)], timeout=300)
        assert killed.returncode == -signal.SIGKILL
        assert blocks_in(out) == block and list(out.rglob(".*.lmaczs-part*"))
    assert main(line(sounds, out)) == 0
    assert tree(out) == expected


KILLED_ONCE = """
import os, signal

replace = os.replace

def killed(part, dest):
    if str(dest).endswith({file!r}) and not os.path.exists({mark!r}):
        open({mark!r}, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    replace(part, dest)

os.replace = killed
"""
"""Of Python that begins with it: the first that is about to name a file is killed."""


def test_a_worker_that_is_killed_as_it_writes_leaves_nothing(
    sounds: Path,
    tmp_path: Path,
    expected: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it had begun is swept, by the command that goes on without it."""
    mark = tmp_path / "mark"
    code = KILLED_ONCE.format(file=file_of("clips", 3), mark=str(mark))
    (tmp_path / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    assert main(line(sounds, tmp_path / "out", "--jobs", "2")) == 0
    assert mark.exists() and tree(tmp_path / "out") == expected


def test_a_corpus_may_be_in_a_store(
    sounds: Path, tmp_path: Path, expected: dict[str, bytes], bucket: str
) -> None:
    """Recordings, manifest and tables; the same scores as on this machine."""
    store = Store(bucket)
    for path in sounds.iterdir():
        store.write(f"sounds/{path.name}", path.read_bytes())
    out = f"{bucket}/out"
    assert main(line(f"{bucket}/sounds/", out)) == 0
    found = Store(out)
    local = tmp_path / "local"
    assert set(found.names("")) == set(expected)
    for name in found.names("scores"):
        content = found.read(name)
        assert content is not None
        local.write_bytes(content)
        one = pq.read_table(local)
        local.write_bytes(expected[name])
        assert one.equals(pq.read_table(local))
    (name, *_) = found.names("clips")
    with found.open(name) as source:
        paths = pq.read_table(source, columns=["path"])["path"].to_pylist()
    assert paths == [f"{bucket}/sounds/00.wav", f"{bucket}/sounds/01.wav"]


def test_machines_that_are_lost_cost_nothing(
    sounds: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    """Both of two simulated ones are killed at work; others join in."""
    from ray.cluster_utils import Cluster

    out = tmp_path / "out"
    cluster = Cluster(True, head_node_args={"num_cpus": 0})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        options = ["--engine", "ray", "--jobs", "2", "--address", cluster.address]
        words = [sys.executable, "-m", "lmaczs", *line(sounds, out, *options)]
        with subprocess.Popen(words) as process:
            try:
                while process.poll() is None and blocks_in(out) < 2:
                    time.sleep(0.05)
                for node in nodes:
                    cluster.remove_node(node, allow_graceful=False)
                    cluster.add_node(wait=False, num_cpus=1)
                assert process.wait(1800) == 0
            finally:
                process.kill()
    finally:
        cluster.shutdown()
    assert tree(out) == expected
