"""Shards: their tables, what is read from them, and errors for damage."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from lmaczs.audio.io import load_audio
from lmaczs.data.clip_texts import ClipText
from lmaczs.data.shards import reader as shards
from lmaczs.data.shards.reader import ShardError, is_shards, read_clips, read_shards
from lmaczs.utils.errors import AudioError

RATE = 8000  # Hz
AGAIN = "run recipes/write_shards.py again"
ANEW = f"delete it, and {AGAIN}"  # for it has the right size


@pytest.fixture
def clips(tmp_path: Path) -> pd.DataFrame:
    """Nine clips: five to train on, two and two to judge by; one has captions."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(9):
        kind = ("wav", "flac")[number % 2]
        path = tmp_path / f"recordings/{number}.{kind}"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, rng.uniform(-0.5, 0.5, 800), RATE)
        split = "train" if number < 5 else "valid" if number < 7 else "test"
        label, texts = ("dog", "cat")[number % 2], []
        if number == 2:
            label, texts = "", ["A dog barks.", "Barking."]
        row = (f"clip/{number}.a", str(path), label, texts, split)
        rows.append(row)
    return pd.DataFrame(rows, columns=["id", "path", "label", "texts", "split"])


@pytest.fixture
def folder(
    clips: pd.DataFrame, write_shards: Callable[..., Path], tmp_path: Path
) -> Path:
    """The clips in shards of two: train-000000 to 2, valid-000000, test-000000."""
    return write_shards(tmp_path / "shards", clips, clips_per_shard=2)


def train(folder: Path, last: int = 2) -> str:
    """Pattern of the shards to train on."""
    return f"{folder}/train-{{000000..{last:06d}}}.tar"


# --- tables -------------------------------------------------------------------------


def test_tables_of_the_splits(folder: Path, clips: pd.DataFrame) -> None:
    """Every clip stands in its split's table, in order, with its texts."""
    splits = read_shards(train(folder))
    for split in ("train", "valid", "test"):
        table, expected = getattr(splits, split), clips[clips.split == split]
        assert table.id.tolist() == expected.id.tolist()
        assert table.label.tolist() == expected.label.tolist()
    paths = [f"{folder}/train-00000{i // 2}.tar/00000{i % 2}" for i in range(5)]
    assert splits.train.path.tolist() == paths
    captions = (ClipText("A dog barks.", False), ClipText("Barking.", False))
    assert splits.train.texts.tolist() == [
        (ClipText("dog"),),
        (ClipText("cat"),),
        captions,
        (ClipText("cat"),),
        (ClipText("dog"),),
    ]


def test_only_what_is_named_is_trained_on(folder: Path, clips: pd.DataFrame) -> None:
    """A part of the shards can be named; valid and test are whole all the same."""
    splits = read_shards(f"{folder}/train-{{000002,000000}}.tar")
    assert splits.train.id.tolist() == [clips.id[i] for i in (4, 0, 1)]
    assert len(splits.valid) == len(splits.test) == 2


def test_shards_of_valid_can_be_named(
    clips: pd.DataFrame, write_shards: Callable[..., Path], tmp_path: Path
) -> None:
    """What is named of a split is all that is used of it."""
    folder = write_shards(tmp_path / "shards", clips, clips_per_shard=1)
    splits = read_shards(f"{folder}/{{train-000001,valid-000001}}.tar")
    assert splits.train.id.tolist() == [clips.id[1]]
    assert splits.valid.id.tolist() == [clips.id[6]]
    assert len(splits.test) == 2


def test_pattern_without_a_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards of the folder that a command runs in need no path."""
    monkeypatch.chdir(folder)
    splits = read_shards("train-{000000..000002}.tar")
    assert splits.train.path[4] == "train-000002.tar/000000"
    assert len(list(read_clips(splits.train))) == 5


def test_a_shard_that_is_named_twice(folder: Path, clips: pd.DataFrame) -> None:
    """Its clips are trained on once."""
    table = read_shards(f"{folder}/train-{{000000,000000}}.tar").train
    assert table.id.tolist() == clips.id[:2].tolist()


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [("a/{0..9}.tar", True), (Path("a.tar"), True), ("a.csv", False), ("tar", False)],
)
def test_what_is_taken_for_shards(manifest: str | Path, expected: bool) -> None:
    """Names that end in .tar, and nothing else."""
    assert is_shards(manifest) is expected


def test_without_webdataset(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setattr(shards, "webdataset", None)
    with pytest.raises(ShardError, match=r"pip install -e .*\[shards\]"):
        read_shards(train(folder))


# --- clips --------------------------------------------------------------------------


def test_recordings_come_out_as_they_were(folder: Path, clips: pd.DataFrame) -> None:
    """The same bytes, and decoded the same samples, as from the file."""
    found = list(read_clips(read_shards(train(folder)).train))
    assert len(found) == 5
    for clip, path in zip(found, clips.path, strict=False):
        assert clip.audio == Path(path).read_bytes()
        assert f".{clip.suffix}" == Path(path).suffix
        assert torch.equal(clip.load(16000), load_audio(path, 16000))


def test_paths_are_those_of_the_table(folder: Path) -> None:
    """A clip that is read is found in the table by its path."""
    table = read_shards(train(folder)).train
    assert [clip.path for clip in read_clips(table)] == table.path.tolist()


def test_some_clips_of_a_shard(folder: Path) -> None:
    """Rows that are left out of a table are passed over."""
    table = read_shards(train(folder)).train
    chosen = table.iloc[[1, 2, 4]]
    assert [clip.path for clip in read_clips(chosen)] == chosen.path.tolist()


def test_shards_that_a_command_fetches(folder: Path) -> None:
    """What webdataset can open serves as well as a file: here what cat prints."""
    table = read_shards(f"pipe:cat {folder}/train-{{000000..000002}}.tar").train
    own = read_shards(train(folder)).train
    found, expected = ([c.audio for c in read_clips(t)] for t in (table, own))
    assert found == expected


# --- damage -------------------------------------------------------------------------


def delete_shard(folder: Path) -> None:
    """A file is not there."""
    (folder / "train-000001.tar").unlink()


def cut_shard(folder: Path) -> None:
    """A copy has broken off."""
    path = folder / "train-000001.tar"
    path.write_bytes(path.read_bytes()[:3000])


def delete_valid(folder: Path) -> None:
    """A shard that the pattern does not name, but that is needed, is not there."""
    (folder / "valid-000000.tar").unlink()


def delete_index(folder: Path) -> None:
    """The writing has not ended."""
    (folder / "index.json").unlink()


@pytest.mark.parametrize(
    "name",
    ["pipe:touch CANARY", "a'; touch CANARY; '", "../a.tar", "/dev/zero", ".a"],
)
def test_an_index_names_files_beside_it_alone(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """webdataset would run a command, or fetch a file, that somebody else wrote."""
    content = json.loads((folder / "index.json").read_text())
    shards = content["shards"]
    shards[name] = {**shards["test-000000.tar"], "bytes": 0}
    (folder / "index.json").write_text(json.dumps(content))
    monkeypatch.chdir(folder)
    with pytest.raises(
        ShardError, match="index.json lists .*, which is no shard beside"
    ):
        list(read_clips(read_shards("train-{000000..000002}.tar").test))
    assert not (folder / "CANARY").exists()


@pytest.mark.parametrize(
    "about", [1, {}, {"split": "test", "bytes": 1, "clips": [{}]}, {"split": "test"}]
)
def test_an_index_of_another_kind_is_one_sentence(about: object, folder: Path) -> None:
    """Values that are missing, or none of an index's."""
    content = json.loads((folder / "index.json").read_text())
    content["shards"]["test-000000.tar"] = about
    (folder / "index.json").write_text(json.dumps(content))
    with pytest.raises(ShardError, match="index.json cannot be read"):
        read_shards(train(folder))


def other_index(folder: Path) -> None:
    """Another program's index."""
    (folder / "index.json").write_text("[1]")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (delete_shard, f"train-000001.tar is missing; {AGAIN}"),
        (cut_shard, f"train-000001.tar has 3000 of [0-9]+ bytes; {AGAIN}"),
        (delete_valid, f"valid-000000.tar is missing; {AGAIN}"),
        (delete_index, "index.json cannot be read .*write_shards.py writes beside"),
        (other_index, "index.json cannot be read .*write_shards.py writes beside"),
    ],
)
def test_damage_is_noticed_before_training(
    folder: Path, harm: Callable[[Path], None], message: str
) -> None:
    """One sentence names the file and the fix."""
    harm(folder)
    with pytest.raises(ShardError, match=message) as refusal:
        read_shards(train(folder))
    assert "\n" not in str(refusal.value)


def test_shards_that_were_never_written(folder: Path) -> None:
    """The error for a pattern of too many shards says which there are."""
    with pytest.raises(
        ShardError, match="train-000003.tar, .* of the 5 shards .*test-"
    ):
        read_shards(train(folder, last=3))


def test_nothing_to_train_on(folder: Path) -> None:
    """Shards of split valid alone cannot be trained on."""
    with pytest.raises(ShardError, match="no shard of split train; .*column split"):
        read_shards(f"{folder}/valid-000000.tar")


def harmed(folder: Path, place: int, data: bytes) -> pd.DataFrame:
    """Table of the clips to train on, after the first shard was written over."""
    table = read_shards(train(folder)).train
    path = folder / "train-000000.tar"
    whole = path.read_bytes()
    path.write_bytes(whole[:place] + data + whole[place + len(data) :])
    return table


def test_shard_with_a_damaged_header(folder: Path) -> None:
    """Damage that keeps the size is an error on reading; no clip is left out."""
    table = harmed(folder, 0, bytes(range(1, 256)))
    with pytest.raises(
        ShardError, match=f"train-000000.tar is .* damaged .* 0 of 2 .*{ANEW}"
    ):
        list(read_clips(table))


def test_shard_that_ends_between_two_clips(folder: Path) -> None:
    """A tar that stops where a member does is no error of tar's, but it is ours."""
    first = next(read_clips(read_shards(train(folder)).train))
    # a header and the json, a header and the recording, in blocks of 512 bytes
    end = 512 * (1 + 1 + 1 + -(-len(first.audio) // 512))
    table = read_shards(
        f"pipe:head -c {end} {folder}/train-{{000000..000002}}.tar"
    ).train
    with pytest.raises(ShardError, match=f"train-000000.tar ends after 1 of 2.*{ANEW}"):
        list(read_clips(table))


def forged(folder: Path, *members: tuple[tarfile.TarInfo, bytes]) -> pd.DataFrame:
    """Table of the first shard, which somebody else made anew of members."""
    table = read_shards(train(folder)).train
    with tarfile.open(folder / "train-000000.tar", "w") as tar:
        for member, data in members:
            tar.addfile(member, io.BytesIO(data))
    return table


def member(name: str, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
    """A file of a tar."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info, data


def test_a_sparse_file_of_a_shard_is_not_read(folder: Path) -> None:
    """It states a terabyte and has 512 bytes."""
    info, data = member("000000.json", bytes(512))
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.size": str(1 << 40),
        "GNU.sparse.map": f"{(1 << 40) - 512},512",
    }
    with pytest.raises(ShardError, match=f"train-000000.tar is .* damaged .*{ANEW}"):
        list(read_clips(forged(folder, (info, data))))


def test_a_compressed_shard_is_not_read(folder: Path) -> None:
    """A few bytes of it may be any number."""
    table, path = read_shards(train(folder)).train, folder / "train-000000.tar"
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(ShardError, match=f"train-000000.tar is .* damaged .*{ANEW}"):
        list(read_clips(table))


@pytest.mark.parametrize("about", [b"[1]", b"null", b"[" * 100_000, b"\xff", b"{}"])
def test_an_id_of_another_kind_is_one_sentence(about: bytes, folder: Path) -> None:
    """As of an index."""
    members = member("000000.json", about), member("000000.wav", b"RIFF")
    with pytest.raises(ShardError, match=f"train-000000.tar is .* damaged .*{ANEW}"):
        list(read_clips(forged(folder, *members)))


@pytest.mark.parametrize("suffix", ["w" * 300, "\N{SNOWMAN}" * 90])
def test_a_suffix_of_no_recording_is_one_sentence(suffix: str, folder: Path) -> None:
    """It names a temporary file."""
    about = member("000000.json", b'{"id": "clip/0.a"}')
    table = forged(folder, about, member(f"000000.{suffix}", b"RIFF"))
    with pytest.raises(ShardError, match=f"train-000000.tar is .* damaged .*{ANEW}"):
        list(read_clips(table))


def test_shard_that_vanishes(folder: Path) -> None:
    """A shard that is gone when its turn comes ends the run."""
    table = read_shards(train(folder)).train
    (folder / "train-000001.tar").unlink()
    clips = read_clips(table)
    assert [next(clips).path[-6:] for _ in range(2)] == ["000000", "000001"]
    with pytest.raises(ShardError, match=f"train-000001.tar is missing .*{AGAIN}"):
        next(clips)


def test_shards_of_two_writings(folder: Path) -> None:
    """A shard whose clips are not those of the index is not trained on."""
    table = read_shards(train(folder)).train
    (folder / "train-000000.tar").replace(folder / "train-000001.tar")
    (folder / "train-000002.tar").replace(folder / "train-000000.tar")
    with pytest.raises(
        ShardError, match="/000000 is clip/4.a, where index.json has clip/0.a: "
    ):
        list(read_clips(table))


def test_recording_that_cannot_be_decoded(folder: Path) -> None:
    """The clip is named, not the file that its bytes were put into."""
    table = harmed(folder, 1536, bytes(44))  # the first recording's own header
    (clip, *_) = read_clips(table)
    with pytest.raises(AudioError, match=r"train-000000.tar/000000: ") as refusal:
        clip.load(16000)
    assert "tmp" not in str(refusal.value).replace(str(folder), "")


def test_what_a_worker_met_is_a_sentence() -> None:
    """A DataLoader's report of an error in a worker is brought back to the error."""
    told = "Caught ShardError in worker 0.\nOriginal Traceback:\n  x\nlmaczs.shards."
    assert str(ShardError(f"{told}ShardError: a.tar is gone\n")) == "a.tar is gone"
    assert str(ShardError("a.tar is gone")) == "a.tar is gone"
