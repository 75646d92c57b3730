"""Properties of what a training run is, and of whose an output folder is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from speechbrain.utils.run_opts import RunOptions

from lmaczs.training.run_identity import (
    OtherRunError,
    begin_run,
    differences,
    held,
    run_digest,
    settings_of,
)
from lmaczs.utils.errors import InputError

RECIPE = """\
seed: 7
__set_seed: !apply:speechbrain.utils.seed_everything [!ref <seed>]
output_folder: results/x
save_folder: !ref <output_folder>/save
number_of_epochs: 3
rate_epochs: !ref <number_of_epochs>
objective: lmaczs
weights: {sparsity: 1.0, similarity: 2.0}
templates: ["{}", "the sound of {}"]
split: !name:lmaczs.data.esc50.split_for_development
disturb: !new:lmaczs.data.augment.WaveformAugment
    speed_prob: 0.5
max_grad_norm: 5.0
num_workers: 0
"""
ONE = {"objective": "lmaczs", "weights.sparsity": 1.0}


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Function that gives the settings of a command line, of a recipe of its own."""

    def read(*options: str, recipe: str = RECIPE) -> dict[str, Any]:
        path = tmp_path / "recipe.yaml"
        path.write_text(recipe)
        _, run_opts, overrides = RunOptions.from_command_line_args(
            [str(path), *options]
        )
        return settings_of(path, overrides, run_opts)

    return read


# --- settings -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--objective=lmac"], ["objective lmaczs, now lmac"]),
        (["--weights={sparsity: 3}"], ["weights.sparsity 1.0, now 3"]),
        (["--weights={other: 3}"], ["weights.other unset, now 3"]),
        (["--seed=8"], ["seed 7, now 8"]),
        (["--disturb={speed_prob: 1}"], ["disturb.speed_prob 0.5, now 1"]),
        (["--templates=[a]"], ['templates ["{}", "the sound of {}"], now ["a"]']),
        (["--rate_epochs=9"], ["rate_epochs !ref <number_of_epochs>, now 9"]),
        (
            ["--split=!name:lmaczs.data.esc50.esc50_splits"],
            [
                "split !name:lmaczs.data.esc50.split_for_development, now "
                "!name:lmaczs.data.esc50.esc50_splits"
            ],
        ),
        (["--max_grad_norm=1"], ["max_grad_norm 5.0, now 1.0"]),
        (["--precision=bf16"], ["precision unset, now bf16"]),
        (
            ["--seed=8", "--objective=lmac"],
            ["seed 7, now 8", "objective lmaczs, now lmac"],
        ),
    ],
)
def test_what_changes_the_result_is_named(
    settings: Callable[..., dict[str, Any]], options: list[str], told: list[str]
) -> None:
    """Each once, at the key that was changed, however many others refer to it."""
    assert differences(settings(), settings(*options)) == told


def test_a_fraction_of_the_training_clips_is_another_run() -> None:
    """Of the recipes as they are: a quarter of the data is not all of them."""
    path = Path(__file__).parents[3] / "hparams/esc50.yaml"
    runs = [
        settings_of(path, f"data_folder: x\ntrain_fraction: {part}", RunOptions())
        for part in (1.0, 0.25)
    ]
    assert differences(*runs) == ["train_fraction 1.0, now 0.25"]


@pytest.mark.parametrize(
    "option",
    [
        "--output_folder=elsewhere",
        "--number_of_epochs=30",
        "--num_workers=2",
        "--device=cpu",
        "--ckpt_interval_steps=5",
        "--noprogressbar",
        "--debug",
        "--seed=7",
        "--weights={sparsity: 1}",
        "--max_grad_norm=5",
    ],
)
def test_what_does_not_change_the_result(
    settings: Callable[..., dict[str, Any]], option: str
) -> None:
    """Where and how fast a run goes, how long, and what is given as it was."""
    assert differences(settings(), settings(option)) == []


def test_a_new_key_of_a_recipe_counts(settings: Callable[..., dict[str, Any]]) -> None:
    """Nobody has to remember to list it; a comment is none."""
    same = settings(recipe="# other words\n" + RECIPE)
    other = settings(recipe=RECIPE + "margin: 0.1\n")
    assert differences(settings(), same) == []
    assert differences(settings(), other) == ["margin unset, now 0.1"]


# --- whose a folder is --------------------------------------------------------------


def begin(folder: Path, identity: dict[str, Any], **options: Any) -> None:
    """Begin a run whose checkpoints are in save."""
    begin_run(folder, folder / "save", lambda: identity, **options)


def save_checkpoint(folder: Path) -> None:
    """Leave what a checkpoint is known by."""
    (folder / "save/CKPT+1").mkdir(parents=True)
    (folder / "save/CKPT+1/CKPT.yaml").touch()


def content(folder: Path) -> dict[Path, bytes]:
    """Every file of a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_run_resumes(tmp_path: Path) -> None:
    """What it is was noted before training, and is not written again."""
    begin(tmp_path, ONE)
    assert json.loads((tmp_path / "run.json").read_text()) == ONE
    save_checkpoint(tmp_path)
    before = content(tmp_path)
    begin(tmp_path, dict(reversed(ONE.items())))
    assert content(tmp_path) == before


@pytest.mark.parametrize("debug", [False, True])
def test_another_run_is_refused(tmp_path: Path, debug: bool) -> None:
    """One sentence names what differs; nothing is touched, by --debug neither."""
    begin(tmp_path, ONE)
    save_checkpoint(tmp_path)
    (tmp_path / "before.json").touch()
    before = content(tmp_path)
    message = (
        f"output_folder {tmp_path} was begun with objective lmaczs, now lmac; "
        "weights.sparsity 1.0, now 2: give --resume-anyway or another "
        "--output_folder"
    )
    other = {"objective": "lmac", "weights.sparsity": 2}
    with pytest.raises(OtherRunError) as refusal:
        begin(tmp_path, other, debug=debug, stale=["before.json"])
    assert str(refusal.value) == message
    assert content(tmp_path) == before


def test_a_folder_without_training_is_free(tmp_path: Path) -> None:
    """Another run may begin there; what the first one measured before goes."""
    begin(tmp_path, ONE, stale=["before.json"])
    (tmp_path / "before.json").touch()
    begin(tmp_path, ONE, stale=["before.json"])
    assert (tmp_path / "before.json").exists()
    begin(tmp_path, {"objective": "lmac"}, stale=["before.json"])
    assert not (tmp_path / "before.json").exists()
    assert json.loads((tmp_path / "run.json").read_text()) == {"objective": "lmac"}


def test_debug_notes_nothing(tmp_path: Path) -> None:
    """It leaves nothing that another run would be refused for."""
    begin(tmp_path, ONE, debug=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("result", ["checkpoint", "test.json"])
def test_a_training_that_did_not_note_what_it_is(tmp_path: Path, result: str) -> None:
    """Of an older version: nobody knows whether the line is the same."""
    if result == "checkpoint":
        save_checkpoint(tmp_path)
    else:
        (tmp_path / result).touch()
    with pytest.raises(OtherRunError, match=r"of an older version.*run\.json is miss"):
        begin(tmp_path, ONE)
    assert not (tmp_path / "run.json").exists()


@pytest.mark.parametrize("text", ["{", "3"])
def test_a_note_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    """The file is named."""
    save_checkpoint(tmp_path)
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(OtherRunError, match=r"run\.json is damaged, .*: give --res"):
        begin(tmp_path, ONE)


def test_digest_of_a_run(tmp_path: Path) -> None:
    """It is that of run.json, wherever the folder is; without one, of the place."""
    for name in ("one", "two"):
        begin(tmp_path / name, ONE)
        (tmp_path / f"old_{name}").mkdir()
    assert run_digest(tmp_path / "one") == run_digest(tmp_path / "two")
    assert run_digest(tmp_path / "old_one") != run_digest(tmp_path / "old_two")


def test_another_run_resumes_anyway(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What differs is a warning; what was measured of the former goes."""
    begin(tmp_path, ONE)
    save_checkpoint(tmp_path)
    for name in ("before.json", "test.json"):
        (tmp_path / name).touch()
    now = {"objective": "lmac", "weights.sparsity": 1.0}
    stale = ["before.json", "test.json"]
    begin(tmp_path, now, stale=stale, resume_anyway=True)
    assert json.loads((tmp_path / "run.json").read_text()) == now
    assert not (tmp_path / "before.json").exists()
    assert not (tmp_path / "test.json").exists()
    assert (tmp_path / "save/CKPT+1/CKPT.yaml").exists()
    (warning,) = caplog.records
    assert warning.message == (
        f"Resumed anyway: output_folder {tmp_path} was begun with objective lmaczs, "
        "now lmac"
    )
    begin(tmp_path, now, stale=stale)  # it is this run now
    with pytest.raises(OtherRunError):
        begin(tmp_path, ONE)


def test_recordings_that_changed_are_named(tmp_path: Path) -> None:
    """Beside the digests, which nobody can look up."""
    begin(tmp_path, {"train clips": "3 (digest a)"})
    save_checkpoint(tmp_path)
    message = r"now 3 \(digest b\) \(changed: x\.wav, y\.wav\): give --resume"
    with pytest.raises(OtherRunError, match=message):
        begin(tmp_path, {"train clips": "3 (digest b)"}, changed=["x.wav", "y.wav"])


def test_an_exported_decoder_is_not_trained_over(tmp_path: Path) -> None:
    """Its hyperparams.yaml and run.json would be replaced, --resume-anyway or not."""
    for name in ("decoder.ckpt", "hyperparams.yaml", "run.json"):
        (tmp_path / name).write_text("{}")
    before = content(tmp_path)
    with pytest.raises(OtherRunError, match="holds an exported decoder, which would"):
        begin(tmp_path, ONE, resume_anyway=True)
    assert content(tmp_path) == before


HOLD = """
import sys
from lmaczs.training.run_identity import held
with held(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_run_at_a_time_is_at_work_in_a_folder(tmp_path: Path) -> None:
    """Another is refused until it is done; a debug run writes nothing, and may."""
    folder = tmp_path / "out"
    line = [sys.executable, "-c", HOLD, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(line, text=True, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=f"^output_folder {folder}: another lma"):
            with held(folder):
                pass
        with held(folder, debug=True):
            pass
        process.kill()
    unfinished = folder / ".test.999999999.lmaczs-part.json"
    unfinished.touch()
    with held(folder):
        assert not unfinished.exists()
    with held(tmp_path / "none", debug=True):
        assert not (tmp_path / "none").exists()
