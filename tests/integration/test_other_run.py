"""An output folder belongs to one run: the training recipes refuse another one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from speechbrain.utils.checkpoints import Checkpointer
from transformers import BertConfig, BertModel, BertTokenizer

from lmaczs.clap import FrozenClap
from lmaczs.decoder import MaskDecoder
from lmaczs.distillation.target_space import SentenceEncoder
from lmaczs.distillation.text_corpus import Corpus
from lmaczs.training.distributed import TrainingError
from lmaczs.training.export import inference_yaml
from lmaczs.training.run_identity import OtherRunError

ROOT = Path(__file__).parents[2]
LABELS = ["dog", "rain", "siren"]
FLAGS = {"device": "cpu", "num_threads": 1, "batch_size": 2, "examples_every": 100}

Line = Callable[..., list[str]]


def command(yaml: str, values: dict[str, Any]) -> list[str]:
    """Command line of a training recipe."""
    written = [f"--{name}={value}" for name, value in values.items()]
    return [str(ROOT / "hparams" / yaml), "--noprogressbar", *written]


def left(folder: Path) -> dict[Path, bytes]:
    """What a training has left: every file but TensorBoard's."""
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.parent.name != "tensorboard"
    }


def epochs(folder: Path) -> list[int]:
    """Epochs that were trained, in their order."""
    log = (folder / "train_log.txt").read_text()
    return [int(number) for number in re.findall(r"^epoch: (\d+)", log, re.M)]


@pytest.fixture(scope="module")
def train(recipe: Callable[[str], ModuleType]) -> Callable[[list[str]], Any]:
    """Function that runs recipes/train.py."""
    return recipe("train").main


# --- training from scratch ----------------------------------------------------------


@pytest.fixture(scope="module")
def data(write_esc50: Callable[..., Path]) -> Path:
    """Three labels, folds 1 to 5."""
    return write_esc50(LABELS, folds=5)


@pytest.fixture(scope="module")
def line(data: Path, tiny_clap_folder: Path) -> Line:
    """Function that makes a command line on ESC-50, of one epoch of a step or two."""

    def make(folder: Path, **changes: Any) -> list[str]:
        places = {"data_folder": data, "clap_source": tiny_clap_folder}
        few = {"width": 8, "number_of_epochs": 1, "train_folds": "[1]"}
        values = {**places, **FLAGS, **few, "output_folder": folder, **changes}
        return command("esc50.yaml", values)

    return make


@pytest.fixture(scope="module")
def done(
    train: Callable[[list[str]], Any],
    line: Line,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Folder of a run that is done."""
    folder = tmp_path_factory.mktemp("done")
    train(line(folder))
    return folder


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"objective": "lmac"}, "objective lmaczs, now lmac"),
        ({"domain": "mel"}, "domain stft, now mel"),
        ({"width": 16}, "width 8, now 16"),
        (
            {"loss_weights": "{lmaczs: {sparsity: 3}}"},
            "loss_weights.lmaczs.sparsity 1.9, now 3",
        ),
        ({"lr": 0.1}, "lr 0.002, now 0.1"),
        ({"seed": 1}, "seed 1234, now 1"),
        ({"templates": "['{}']"}, r'templates \[.*\], now \["{}"\]'),
        (
            {"train_folds": "[1, 2]"},
            r"train_folds \[1\], now \[1, 2\]; train clips "
            r"3 \(digest \w{8}\), now 6 \(digest \w{8}\)",
        ),
        ({"precision": "bf16"}, "precision unset, now bf16"),
    ],
)
def test_another_line_is_refused(
    train: Callable[[list[str]], Any],
    line: Line,
    done: Path,
    changes: dict[str, Any],
    told: str,
) -> None:
    """What differs is named; checkpoints, test.json and run card stay as they are."""
    before = left(done)
    message = f"^output_folder {done} was begun with {told}: give --resume-anyway or "
    with pytest.raises(OtherRunError, match=message):
        train(line(done, **changes))
    assert left(done) == before


def test_another_clap_and_other_clips_are_refused(
    train: Callable[[list[str]], Any],
    line: Line,
    done: Path,
    data: Path,
    tiny_clap_folder: Path,
    tmp_path: Path,
) -> None:
    """Not by where they are but by what they are."""
    clap = FrozenClap.from_pretrained(tiny_clap_folder)
    other = Path(shutil.copytree(tiny_clap_folder, tmp_path / "clap"))
    with torch.no_grad():
        clap.model.audio_projection.linear1.weight.add_(1)
    clap.model.save_pretrained(other)
    with pytest.raises(OtherRunError, match=r"begun with CLAP \w{8}, now \w{8}: "):
        train(line(done, clap_source=other))
    moved = Path(shutil.copytree(data, tmp_path / "data"))
    clip = next(moved.glob("audio/1-*.wav"))
    clip.write_bytes(clip.read_bytes() + bytes(2))
    with pytest.raises(OtherRunError, match=r"begun with train clips 3 \("):
        train(line(done, data_folder=moved))


@pytest.mark.slow
def test_what_resumes(
    train: Callable[[list[str]], Any],
    line: Line,
    data: Path,
    tiny_clap_folder: Path,
    tmp_path: Path,
) -> None:
    """The same line, more epochs, other workers, and folders that were moved."""
    train(line(tmp_path / "out"))
    train(line(tmp_path / "out"))
    assert epochs(tmp_path / "out") == [1]
    noted = (tmp_path / "out/run.json").read_bytes()
    out = (tmp_path / "out").rename(tmp_path / "moved")
    places = {
        "data_folder": shutil.copytree(data, tmp_path / "data"),
        "clap_source": shutil.copytree(tiny_clap_folder, tmp_path / "clap"),
    }
    train(line(out, **places, number_of_epochs=2, num_workers=1, num_threads=2))
    assert epochs(out) == [1, 2]
    assert (out / "run.json").read_bytes() == noted


@pytest.mark.slow
def test_a_run_of_an_older_version(
    train: Callable[[list[str]], Any], line: Line, done: Path, tmp_path: Path
) -> None:
    """Its checkpoints may be those of any line."""
    out = Path(shutil.copytree(done, tmp_path / "out"))
    (out / "run.json").unlink()
    with pytest.raises(OtherRunError, match="training of an older version"):
        train(line(out))
    shutil.rmtree(out / "save")
    (out / "test.json").unlink()
    train(line(out))
    assert (out / "run.json").is_file()


@pytest.mark.slow
def test_two_processes_refuse_together(line: Line, done: Path) -> None:
    """Both end with the sentence, without a traceback of it or a wait."""
    before = left(done)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    argv = line(done, objective="lmac", domain="mel")
    found = subprocess.run(
        [sys.executable, *torchrun, str(ROOT / "recipes/train.py"), *argv],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "LMACZS_GROUP_TIMEOUT": "60"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode != 0
    sentence = (
        f"train.py: output_folder {done} was begun with domain stft, now mel; "
        "objective lmaczs, now lmac: give --resume-anyway or another --output_folder"
    )
    assert sentence in found.stderr.splitlines()
    assert left(done) == before


# --- fine-tuning --------------------------------------------------------------------


@pytest.fixture(scope="module")
def pretrained(
    tiny_clap_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], Path]:
    """Function that makes a decoder as `lmaczs export` writes it, of a seed."""

    def make(seed: int) -> Path:
        folder = tmp_path_factory.mktemp(f"pretrained{seed}")
        torch.manual_seed(seed)
        decoder = MaskDecoder(FrozenClap.from_pretrained(tiny_clap_folder), width=8)
        save_file(decoder.state_dict(), folder / "decoder.safetensors")
        text = inference_yaml(str(tiny_clap_folder), "tiny", "stft", 8, "{}")
        (folder / "hyperparams.yaml").write_text(text)
        return folder

    return make


@pytest.mark.slow
def test_a_manifest_that_has_grown(
    train: Callable[[list[str]], Any],
    data: Path,
    pretrained: Callable[[int], Path],
    tmp_path: Path,
) -> None:
    """Clips that were learnt would be tested on; another start is refused as well."""
    rows = [
        f"{path},{LABELS[int(path.stem[-1])]}"
        for path in sorted((data / "audio").glob("*.wav"))
    ]
    manifest, out = tmp_path / "list.csv", tmp_path / "out"
    places = {"manifest": manifest, "output_folder": out, "source": pretrained(1)}
    values = {**places, **FLAGS, "number_of_epochs": 1}
    argv = command("finetune.yaml", values)
    manifest.write_text("\n".join(["path,label", *rows[:9]]))
    train(argv)
    before = left(out)
    train(argv)
    assert left(out).keys() == before.keys()
    before = left(out)
    with pytest.raises(OtherRunError, match=r"with starting decoder \w{8}, now \w{8}:"):
        train(command("finetune.yaml", {**values, "source": pretrained(2)}))
    manifest.write_text("\n".join(["path,label", *rows]))
    message = r"train clips 6 \(digest \w{8}\), now 10 \(digest \w{8}\); "
    with pytest.raises(OtherRunError, match=message):
        train(argv)
    assert left(out) == before
    another = {**values, "output_folder": tmp_path / "another"}
    train(command("finetune.yaml", another))
    assert json.loads((tmp_path / "another/test.json").read_text())


@pytest.mark.slow
def test_what_was_learnt_is_not_tested_on_with_resume_anyway(
    train: Callable[[list[str]], Any],
    data: Path,
    pretrained: Callable[[int], Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not under another name; before and after are of the same clips."""
    paths = sorted((data / "audio").glob("*.wav"))
    splits = dict.fromkeys(paths[:9], "train")
    splits |= dict.fromkeys(paths[9:12], "valid") | dict.fromkeys(paths[12:], "test")
    manifest, out = tmp_path / "list.csv", tmp_path / "out"

    def write() -> None:
        rows = [f"{p},{LABELS[int(p.stem[-1])]},{name}" for p, name in splits.items()]
        manifest.write_text("\n".join(["path,label,split", *rows]))

    places = {"manifest": manifest, "output_folder": out, "source": pretrained(1)}
    values = {**places, **FLAGS, "number_of_epochs": 1}
    argv = command("finetune.yaml", values)
    write()
    train(argv)
    copy = tmp_path / "renamed-0.wav"
    shutil.copyfile(paths[0], copy)
    splits |= {copy: "test", paths[1]: "test", paths[12]: "valid"}
    write()
    before = left(out)
    with pytest.raises(OtherRunError, match="give --resume-anyway or another"):
        train(argv)
    assert left(out) == before
    (out / "before.json").write_text('{"AI": 1')
    caplog.clear()
    longer = command("finetune.yaml", {**values, "number_of_epochs": 2})
    train([*longer, "--resume-anyway"])
    assert "Resumed anyway: output_folder" in caplog.text
    assert "2 of the 4 clips of split test were learnt" in caplog.text
    assert json.loads((out / "run.json").read_text())["test clips"].startswith("2 (")
    assert epochs(out) == [0, 1, 2]
    assert len(json.loads((out / "learnt.json").read_text())) == 9
    starts = [
        json.loads((out / f"{name}.json").read_text()) for name in ("before", "test")
    ]
    assert starts[0].keys() == starts[1].keys()
    assert starts[0] != json.loads(before[out / "before.json"])


@pytest.mark.slow
def test_before_and_after_are_of_the_same_clips(
    recipe: Callable[[str], ModuleType],
    data: Path,
    pretrained: Callable[[int], Path],
    tmp_path: Path,
) -> None:
    """A clip that is lost in between is an error; it, or --resume-anyway, resumes."""
    folder = Path(shutil.copytree(data / "audio", tmp_path / "audio"))
    paths = sorted(folder.glob("*.wav"))
    names = [*["train"] * 9, *["valid"] * 3, *["test"] * 3]
    rows = [f"{p},dog{int(p.stem[-1])},{n}" for p, n in zip(paths, names, strict=True)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,split", *rows]))
    out = tmp_path / "out"
    values = {"manifest": tmp_path / "list.csv", "source": pretrained(1), **FLAGS}
    more = {"output_folder": out, "number_of_epochs": 1, "max_unreadable": 0.5}
    argv = command("finetune.yaml", {**values, **more, "keep_in_memory": False})

    train = recipe("train")
    make_brain = train.make_brain

    def losing(*given: Any) -> Any:
        brain = make_brain(*given)
        fit = brain.fit
        brain.fit = lambda *a, **k: (fit(*a, **k), paths[-1].rename(tmp_path / "lost"))
        return brain

    train.make_brain = losing
    with pytest.raises(TrainingError, match="^1 of 3 clips of split test can no"):
        train.main(argv)
    assert not (out / "test.json").exists()
    before = (out / "before.json").read_bytes()
    (tmp_path / "lost").rename(paths[-1])
    train.make_brain = make_brain
    after = train.main(argv)
    assert (out / "before.json").read_bytes() == before
    assert after.keys() == json.loads(before).keys()


# --- recipes/train_clap.py ----------------------------------------------------------


@pytest.mark.slow
def test_another_training_of_a_clap_is_refused(
    recipe: Callable[[str], ModuleType],
    data: Path,
    tiny_text_tower_folder: Path,
    tmp_path: Path,
) -> None:
    """Its checkpoints are resumed by the same line alone."""
    values = {
        "data_folder": data,
        "text_tower": tiny_text_tower_folder,
        "output_folder": tmp_path / "out",
        "audio_config": "{patch_embeds_hidden_size: 16, hidden_size: 64, "
        "depths: [1, 1, 1], num_attention_heads: [2, 4, 8]}",
        "speeds": "[1]",
        "device": "cpu",
        "batch_size": 8,
        "number_of_epochs": 1,
    }
    train_clap = recipe("train_clap").main
    argv = command("clap_small.yaml", values)
    train_clap(argv)
    train_clap(argv)
    assert epochs(tmp_path / "out") == [1]
    before = left(tmp_path / "out")
    with pytest.raises(OtherRunError, match="begun with lr 0.0005, now 0.1: "):
        train_clap([*argv, "--lr=0.1"])
    tower = Path(shutil.copytree(tiny_text_tower_folder, tmp_path / "tower"))
    weights = next(tower.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-4] + bytes(4))
    with pytest.raises(OtherRunError, match=r"begun with text_tower \w{8}, now \w{8}:"):
        train_clap(command("clap_small.yaml", {**values, "text_tower": tower}))
    assert left(tmp_path / "out") == before
    (found,) = Checkpointer(tmp_path / "out/save").list_checkpoints()
    assert found.meta["epoch"] == 1


# --- recipes/train_text.py ----------------------------------------------------------


def test_another_training_of_a_text_tower_is_refused(
    recipe: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    """By a setting, or by other names of sounds in a file of the same name."""
    names, out = tmp_path / "names.csv", tmp_path / "out"
    names.write_text("index,mid,display_name\n0,/m/1,Dog\n")
    values = {
        "class_names": names,
        "wordnet_folder": tmp_path,
        "teacher": tmp_path,
        "output_folder": out,
    }
    train_text = recipe("train_text").main
    with pytest.raises(ValueError, match="wordnet_folder: "):
        train_text(command("text_small.yaml", values))
    checkpoint = out / "save/CKPT+1/CKPT.yaml"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    before = left(out)
    with pytest.raises(OtherRunError, match="begun with lr 0.0005, now 0.1: "):
        train_text(command("text_small.yaml", {**values, "lr": 0.1}))
    names.write_text("index,mid,display_name\n0,/m/1,Cat\n")
    with pytest.raises(OtherRunError, match=r"with class_names \w{8}, now \w{8}: "):
        train_text(command("text_small.yaml", values))
    assert left(out) == before


def test_embeddings_of_another_teacher_are_not_taken(
    recipe: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    """Its folder may have the same name: its weights count."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]
    vocab = {word: index for index, word in enumerate(words)}
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(words), intermediate_size=8, **sizes)
    corpus = Corpus(("a b", "c d", "e f g"), (True, True, False))
    options = {"save_folder": tmp_path, "projection_dim": 4, "shrinkage": 0.5}
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = BertModel(config).eval().requires_grad_(False)
        teacher = SentenceEncoder(model, BertTokenizer(vocab=vocab))
        targets_of = recipe("train_text").targets_of
        for _ in range(2):
            project, found = targets_of(options, teacher, list("abcdefgh"), corpus)
            expected = project(teacher.embed(corpus.texts).half().float())
            assert torch.equal(found, expected)
