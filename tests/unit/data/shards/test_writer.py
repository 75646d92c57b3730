"""Shards that are written: what is in them, breaks, and plans that must not mix."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from lmaczs.audio.io import AudioError, load_audio
from lmaczs.clap import FrozenClap
from lmaczs.data.build import build_datasets, read_splits
from lmaczs.data.manifest import manifest_splits
from lmaczs.data.prompted_dataset import Mixing, PromptedDataset
from lmaczs.data.segments import Segment
from lmaczs.data.shards import writer as shard_writer
from lmaczs.data.shards.dataset import ShardDataset
from lmaczs.data.shards.reader import read_clips, read_shards
from lmaczs.data.shards.writer import Clip, stored, write_shard, write_shards
from lmaczs.training.learnt import with_clips
from lmaczs.utils.result_folder import file_sha256

RATE = 16000  # Hz


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Twelve clips: whole recordings with labels, one captioned twice, two cut."""
    rng = np.random.default_rng(0)
    rows = ["path,text,label,split,start,stop,licence"]
    for number in range(10):
        name = f"{number}.{('wav', 'flac', 'ogg')[number % 3]}"
        soundfile.write(tmp_path / name, rng.uniform(-0.5, 0.5, (2000, 2)), RATE)
        split = "train" if number < 6 else "valid" if number < 8 else "test"
        label = ("dog", "cat")[number % 2]
        rows.append(f"{name},,{label},{split},,,CC0")
    rows[3:4] = ["2.ogg,Rain.,,train,,,CC0", '2.ogg,"Rain, again.",,train,,,CC0']
    rows += ["0.wav,,dog,train,0.02,0.05,CC0", "1.flac,,cat,train,,0.1,CC0"]
    path = tmp_path / "clips.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def write(manifest: Path) -> Callable[..., Path]:
    """Function that writes the manifest's clips into a folder, three a shard."""

    def run(folder: Path, clips_per_shard: int = 3) -> Path:
        return write_shards(manifest_splits(manifest), folder, clips_per_shard).parent

    return run


def pattern(folder: Path, last: int = 2) -> str:
    """The shards to train on."""
    return f"{folder}/train-{{000000..{last:06d}}}.tar"


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- what is written ----------------------------------------------------------------


def test_tables_are_those_of_the_manifest(
    write: Callable[..., Path], manifest: Path, tmp_path: Path
) -> None:
    """Shards say of every clip what the CSV does; those to train on are shuffled."""
    found = read_shards(pattern(write(tmp_path / "shards")))
    expected = manifest_splits(manifest)
    for split in ("train", "valid", "test"):
        said = [
            dict(zip(table.id, zip(table.label, table.texts, strict=True), strict=True))
            for table in (getattr(found, split), getattr(expected, split))
        ]
        assert said[0] == said[1]
        same_order = list(said[0]) == list(said[1])
        assert same_order is (split != "train")
    assert sum(len(texts) == 2 for texts in found.train.texts) == 1


def test_recordings_in_shards(
    write: Callable[..., Path], manifest: Path, tmp_path: Path
) -> None:
    """Whole recordings keep every byte; of others the stretch is a FLAC, exactly."""
    table = read_shards(pattern(write(tmp_path / "shards"))).train
    clips = dict(zip(table.id, read_clips(table), strict=True))
    source = manifest_splits(manifest).train.set_index("id")
    assert len(clips) == 8
    for name, row in source.iterrows():
        clip, whole = clips[name], load_audio(row.path, RATE)
        if np.isnan(row.stop):
            assert clip.audio == Path(row.path).read_bytes()
            continue
        first = 0 if np.isnan(row.start) else round(row.start * RATE)
        assert clip.suffix == "flac"
        stretch = whole[first : round(row.stop * RATE)]
        assert torch.equal(clip.load(RATE), stretch)
    assert {clip.suffix for clip in clips.values()} == {"wav", "flac", "ogg"}


def test_members_of_a_shard(write: Callable[..., Path], tmp_path: Path) -> None:
    """A tar is what webdataset's readers expect, with the manifest's other columns."""
    folder = write(tmp_path / "shards")
    with tarfile.open(folder / "valid-000000.tar") as tar:
        assert tar.getnames() == [
            "000000.json",
            "000000.wav",
            "000001.flac",
            "000001.json",
        ]
        about = json.load(tar.extractfile("000000.json"))
    assert about == {"id": "6", "phrases": [{"label": "dog"}], "licence": "CC0"}
    shards = json.loads((folder / "index.json").read_text())["shards"]
    assert list(shards) == [
        *(f"train-00000{i}.tar" for i in range(3)),
        "valid-000000.tar",
        "test-000000.tar",
    ]


@pytest.mark.parametrize(
    ("subtype", "peak", "suffix", "error"),
    [
        ("PCM_24", 0.9, "flac", 0.0),
        ("PCM_U8", 0.9, "flac", 0.0),
        ("FLOAT", 0.9, "flac", 2.0**-24),
        ("FLOAT", 1.7, "wav", 0.0),
    ],
)
def test_stretches_are_as_exact_as_flac_allows(
    tmp_path: Path,
    subtype: str,
    peak: float,
    suffix: str,
    error: float,
) -> None:
    """Integers stay what they are, floats are rounded to 24 bits, overs are kept."""
    path = tmp_path / "a.wav"
    samples = np.linspace(-peak, peak, 800)[:, None] * [1.0, -0.5]
    soundfile.write(path, samples, RATE, subtype=subtype)
    kind, audio = stored(Clip(Segment(str(path), 0.01, 0.04), {"id": "a"}))
    assert kind == suffix
    (tmp_path / f"b.{kind}").write_bytes(audio)
    found, _ = soundfile.read(tmp_path / f"b.{kind}")
    expected, _ = soundfile.read(path, start=160, stop=640)
    assert np.abs(found - expected).max() <= error


@pytest.mark.parametrize("name", ["a.wav", "a.ogg", "a.mp3"])
def test_stretches_of_joined_recordings_are_those_of_all(
    tmp_path: Path, name: str
) -> None:
    """Also where they begin beyond the first of them."""
    path = tmp_path / name
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (RATE, 2))
    soundfile.write(path, samples, RATE)
    path.write_bytes(path.read_bytes() * 2)
    for start, stop in ((0.9, 1.1), (1.5, None)):
        segment = Segment(str(path), start, stop)
        kind, audio = stored(Clip(segment, {"id": "a"}))
        (tmp_path / f"b.{kind}").write_bytes(audio)
        found = load_audio(tmp_path / f"b.{kind}", RATE)
        torch.testing.assert_close(found, segment.load(RATE), atol=1e-6, rtol=0)


def test_prompts_are_those_of_the_manifest(
    write: Callable[..., Path], manifest: Path, tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """The prompts do not depend on whether clips are files or shards."""
    named = pattern(write(tmp_path / "shards"))
    shards, files = (
        build_datasets(
            read_splits(manifest=place),
            tiny_clap.front_end,
            ["the {}"],
            Mixing(),
            buffer_clips=5,
        )
        for place in (named, manifest)
    )
    for split in ("train", "valid", "test"):
        found, expected = shards[split], files[split]
        assert isinstance(found, ShardDataset)
        assert isinstance(expected, PromptedDataset)
        assert found.buffer_clips == 5
        assert found.classes == expected.classes
        assert found.training is expected.training is (split == "train")


def test_the_index_knows_the_recordings(
    write: Callable[..., Path], manifest: Path, tmp_path: Path
) -> None:
    """What was learnt from shards is not tested on from files, and the other way."""
    recordings = [path for path in tmp_path.glob("*.*") if path != manifest]
    digests = {str(path): file_sha256(path) for path in recordings}
    found = read_shards(pattern(write(tmp_path / "shards"))).train
    source = manifest_splits(manifest).train
    expected = dict(zip(source.id, source.path.map(digests), strict=True))
    assert dict(zip(found.id, found.sha256, strict=True)) == expected
    learnt = with_clips({}, found)
    files = source.assign(sha256=source.path.map(digests))
    assert learnt == with_clips({}, files.set_index("id").loc[found.id].reset_index())
    cut = learnt[digests[str(tmp_path / "0.wav")]]
    assert sorted(cut) == [[0.0, 1e9], [0.02, 0.05]]


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38])
def test_what_is_no_sound_is_not_written(tmp_path: Path, value: float) -> None:
    """A recording that nothing could be learnt from is named."""
    path = tmp_path / "a.wav"
    samples = np.full(800, 0.1, np.float32)
    samples[300] = value
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav: it holds"):
        stored(Clip(Segment(str(path)), {"id": "a"}))


# --- breaks -------------------------------------------------------------------------


def test_goes_on_after_a_break(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written before a break stays; the end is what it would have been."""
    whole, broken = write(tmp_path / "whole"), tmp_path / "broken"

    def breaks_off(path: Path, clips: list[Clip]) -> None:
        if path.name == "train-000002.tar":
            clips = [clips[0], Clip(Segment("gone.wav"), {})]
        write_shard(path, clips)

    with monkeypatch.context() as patched:
        patched.setattr(shard_writer, "write_shard", breaks_off)
        with pytest.raises(AudioError, match="gone.wav: there is no such file"):
            write(broken)
    left = {path.name for path in broken.iterdir()}
    assert left == {".plan.json", "train-000000.tar", "train-000001.tar"}
    before = (broken / "train-000001.tar").stat().st_mtime_ns
    write(broken)
    assert (broken / "train-000001.tar").stat().st_mtime_ns == before
    assert bytes_of(broken) == bytes_of(whole)


def test_mends_what_is_not_whole(write: Callable[..., Path], tmp_path: Path) -> None:
    """After an end, the same line writes shards that were lost or cut short since."""
    folder = write(tmp_path / "shards")
    before = bytes_of(folder)
    (folder / "train-000001.tar").write_bytes(before["train-000001.tar"][:999])
    (folder / "test-000000.tar").unlink()
    write(folder)
    assert bytes_of(folder) == before


def test_another_plan_is_refused(write: Callable[..., Path], tmp_path: Path) -> None:
    """Shards of two plans are never mixed, nor are those of a stranger touched."""
    folder = write(tmp_path / "shards")
    before = bytes_of(folder)
    with pytest.raises(FileExistsError, match="of another manifest .* another folder"):
        write(folder, clips_per_shard=4)
    assert bytes_of(folder) == before
    other = tmp_path / "other"
    other.mkdir()
    (other / "train-000000.tar").touch()
    with pytest.raises(FileExistsError, match="other holds shards of another manifest"):
        write(other)
