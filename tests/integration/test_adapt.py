"""`lmaczs adapt`: from a CLAP alone, and from sounds, to a decoder that is used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from speechbrain.utils.checkpoints import Checkpointer

from lmaczs import ZeroShotInterpreter
from lmaczs.clap import FrozenClap
from lmaczs.cli import main
from lmaczs.training.adapt import AdaptOptions, adapt
from lmaczs.training.run_identity import OtherRunError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SMALL = {"device": "cpu", "batch_size": 4, "width": 8}
OPTIONS = ("--device", "cpu", "--batch-size", "4", "--clips", "24", "--epochs", "2")
SHOWN = {"AI", "AD", "AG", "FF", "Fid-In", "MM", "s a clip"}


@pytest.fixture(scope="module")
def clap_folder(make_clap_folder: Callable[..., Path]) -> Path:
    """A random CLAP of 3 s at 16 kHz with 32 mel bands, unlike the embedded one."""
    return make_clap_folder("other")


@pytest.fixture(scope="module")
def made(clap_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a decoder, made by the command of a CLAP alone, and of its run."""
    folder = tmp_path_factory.mktemp("made")
    assert main(["adapt", str(clap_folder), str(folder / "dest"), *OPTIONS]) == 0
    return folder


def content(folder: Path) -> dict[Path, bytes]:
    """Every file below a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def weights(dest: Path) -> dict[str, torch.Tensor]:
    """Weights of a decoder's folder."""
    return load_file(dest / "decoder.safetensors")


def test_the_decoder_is_loaded_and_explains(made: Path, clap_folder: Path) -> None:
    """By from_hparams and by the command, with the CLAP that it was made for."""
    (made / "dest-run").rename(made / "moved")  # it is not needed
    interpreter = ZeroShotInterpreter.from_hparams(made / "dest")
    assert interpreter.sample_rate == 16000
    sound = sorted(made.glob("moved/sounds-*/*.flac"))[0]
    one = interpreter.interpret_file(sound, "a dog barking", refine=0)
    assert one.mask.shape == (513, one.masked_stft.shape[1])
    assert one.waveform.shape == one.input.shape
    expected = FrozenClap.from_pretrained(clap_folder).state_dict()
    for name, value in interpreter.clap.state_dict().items():
        assert torch.equal(value, expected[name])
    argv = ["interpret", str(sound), "--prompt", "rain", "--device", "cpu"]
    argv += ["--source", str(made / "dest"), "--out", str(made / "out")]
    assert main(argv) == 0
    assert (made / "out" / sound.stem / "rain" / "explanation.wav").is_file()
    (made / "moved").rename(made / "dest-run")


def test_a_revision_of_the_hub_is_copied(
    clap_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoder has that very CLAP, and needs no Hub any more."""
    old, new = "a" * 40, "b" * 40
    repository = tmp_path / "models--owner--clap"
    for commit in (old, new):
        shutil.copytree(clap_folder, repository / "snapshots" / commit)
    path = repository / "snapshots" / new / "model.safetensors"
    changed = {name: 2 * value for name, value in load_file(path).items()}
    save_file(changed, path, {"format": "pt"})
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(new)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    argv = ["adapt", "owner/clap", str(tmp_path / "dest"), *OPTIONS, "--revision", old]
    assert main([*argv, "--epochs", "1", "--clips", "12"]) == 0
    shutil.rmtree(repository)
    found = ZeroShotInterpreter.from_hparams(tmp_path / "dest").clap.state_dict()
    expected = FrozenClap.from_pretrained(clap_folder).state_dict()
    for name, value in found.items():
        assert torch.equal(value, expected[name])


def test_the_card_has_the_decoder_beside_fitted_masks(made: Path) -> None:
    """Measured on held-out clips; what it was made of, and no invented accuracy."""
    found = json.loads((made / "dest-run" / "held_out.json").read_text())
    assert list(found["rows"]) == ["decoder", "decoder, refined", "fitted"]
    assert all(set(row) == SHOWN for row in found["rows"].values())
    tested = json.loads((made / "dest-run" / "test.json").read_text())
    for name in SHOWN - {"s a clip"}:
        assert found["rows"]["decoder"][name] == pytest.approx(tested[name], abs=1e-3)
    assert "accuracy" not in tested
    card = (made / "dest" / "README.md").read_text()
    assert f"| fitted | {found['rows']['fitted']['AI']:.3g} |" in card
    assert "Trained with `lmaczs adapt`" in card
    assert "Trained on sounds that were made by lmaczs, without labels" in card
    assert str(made) not in card


def test_the_same_command_refuses_to_replace_what_it_made(
    made: Path, clap_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --force it makes the same again, of the finished run."""
    before = content(made / "dest")
    argv = ["adapt", str(clap_folder), str(made / "dest"), *OPTIONS]
    assert main(argv) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "holds a decoder already" in line
    assert content(made / "dest") == before
    assert main([*argv, "--force"]) == 0
    captured = capsys.readouterr()
    assert "fitted" in captured.out
    assert "epoch" not in captured.err  # no bar where there is no terminal
    name = made / "dest" / "decoder.safetensors"
    assert name.read_bytes() == before[name]


def test_a_run_folder_is_of_one_decoder(made: Path, clap_folder: Path) -> None:
    """Another seed with the same run folder is refused, and names the difference."""
    options = AdaptOptions(
        device="cpu", batch_size=4, clips=24, epochs=2, seed=5, run_folder=made / "run"
    )
    (made / "dest-run").rename(made / "run")
    words = "^--run .*/run was begun with .*seed 1234, now 5.*: give --resume-anyway or"
    with pytest.raises(OtherRunError, match=words):
        adapt(clap_folder, made / "other", options)
    assert not (made / "other").exists()
    (made / "run").rename(made / "dest-run")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_gpu_makes_a_decoder_too(clap_folder: Path, tmp_path: Path) -> None:
    """Of the same kind, which the CPU loads."""
    options = AdaptOptions(device="cuda", batch_size=4, width=8, clips=24, epochs=1)
    found = adapt(clap_folder, tmp_path / "dest", options)
    assert all(set(row) == SHOWN for row in found.rows.values())
    interpreter = ZeroShotInterpreter.from_hparams(
        found.dest, run_opts={"device": "cpu"}
    )
    sound = sorted(found.run_folder.glob("sounds-*/*.flac"))[0]
    assert interpreter.interpret_file(sound, "rain", refine=0).mask.isfinite().all()


def test_a_killed_run_resumes_to_the_same_decoder(
    made: Path,
    clap_folder: Path,
    tmp_path: Path,
    kill_after: Callable[[list[str], int], None],
) -> None:
    """SIGKILL after the first epoch: the same command ends with the same weights."""
    dest, run = tmp_path / "dest", tmp_path / "dest-run"
    argv = ["adapt", str(clap_folder), str(dest), *OPTIONS]
    kill_after([str(ROOT / "lmaczs/__main__.py"), *argv], 1)
    assert not dest.exists()
    assert [one.meta["epoch"] for one in checkpoints(run)] == [1]
    assert main(argv) == 0
    expected = weights(made / "dest")
    found = weights(dest)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(found[name], value, atol=1e-6), name


def checkpoints(run: Path) -> list:
    """Checkpoints of a run, the oldest first."""
    found = Checkpointer(run / "save").list_checkpoints()
    return sorted(found, key=lambda one: one.meta["unixtime"])


@pytest.fixture
def sounds(tmp_path: Path) -> Iterator[Path]:
    """Two recordings of half a minute, which nothing may change."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        wav = 0.1 * rng.standard_normal(30 * 22050) * (1 + np.sin(np.arange(661500)))
        soundfile.write(folder / f"{name}.wav", wav, 22050)
    before = content(folder)
    yield folder
    assert content(folder) == before


def test_recordings_and_a_vocabulary_of_ones_own(
    clap_folder: Path, sounds: Path, tmp_path: Path
) -> None:
    """The prompts are those of the file, and no sound is made."""
    words = tmp_path / "words.txt"
    prompts = ["hum", "hiss", "rain", "wind", "dog", "bell", "a man speaks", "frog"]
    words.write_text("\n".join(prompts))
    options = AdaptOptions(data=sounds, prompts=words, epochs=1, **SMALL)  # type: ignore[arg-type]
    found = adapt(clap_folder, tmp_path / "new" / "dest", options)
    assert found.dest == tmp_path / "new" / "dest"
    assert (found.clips, found.classes) == (2, len(prompts))
    assert sorted(path.name for path in found.run_folder.parent.iterdir()) == [
        "dest",
        "dest-run",
    ]
    assert not list(found.run_folder.glob("sounds-*"))
    card = (found.dest / "README.md").read_text()
    assert "Trained on recordings, without labels" in card
    interpreter = ZeroShotInterpreter.from_hparams(found.dest)
    assert interpreter.interpret_file(sounds / "one.wav", "hum").prompt == "hum"
