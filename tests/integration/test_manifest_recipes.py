"""recipes/train.py on manifests: fine-tuning, and captions from scratch."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import speechbrain as sb
import torch
from safetensors.torch import load_file, save_file
from speechbrain.utils.checkpoints import Checkpointer
from torch import Tensor

from lmaczs import ZeroShotInterpreter
from lmaczs.clap import FrozenClap
from lmaczs.data.manifest import ManifestError
from lmaczs.decoder import MaskDecoder
from lmaczs.paper_decoder import PaperDecoder
from lmaczs.training.brain import InterpreterBrain
from lmaczs.training.export import export_run, inference_yaml

ROOT = Path(__file__).parents[2]
LABELS = ["hum", "buzz", "hiss"]
LAST = ["--checkpoint_metric=epoch", "--checkpoint_mode=max"]  # not the start, for one
TEMPLATE = "I can hear {}."

Argv = Callable[..., list[str]]
Train = Callable[[list[str]], tuple[dict[str, float], InterpreterBrain]]


@pytest.fixture(scope="module")
def audio(write_esc50: Callable[..., Path]) -> Path:
    """Four recordings of each label, 1 to 5 s long."""
    return write_esc50(LABELS, folds=4) / "audio"


@pytest.fixture(scope="module")
def labelled(audio: Path) -> Path:
    """Manifest of labels without a split."""
    rows = [
        f"{path.name},{LABELS[int(path.stem.split('-')[-1])]}"
        for path in sorted(audio.iterdir())
        if path.suffix == ".wav"
    ]
    (audio / "labels.csv").write_text("\n".join(["path,label", *rows]))
    return audio / "labels.csv"


@pytest.fixture(scope="module")
def captions(audio: Path) -> Path:
    """Manifest of captions, two a clip; a five-second recording is cut into two."""
    lines = ["path,text,split,start,stop"]
    for number, path in enumerate(sorted(audio.glob("*.wav"))):
        split = {3: "valid", 4: "valid", 5: "test", 6: "test"}.get(number, "train")
        long = path.name.startswith("4")
        for start, stop in [(0, 2), (2, 5)] if long else [("", "")]:
            said = f"Sound {number} from {start or 0}"
            lines += [f"{path.name},{said}{x},{split},{start},{stop}" for x in "ab"]
    (audio / "captions.csv").write_text("\n".join(lines))
    return audio / "captions.csv"


@pytest.fixture(scope="module")
def pretrained(
    tiny_clap_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A decoder for the tiny CLAP, in a folder as `lmaczs export` writes it."""
    folder = tmp_path_factory.mktemp("pretrained")
    torch.manual_seed(5)
    decoder = MaskDecoder(FrozenClap.from_pretrained(tiny_clap_folder), width=8)
    with torch.no_grad():
        decoder.draw.weight.mul_(10)
    save_file(decoder.state_dict(), folder / "decoder.safetensors")
    text = inference_yaml(str(tiny_clap_folder), "tiny", "stft", 8, TEMPLATE)
    (folder / "hyperparams.yaml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def argv() -> Argv:
    """Function that makes a command line of recipes/train.py from a recipe."""

    def make(
        recipe: str, output_folder: Path, *flags: str, **changes: Any
    ) -> list[str]:
        values = {
            "output_folder": output_folder,
            "device": "cpu",
            "num_threads": 1,
            "batch_size": 2,
            "number_of_epochs": 2,
            "examples_every": 2,
            "example_clips": "[0]",
            **changes,
        }
        written = [f"--{name}={value}" for name, value in values.items()]
        return [str(ROOT / "hparams" / recipe), "--noprogressbar", *flags, *written]

    return make


@pytest.fixture(scope="module")
def train(recipe: Callable[[str], ModuleType]) -> Train:
    """Function that runs recipes/train.py and returns its metrics and its Brain."""

    def run(line: list[str]) -> tuple[dict[str, float], InterpreterBrain]:
        module, brains = recipe("train"), []
        make_brain = module.make_brain
        module.make_brain = lambda *args: (  # type: ignore[attr-defined]
            brains.append(make_brain(*args)) or brains[0]
        )
        return module.main(line), brains[0]

    return run


@pytest.fixture(scope="module")
def tuned(
    train: Train,
    argv: Argv,
    labelled: Path,
    pretrained: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, dict[str, float]]:
    """A fine-tuning of two epochs: its folder, and what it was tested to."""
    out = tmp_path_factory.mktemp("tuned") / "out"
    line = argv("finetune.yaml", out, manifest=labelled, source=pretrained)
    after, _ = train([*line, *LAST])
    return out, after


def last_weights(folder: Path) -> dict[str, Tensor]:
    """The decoder's weights in the newest checkpoint of a run."""
    found = Checkpointer(folder / "save").find_checkpoint()
    return torch.load(found.paramfiles["decoder"], weights_only=True)


def read(folder: Path, name: str) -> dict[str, float]:
    """Metrics that a run wrote."""
    return json.loads((folder / name).read_text())


# --- fine-tuning --------------------------------------------------------------------


@pytest.mark.slow
def test_what_fine_tuning_starts_from(
    train: Train,
    argv: Argv,
    labelled: Path,
    pretrained: Path,
    tuned: tuple[Path, dict[str, float]],
    tmp_path: Path,
) -> None:
    """Without a step the metrics after are those before: the source is what learns."""
    out, _ = tuned
    still = argv(
        "finetune.yaml", tmp_path / "out", manifest=labelled, source=pretrained, lr=0.0
    )
    after, brain = train(still)
    before = read(out, "before.json")
    assert after == pytest.approx(before, abs=1e-5)
    assert read(tmp_path / "out", "before.json") == before
    saved = load_file(pretrained / "decoder.safetensors")
    state = last_weights(tmp_path / "out")
    assert all(torch.allclose(state[name], value) for name, value in saved.items())
    assert brain.hparams.templates[0] == TEMPLATE


@pytest.mark.slow
def test_fine_tuning_changes_the_decoder(
    tuned: tuple[Path, dict[str, float]], pretrained: Path
) -> None:
    """Weights and metrics are others; all that was measured is written and finite."""
    out, after = tuned
    saved = load_file(pretrained / "decoder.safetensors")
    state = last_weights(out)
    assert not any(torch.equal(state[name], value) for name, value in saved.items())
    before = read(out, "before.json")
    assert read(out, "test.json") == after != before
    assert before.keys() == after.keys() >= {"AI", "AD", "FF", "loss"}
    assert all(math.isfinite(value) for value in [*before.values(), *after.values()])


@pytest.mark.slow
def test_the_start_is_kept_where_nothing_is_better(
    train: Train, argv: Argv, labelled: Path, pretrained: Path, tmp_path: Path
) -> None:
    """It is validated as epoch 0, and tested if that is the best."""
    line = argv("finetune.yaml", tmp_path, manifest=labelled, source=pretrained)
    after, _ = train([*line, "--checkpoint_metric=epoch", "--checkpoint_mode=min"])
    *_, start, first, second, tested = (tmp_path / "train_log.txt").open()
    assert start.startswith("epoch: 0 - valid")
    assert first.startswith("epoch: 1 - train")
    assert second.startswith("epoch: 2 - train")
    assert tested.startswith("epoch loaded: 0")
    assert after == pytest.approx(read(tmp_path, "before.json"), abs=1e-5)


@pytest.mark.slow
def test_validation_that_is_not_finite(
    train: Train, argv: Argv, labelled: Path, pretrained: Path, tmp_path: Path
) -> None:
    """Weights that blow up stop the run; the epoch before can still be exported."""
    out = tmp_path / "out"
    line = argv("finetune.yaml", out, manifest=labelled, source=pretrained)
    with pytest.raises(RuntimeError, match="valid: .* is not finite; the checkpoints"):
        train([*line, "--lr=1.0e+37"])
    (kept,) = Checkpointer(out / "save").list_checkpoints()
    assert kept.meta["epoch"] == 0
    saved = load_file(pretrained / "decoder.safetensors")
    state = last_weights(out)
    assert all(torch.equal(state[name], value) for name, value in saved.items())
    ZeroShotInterpreter.from_hparams(export_run(out, tmp_path / "exported"))


@pytest.mark.slow
def test_fine_tuned_decoder_is_exported(
    tuned: tuple[Path, dict[str, float]], audio: Path, tmp_path: Path
) -> None:
    """With the source's CLAP and template; what is loaded is what was trained."""
    dest = export_run(tuned[0], tmp_path / "exported")
    assert (dest / "clap/config.json").is_file()
    interpreter = ZeroShotInterpreter.from_hparams(dest)
    assert interpreter.hparams.template == TEMPLATE
    one = interpreter.interpret_file(next(audio.glob("*.wav")), "hum")
    assert one.model == "lmaczs_finetuned"
    assert len(list((tuned[0] / "examples").glob("*/*/epoch-002"))) == 2


@pytest.mark.slow
def test_fine_tuning_that_was_killed_goes_on(
    tuned: tuple[Path, dict[str, float]],
    train: Train,
    argv: Argv,
    labelled: Path,
    pretrained: Path,
    kill_after: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The same line ends with the same weights, and says what was before all of it."""
    out = tmp_path / "out"
    line = argv("finetune.yaml", out, manifest=labelled, source=pretrained) + LAST
    script = str(ROOT / "recipes/train.py")
    kill_after([script, *line], 1)
    assert not (out / "test.json").exists()
    after, brain = train(line)
    assert after == pytest.approx(tuned[1], abs=1e-5)
    one, other = last_weights(out), last_weights(tuned[0])
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)
    lines = capsys.readouterr().out.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("Means over"))
    assert lines[first].split()[3] == str(len(brain.data["test"]))
    table = lines[first + 1 : first + 4]
    names = table[0].split()
    assert table[1].split()[0] == "before"
    assert table[2].split()[0] == "after"
    column = 1 + names.index("FF")
    expected = read(tuned[0], "before.json")["FF"], tuned[1]["FF"]
    found = [float(row.split()[column]) for row in table[1:]]
    assert found == pytest.approx(expected, abs=1e-3)
    card = (export_run(out, tmp_path / "exported") / "README.md").read_text()
    counts = [len(brain.data[split]) for split in ("valid", "test")]
    assert "| metric | validation, {} clips | test, {} clips |".format(*counts) in card


# --- captions -----------------------------------------------------------------------


@pytest.mark.slow
def test_training_on_captions(
    train: Train,
    argv: Argv,
    captions: Path,
    tiny_clap_folder: Path,
    tmp_path: Path,
) -> None:
    """The classes are the captions of the split; the decoder is exported."""
    options = {"manifest": captions, "clap_source": tiny_clap_folder, "width": 8}
    figures, brain = train(argv("captions.yaml", tmp_path / "out", **options))
    assert all(math.isfinite(value) for value in figures.values())
    assert [len(one) for one in brain.data.values()] == [11, 2, 2]
    assert brain.classes(sb.Stage.TEST).labels == ["Sound 5 from 0a", "Sound 6 from 0a"]
    assert figures["accuracy"] in (0, 0.5, 1)
    assert not (tmp_path / "out/before.json").exists()
    dest = export_run(tmp_path / "out", tmp_path / "exported")
    assert (
        ZeroShotInterpreter.from_hparams(dest).hparams.model_name == "lmaczs_captions"
    )


@pytest.mark.slow
def test_the_papers_recipe(
    train: Train,
    argv: Argv,
    captions: Path,
    tiny_clap_folder: Path,
    tmp_path: Path,
) -> None:
    """It trains by eqs. 6 and 7 on captions; a run that resumes ends the same."""
    options = {"manifest": captions, "clap_source": tiny_clap_folder, "width": 8}
    options |= {"lr": 0.001}  # so that a difference would show
    terms = {"all_pairs_similarity", "sparsity", "diversity", "loss"}
    figures, brain = train(argv("paper.yaml", tmp_path / "whole", **options))
    assert brain.objective.name == "lmaczs_paper"
    assert all(math.isfinite(value) for value in figures.values())
    log = (tmp_path / "whole/train_log.txt").read_text()
    assert all(f"train {name}: " in log for name in terms)
    train(argv("paper.yaml", tmp_path / "halves", **options, number_of_epochs=1))
    again, _ = train(argv("paper.yaml", tmp_path / "halves", **options))
    assert again == pytest.approx(figures, abs=1e-5)
    whole, halves = (last_weights(tmp_path / x) for x in ("whole", "halves"))
    assert all(torch.allclose(whole[k], halves[k], atol=1e-6) for k in whole)
    dest = export_run(tmp_path / "whole", tmp_path / "exported")
    loaded = ZeroShotInterpreter.from_hparams(dest)
    assert loaded.hparams.model_name == "lmaczs_paper"
    assert isinstance(loaded.mods["decoder"], PaperDecoder)
    state = loaded.mods["decoder"].state_dict()
    assert all(torch.equal(whole[key], value) for key, value in state.items())


def test_fine_tuning_keeps_the_kind_of_decoder(
    train: Train, argv: Argv, labelled: Path, tiny_clap_folder: Path, tmp_path: Path
) -> None:
    """One that started from the paper's is exported as the paper's."""
    path = "lmaczs.paper_decoder.PaperDecoder"
    values = (str(tiny_clap_folder), "tiny", "stft", 8, TEMPLATE)
    start = tmp_path / "start"
    start.mkdir()
    (start / "hyperparams.yaml").write_text(inference_yaml(*values, decoder=path))
    decoder = PaperDecoder(FrozenClap.from_pretrained(tiny_clap_folder), width=8)
    save_file(decoder.state_dict(), start / "decoder.safetensors")
    options = {"manifest": labelled, "source": start, "number_of_epochs": 1}
    train(argv("finetune.yaml", tmp_path / "out", **options))
    dest = export_run(tmp_path / "out", tmp_path / "exported")
    loaded = ZeroShotInterpreter.from_hparams(dest)
    assert isinstance(loaded.mods["decoder"], PaperDecoder)


# --- what cannot be -----------------------------------------------------------------


def test_mistakes_are_said_before_anything_is_written(
    train: Train, argv: Argv, labelled: Path, pretrained: Path, tmp_path: Path
) -> None:
    """All of them, with their lines."""
    bad = labelled.with_name("bad.csv")
    bad.write_text(
        "path,label,split\nnone.wav,hum,train\nlabels.csv,hum,\n4.wav,,dev\n"
    )
    out = tmp_path / "out"
    with pytest.raises(ManifestError, match="has 5 mistakes:\n  line 2: ") as refusal:
        train(argv("finetune.yaml", out, manifest=bad, source=pretrained))
    assert "line 3: " in str(refusal.value)
    assert not out.exists()


def test_fewer_clips_than_a_batch(
    train: Train, argv: Argv, labelled: Path, pretrained: Path, tmp_path: Path
) -> None:
    """No epoch would have a step: the option is named."""
    options = {"manifest": labelled, "source": pretrained, "batch_size": 9}
    with pytest.raises(ValueError, match="batch_size is 9, but there are 8 clips"):
        train(argv("finetune.yaml", tmp_path / "out", **options))


@pytest.mark.slow
def test_a_mistake_on_the_command_line_is_a_sentence(
    argv: Argv, tmp_path: Path
) -> None:
    """No traceback for what the user can fix."""
    line = argv("finetune.yaml", tmp_path / "out", manifest=tmp_path / "none.csv")
    command = [sys.executable, str(ROOT / "recipes/train.py"), *line]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    said = done.stderr.splitlines()[-1]
    assert said == f"train.py: --manifest={tmp_path / 'none.csv'} does not exist"
