"""The training recipes with their real YAML files, synthetic clips and tiny CLAPs."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from speechbrain.utils.checkpoints import Checkpoint, Checkpointer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from lmaczs import ZeroShotInterpreter
from lmaczs.clap import FrozenClap
from lmaczs.data.esc50 import ESC10
from lmaczs.objectives.objective import OBJECTIVES
from lmaczs.training.brain import InterpreterBrain
from lmaczs.training.export import ExportError, export_run
from lmaczs.training.run_identity import OtherRunError

ROOT = Path(__file__).parents[2]
LABELS = ["dog", "rain", "sea waves", "siren"]
TERMS = {*OBJECTIVES["lmaczs"], "loss"}
METRICS = {"accuracy", "AI", "AD", "AD_sb", "AG", "FF", "Fid-In", "SPS", "COMP", "MM"}
EPOCHS = 3


@dataclass
class Run:
    """A training run that was made in this process."""

    folder: Path
    test: dict[str, float]
    brain: InterpreterBrain
    initial: dict[str, Tensor]

    def checkpoint(self, epoch: int) -> Checkpoint:
        """End-of-epoch checkpoint of an epoch."""
        (found,) = [c for c in checkpoints(self.folder) if c.meta.get("epoch") == epoch]
        return found


def checkpoints(folder: Path) -> list[Checkpoint]:
    """Checkpoints of a run, oldest first."""
    found = Checkpointer(folder / "save").list_checkpoints()
    return sorted(found, key=lambda one: one.meta["unixtime"])


def weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The decoder's weights in a checkpoint."""
    return torch.load(checkpoint.paramfiles["decoder"], weights_only=True)


def same(one: dict[str, Tensor], other: dict[str, Tensor], atol: float = 0) -> bool:
    """Whether two state dicts are equal."""
    assert one.keys() == other.keys()
    return all(torch.allclose(one[k], other[k], atol=atol, rtol=0) for k in one)


def scalars(folder: Path) -> dict[str, list[int]]:
    """Steps of every scalar that TensorBoard finds for a run."""
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {
        tag: [one.step for one in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


@pytest.fixture(scope="module")
def data(write_esc50: Callable[..., Path]) -> Path:
    """Four labels, folds 1 to 5: 12 clips to train on, 4 and 4 to judge by."""
    return write_esc50(LABELS, folds=5)


@pytest.fixture(scope="module")
def options(data: Path, tiny_clap_folder: Path) -> Callable[..., list[str]]:
    """Function that makes a command line of recipes/train.py from options."""

    def make(
        output_folder: Path, *flags: str, recipe: str = "esc50", **changes: Any
    ) -> list[str]:
        values = {
            "data_folder": data,
            "output_folder": output_folder,
            "clap_source": tiny_clap_folder,
            "device": "cpu",
            "num_threads": 1,
            "width": 8,
            "batch_size": 2,
            "number_of_epochs": 1,
            "examples_every": 100,
            **changes,
        }
        written = [f"--{name}={value}" for name, value in values.items()]
        path = str(ROOT / f"hparams/{recipe}.yaml")
        return [path, "--noprogressbar", *flags, *written]

    return make


@pytest.fixture(scope="module")
def train(recipe: Callable[[str], ModuleType]) -> Callable[[list[str]], Run]:
    """Function that runs recipes/train.py with a command line."""

    def run(argv: list[str]) -> Run:
        module, seen = recipe("train"), []
        make_brain = module.make_brain

        def spy(*args: Any) -> InterpreterBrain:
            brain = make_brain(*args)
            state = brain.decoder.state_dict()
            seen.append((brain, {k: v.clone() for k, v in state.items()}))
            return brain

        module.make_brain = spy  # type: ignore[attr-defined]
        test = module.main(argv)
        (brain, initial) = seen[0]
        return Run(Path(brain.options.output_folder), test, brain, initial)

    return run


# Masks shrink from epoch to epoch, so by the highest mean mask the first is the best.
WHOLE = {
    "number_of_epochs": EPOCHS,
    "lr": 0.002,
    "loss_weights": "{similarity: 1, sparsity: 2, masked_out_similarity: 0.3}",
    "checkpoint_metric": "MM",
    "checkpoint_mode": "max",
    "examples_every": 2,
    "example_clips": "[0, 2]",
    "ckpt_interval_minutes": 0,
    "ckpt_interval_steps": 2,
}


@pytest.fixture(scope="module")
def whole(
    train: Callable[[list[str]], Run],
    options: Callable[..., list[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """A run of three epochs whose first one is the best."""
    return train(options(tmp_path_factory.mktemp("run") / "out", **WHOLE))


# --- recipes/train.py ---------------------------------------------------------------


@pytest.mark.slow
def test_frozen_model_and_trained_decoder(whole: Run, tiny_clap_folder: Path) -> None:
    """Training changes every weight of the decoder, and of the CLAP not one value."""
    loaded = FrozenClap.from_pretrained(tiny_clap_folder).state_dict()
    trained = whole.brain.clap.state_dict()
    assert any("running_mean" in name for name in loaded)
    assert same(trained, loaded)
    last = weights(whole.checkpoint(EPOCHS))
    assert not any(torch.equal(last[k], v) for k, v in whole.initial.items())
    assert all(torch.isfinite(value).all() for value in last.values())


@pytest.mark.slow
def test_every_value_is_logged(whole: Run) -> None:
    """Terms of training and validation, metrics of validation and test, by name."""
    lines = (whole.folder / "train_log.txt").read_text().splitlines()
    assert [line.split(" - ")[0] for line in lines] == [
        *(f"epoch: {epoch}" for epoch in range(1, EPOCHS + 1)),
        "epoch loaded: 1",
    ]
    for name in TERMS:
        assert all(f"train {name}: " in line for line in lines[:-1]), name
    for name in TERMS | METRICS | {"MM_absent"}:
        assert all(f"valid {name}: " in line for line in lines[:-1]), name
        assert f"test {name}: " in lines[-1], name


@pytest.mark.slow
def test_tensorboard(whole: Run) -> None:
    """TensorBoard finds every value at its epoch."""
    found = scalars(whole.folder)
    names = {f"{name}/train" for name in TERMS}
    names |= {f"{name}/valid" for name in TERMS | METRICS | {"MM_absent"}}
    assert set(found) == names
    assert all(steps == [1, 2, 3] for steps in found.values())


@pytest.mark.slow
def test_best_checkpoint_is_tested(whole: Run) -> None:
    """The epoch that is best by checkpoint_metric is kept, tested and reported."""
    kept = {one.meta["epoch"]: one.meta["MM"] for one in checkpoints(whole.folder)}
    assert set(kept) == {1, EPOCHS}
    assert kept[1] > kept[EPOCHS]
    state = whole.brain.averaged_decoder.state_dict()
    assert same(state, weights(whole.checkpoint(1)))
    assert not same(state, weights(whole.checkpoint(EPOCHS)), atol=1e-3)
    assert json.loads((whole.folder / "test.json").read_text()) == whole.test
    assert set(whole.test) == TERMS | METRICS | {"MM_absent"}
    assert all(math.isfinite(value) for value in whole.test.values())


@pytest.mark.slow
def test_examples(whole: Run) -> None:
    """Fixed clips of the validation fold are explained every second epoch."""
    folders = {path.name for path in (whole.folder / "examples").iterdir()}
    assert folders == {"4-4-A-0", "4-204-A-2"}
    written = list((whole.folder / "examples").glob("*/*/*"))
    assert len(written) == 4
    for folder in written:
        assert folder.name == "epoch-002"
        assert {path.name for path in folder.iterdir()} == {
            "explanation.wav",
            "residual.wav",
            "explanation.png",
            "explanation.json",
        }


@pytest.mark.slow
def test_exported_run(whole: Run, data: Path, tmp_path: Path) -> None:
    """The best decoder can be exported and loaded, and its masks are those tested."""
    dest = export_run(whole.folder, tmp_path / "exported")
    assert "\nsplit: folds\n" in (dest / "README.md").read_text()
    interpreter = ZeroShotInterpreter.from_hparams(dest)
    state = interpreter.mods["decoder"].state_dict()
    assert same(state, weights(whole.checkpoint(1)))
    means = []
    for target in range(len(LABELS)):  # of the test fold: 5 s, the encoder's length
        path = data / "audio" / f"5-{100 * target + 5}-A-{target}.wav"
        predicted = interpreter.classify_file(path, LABELS).label[0]
        prompt = f"This is a sound of {predicted}."
        one = interpreter.interpret_file(path, prompt, refine=0)
        assert one.model == "lmaczs_esc50"
        means.append(float(one.mask.mean()))
    assert sum(means) / len(means) == pytest.approx(whole.test["MM"], abs=1e-4)
    bare = interpreter.interpret_file(path, predicted)
    assert bare.similarity == pytest.approx(one.similarity, abs=1e-6)


@pytest.mark.slow
def test_finished_run_is_not_trained_again(
    whole: Run, train: Callable[[list[str]], Run], options: Callable[..., list[str]]
) -> None:
    """The same command on a finished run tests the same checkpoint again."""
    before = [one.path for one in checkpoints(whole.folder)]
    again = train(options(whole.folder, **WHOLE))
    assert again.test == pytest.approx(whole.test, abs=1e-6)
    assert [one.path for one in checkpoints(whole.folder)] == before


@pytest.mark.slow
def test_killed_run_goes_on(
    whole: Run,
    train: Callable[[list[str]], Run],
    options: Callable[..., list[str]],
    kill_after: Callable[[list[str], int], None],
    tmp_path: Path,
) -> None:
    """After SIGKILL in mid-epoch the same command ends with the same weights."""
    out = tmp_path / "out"
    argv = options(out, **WHOLE)
    # of the first epoch after two, four and six steps, and at its end
    kill_after([str(ROOT / "recipes/train.py"), *argv], 5)
    newest = checkpoints(out)[-1]
    brain = yaml.safe_load(newest.paramfiles["brain"].read_text())
    assert newest.meta["end-of-epoch"] is False
    assert newest.paramfiles["counter"].read_text() == "2"
    assert 0 < brain["step"] < 6
    assert not (out / "test.json").exists()

    resumed = train(argv)
    assert [one.meta["epoch"] for one in checkpoints(out)] == [1, EPOCHS]
    for epoch in (1, EPOCHS):
        expected = weights(whole.checkpoint(epoch))
        assert same(weights(resumed.checkpoint(epoch)), expected, atol=1e-6), epoch
    assert resumed.test == pytest.approx(whole.test, abs=1e-4)
    assert all(steps == [1, 2, 3] for steps in scalars(out).values())


@pytest.mark.slow
@pytest.mark.parametrize("domain", ["mel", "waveform"])
def test_other_domains(
    train: Callable[[list[str]], Run],
    options: Callable[..., list[str]],
    tmp_path: Path,
    domain: str,
) -> None:
    """Every domain trains, and what was trained can be exported and used."""
    run = train(options(tmp_path / "out", domain=domain, train_folds="[1]"))
    last = weights(run.checkpoint(1))
    assert not any(torch.equal(last[k], v) for k, v in run.initial.items())
    assert set(run.test) == TERMS | METRICS | {"MM_absent"}
    dest = export_run(run.folder, tmp_path / "exported")
    interpreter = ZeroShotInterpreter.from_hparams(dest)
    assert interpreter.mods["decoder"].domain == domain
    (one,) = interpreter(torch.rand(1, 40000) - 0.5, "dog")
    assert one.mask.shape[0] == 1025


@pytest.mark.slow
def test_lmac(
    train: Callable[[list[str]], Run], options: Callable[..., list[str]], tmp_path: Path
) -> None:
    """The objective of L-MAC is one option away, with terms of its own."""
    run = train(options(tmp_path / "out", objective="lmac", train_folds="[1, 2]"))
    terms = {"masked_in", "masked_out", "sparsity", "loss"}
    assert set(run.test) == terms | METRICS | {"MM_absent"}
    log = (run.folder / "train_log.txt").read_text()
    assert all(f"train {name}: " in log for name in terms)


@pytest.mark.slow
def test_lmac_as_published(
    train: Callable[[list[str]], Run], options: Callable[..., list[str]], tmp_path: Path
) -> None:
    """The second stage starts from what the first one exported, with other terms."""
    flags = {"recipe": "esc50_lmac", "train_folds": "[1]"}
    first = train(options(tmp_path / "first", **flags))
    assert type(first.brain.optimizer) is torch.optim.Adam
    assert first.brain.objective.weights == {
        **{"masked_in": 4.0, "masked_out": 0.2, "sparsity": 6.4}
    }
    exported = export_run(first.folder, tmp_path / "exported")
    stage = {"objective": "lmac_finetuning", "decoder_source": exported}
    flags = {**flags, "batch_size": 4, "crosscor_threshold": 0.0}
    line = options(tmp_path / "second", **flags, **stage)
    second = train(line)
    saved = load_file(exported / "decoder.safetensors")
    assert same(saved, second.initial)
    assert not same(saved, weights(second.checkpoint(1)))
    assert second.test["guidance"] > 0 == second.test["unguided_sparsity"]
    run = json.loads((second.folder / "run.json").read_text())
    assert len(run["starting decoder"]) == 8
    card = (export_run(second.folder, tmp_path / "again") / "README.md").read_text()
    assert "fine-tuning stage" in card
    with pytest.raises(OtherRunError, match="starting decoder .*, now unset"):
        train(options(tmp_path / "second", **flags, objective="lmac_finetuning"))


@pytest.mark.slow
def test_the_papers_recipe(
    train: Callable[[list[str]], Run], options: Callable[..., list[str]], tmp_path: Path
) -> None:
    """Eqs. 6 and 7, by Adam at one rate and without a moving average."""
    flags = {"recipe": "esc50_paper", "number_of_epochs": 2, "train_folds": "[1]"}
    run = train(options(tmp_path / "out", **flags))
    terms = {"all_pairs_similarity", "sparsity", "diversity", "loss"}
    assert set(run.test) == terms | METRICS | {"MM_absent"}
    lines = (run.folder / "train_log.txt").read_text().splitlines()[:2]
    assert all(f"train {name}: " in line for line in lines for name in terms)
    last = run.checkpoint(2)
    learner = torch.load(last.paramfiles["learner"], weights_only=True)
    assert same(learner, weights(last))
    assert type(run.brain.optimizer) is torch.optim.Adam
    assert [group["lr"] for group in run.brain.optimizer.param_groups] == [1e-5]
    options_of = run.brain.options
    assert (options_of.number_of_epochs, options_of.lr_decay_epochs) == (2, math.inf)


@pytest.mark.slow
def test_debug(
    train: Callable[[list[str]], Run], options: Callable[..., list[str]], tmp_path: Path
) -> None:
    """--debug goes through everything and leaves no result that could be taken up."""
    run = train(options(tmp_path / "out", "--debug", number_of_epochs=20))
    assert run.brain.epoch_counter.current <= 2
    assert set(run.test) == TERMS | METRICS | {"MM_absent"}
    assert checkpoints(run.folder) == []
    assert not (run.folder / "test.json").exists()
    with pytest.raises(ExportError, match="no checkpoint"):
        export_run(run.folder, tmp_path / "exported")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoint_metric": "lost"}, "checkpoint_metric is 'lost', not one of"),
        ({"checkpoint_mode": "most"}, "checkpoint_mode is min or max, not 'most'"),
        ({"objective": "gradcam"}, "objective: there is no 'gradcam', it may be"),
        # refused before anything is loaded
        ({"objective": "lmacz", "clap_source": "nowhere"}, "do you mean lmac"),
        ({"loss_weights": "{sparsty: 1}", "clap_source": "nowhere"}, "mean sparsity"),
        ({"best_metric": "MM"}, "best_metric is now called --checkpoint_metric"),
        ({"split": "random"}, "split is 'random'"),
        (
            {"data_folder": "nowhere", "archive_url": "null"},
            "audio and meta into nowhere",
        ),
        ({"negatives_per_clip": 4}, "negatives_per_clip is 4"),
        ({"train_folds": "[1, 4]"}, "a fold is in two splits"),
    ],
)
def test_options_that_are_wrong(
    train: Callable[[list[str]], Run],
    options: Callable[..., list[str]],
    tmp_path: Path,
    changes: dict[str, Any],
    message: str,
) -> None:
    """An option that cannot be followed is named."""
    changes = {"train_folds": "[1]", **changes}
    if "folds" not in message:
        changes["split"] = changes.get("split", "folds")
    with pytest.raises((ValueError, RuntimeError, FileNotFoundError), match=message):
        train(options(tmp_path / "out", **changes))


@pytest.mark.slow
def test_clap_without_all_of_its_weights_is_one_line(
    options: Callable[..., list[str]], tiny_clap_folder: Path, tmp_path: Path
) -> None:
    """No decoder is trained for weights drawn at random; no traceback is printed."""
    damaged = shutil.copytree(tiny_clap_folder, tmp_path / "clap")
    tensors = load_file(damaged / "model.safetensors")
    del tensors["audio_projection.linear1.weight"]
    save_file(tensors, damaged / "model.safetensors", metadata={"format": "pt"})
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "recipes/train.py", *options(out, clap_source=damaged)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"train.py: {damaged} is no whole ")
    assert not out.exists()


# --- recipes/train_clap.py ----------------------------------------------------------


@pytest.fixture(scope="module")
def clap_options(
    write_esc50: Callable[..., Path],
    tiny_text_tower_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., list[str]]:
    """Function that makes a command line of recipes/train_clap.py from options.

    An option that is None is left out.
    """
    defaults = {
        "data_folder": write_esc50([*ESC10, "siren"], folds=4, esc10=True),
        "text_tower": tiny_text_tower_folder,
        "device": "cpu",
        "num_threads": 1,
        "audio_config": "{patch_embeds_hidden_size: 16, hidden_size: 64, "
        "depths: [1, 1, 1], num_attention_heads: [2, 4, 8]}",
        "number_of_epochs": 6,
        "warmup_epochs": 1,
        "batch_size": 8,
        "valid_every": 1,
    }

    def make(output_folder: Path, *flags: str, **changes: Any) -> list[str]:
        values = {**defaults, "output_folder": output_folder, **changes}
        written = [f"--{k}={v}" for k, v in values.items() if v is not None]
        recipe = str(ROOT / "hparams/clap_small.yaml")
        return [recipe, "--noprogressbar", *flags, *written]

    return make


@pytest.mark.slow
def test_clap_that_was_killed_and_went_on(
    recipe: Callable[[str], ModuleType],
    clap_options: Callable[..., list[str]],
    kill_after: Callable[[list[str], int], None],
    tmp_path: Path,
) -> None:
    """A CLAP trained in two stretches is saved as one that lmaczs explains."""
    out = tmp_path / "out"
    argv = clap_options(out)
    script = str(ROOT / "recipes/train_clap.py")
    kill_after([script, *argv], 1)
    assert not (out / "save/clap").exists()
    done = checkpoints(out)[-1].meta["epoch"]
    assert done < 6

    figures = recipe("train_clap").main(argv)
    lines = (out / "train_log.txt").read_text().splitlines()
    epochs = [int(line.split(" - ")[0].removeprefix("epoch: ")) for line in lines[:-1]]
    assert epochs[-(6 - done) :] == list(range(done + 1, 7))
    for name in ("contrastive", "alignment", "scale_contrastive"):
        assert all(f"train {name}: " in line for line in lines[:-1])
    assert "tagger: " not in "".join(lines).replace("scale_tagger", "")
    assert 0 <= figures["accuracy_esc10"] <= 1

    clap = FrozenClap.from_pretrained(out / "save/clap")
    assert clap.front_end.sample_rate == 32000
    assert clap.embedding_dim == 32
    wav = torch.rand(1, 40000) - 0.5
    encoding = clap.audio_features(clap.front_end.log_mel(wav))
    assert torch.isfinite(encoding.embedding).all()
    norm = encoding.embedding.norm().item()
    assert norm == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_clap_debug(
    recipe: Callable[[str], ModuleType],
    clap_options: Callable[..., list[str]],
    tmp_path: Path,
) -> None:
    """--debug trains a few steps and leaves no CLAP that could be taken for one."""
    figures = recipe("train_clap").main(clap_options(tmp_path / "out", "--debug"))
    assert 0 <= figures["accuracy_esc10"] <= 1
    assert not (tmp_path / "out/save/clap").exists()
    assert checkpoints(tmp_path / "out") == []


@pytest.fixture(scope="module")
def own_clips(write_esc50: Callable[..., Path]) -> Path:
    """Manifest of captions and labels of one's own: 9 clips to train on, 2 to test."""
    audio = write_esc50(["hum", "buzz", "hiss"], folds=4) / "audio"
    rows = []
    for i, path in enumerate(sorted(audio.iterdir())[:11]):
        split = "test" if i > 8 else "train"
        named = f"A clip of sound {i}.," if i % 2 else ",low hum"
        rows.append(f"{path.name},{named},{split},{0.5 if i else ''}")
    lines = ["path,text,label,split,start", *rows]
    (audio / "clips.csv").write_text("\n".join(lines))
    return audio / "clips.csv"


@pytest.mark.slow
def test_clap_of_ones_own_clips(
    recipe: Callable[[str], ModuleType],
    clap_options: Callable[..., list[str]],
    own_clips: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """--manifest trains on captions and labels; --clap_source starts from the result.

    What that has learnt is not tested on.
    """
    own = {"data_folder": None, "manifest": own_clips, "speeds": "[1, 0.8]"}
    train, made_in = recipe("train_clap").main, tmp_path / "one/save/clap"
    figures = train(clap_options(tmp_path / "one", **own, number_of_epochs=2))
    assert set(figures) == {"accuracy_all", "top5_all", "true_pair", "silence"}
    assert all(math.isfinite(value) for value in figures.values())
    made = FrozenClap.from_pretrained(made_in)

    learnt = json.loads((made_in / "learnt.json").read_text())
    assert len(learnt) == 9

    lines = own_clips.read_text().splitlines()
    lines[9] = lines[9].replace("train", "test")  # line 0 is the header
    other = own_clips.with_name("other.csv")
    other.write_text("\n".join(lines))
    own |= {"manifest": other, "text_tower": None, "clap_source": made_in}
    train(clap_options(tmp_path / "two", **own, number_of_epochs=1, lr=0.0001))
    assert "1 of the 3 clips of split test were learnt" in caplog.text
    assert json.loads((tmp_path / "two/learnt.json").read_text()) == learnt
    went_on = FrozenClap.from_pretrained(tmp_path / "two/save/clap")
    prompts = ["low hum", "a siren"]
    assert torch.equal(went_on.encode_text(prompts), made.encode_text(prompts))
    one, two = made.model.state_dict(), went_on.model.state_dict()
    changed = {name for name in one if not torch.equal(one[name], two[name])}
    assert any(name.startswith("audio_model") for name in changed)
    assert all(name.startswith(("audio_", "logit_scale")) for name in changed)
    weight = "audio_model.audio_encoder.patch_embed.proj.weight"
    # trained further, not from scratch
    assert (two[weight] - one[weight]).norm() < 0.1 * one[weight].norm()


@pytest.fixture
def composite_options(
    recipe: Callable[[str], ModuleType],
    clap_options: Callable[..., list[str]],
    tmp_path: Path,
) -> Callable[..., list[str]]:
    """Like `clap_options`, of the YAML that trains further on composites."""
    recipe("train_clap").main(clap_options(tmp_path / "one", number_of_epochs=1))

    def make(output_folder: Path, **changes: Any) -> list[str]:
        first = {"text_tower": None, "audio_config": None, "number_of_epochs": 1}
        more = {"composites": 30, "composites_in_batch": 4, "num_workers": 0}
        source = {"clap_source": tmp_path / "one/save/clap"}
        argv = clap_options(output_folder, **first, **more, **source, **changes)
        return [str(ROOT / "hparams/clap_composites.yaml"), *argv[1:]]

    return make


def test_composites_need_a_tagger(
    recipe: Callable[[str], ModuleType],
    composite_options: Callable[..., list[str]],
    tmp_path: Path,
) -> None:
    """The error says what to give, and nothing has been made."""
    with pytest.raises(ValueError, match="give --tagger_model and --tagger_class_map"):
        recipe("train_clap").main(composite_options(tmp_path / "two"))
    assert not (tmp_path / "two/composites").exists()


@pytest.mark.real_clips
def test_clap_goes_on_with_composites(
    recipe: Callable[[str], ModuleType],
    composite_options: Callable[..., list[str]],
    tmp_path: Path,
) -> None:
    """The real tagger embeds them; they are cached and trained on."""
    teachers = Path(os.environ.get("LMACZS_TEACHERS", ROOT.parent / "shared/teachers"))
    tagger = {
        "tagger_model": teachers / "yamnet_spectra_in.tflite",
        "tagger_class_map": teachers / "yamnet_class_map.csv",
    }
    recipe("train_clap").main(composite_options(tmp_path / "two", **tagger))
    kept = {path.name for path in (tmp_path / "two/composites").iterdir()}
    assert kept == {"clips.pt", "0000000.pt"}
    line = (tmp_path / "two/train_log.txt").read_text().splitlines()[0]
    assert 0 < float(line.split("train teacher_embedding: ")[1].split(",")[0]) < 2
    card = (tmp_path / "two/save/clap/README.md").read_text()
    assert "hparams/clap_composites.yaml" in card


def test_clap_of_a_manifest_with_mistakes(
    recipe: Callable[[str], ModuleType],
    clap_options: Callable[..., list[str]],
    own_clips: Path,
    tmp_path: Path,
) -> None:
    """Mistakes are reported with their lines before training."""
    bad = own_clips.with_name("bad.csv")
    bad.write_text("path,label,split\nnone.wav,dog,train\nclips.csv,,dev\n")
    argv = clap_options(tmp_path / "out", data_folder=None, manifest=bad)
    with pytest.raises(ValueError, match="has 3 mistakes:\n  line 2: .*\n  line 3: "):
        recipe("train_clap").main(argv)
    assert not list(tmp_path.glob("out/save/*"))
