"""recipes/evaluate.py and recipes/figures.py with their real YAML files."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import soundfile
from PIL import Image

from lmaczs import ZeroShotInterpreter
from lmaczs.data.urbansound8k import URBANSOUND8K_LABELS
from lmaczs.evaluation.attribution import (
    Attribution,
    integrated_gradients,
    smooth_grad,
)
from lmaczs.evaluation.bottleneck import m2ib
from lmaczs.evaluation.explainer import ExplainerInput
from lmaczs.evaluation.explainers import (
    EXPLAINERS,
    KEEP_ALL,
    MAIN,
    ExplainerSuite,
    Method,
    attribution_method,
)
from lmaczs.evaluation.kernel_shap import kernel_shap
from lmaczs.evaluation.perturbation import occlusion, rise
from lmaczs.evaluation.score_cam import gscore_cam
from lmaczs.evaluation.tables import results_columns
from lmaczs.metrics.faithfulness import METRICS as FIGURES
from lmaczs.metrics.metric import Metric
from lmaczs.utils.errors import InputError
from lmaczs.utils.extras import pip

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LABELS = ["dog", "rain", "siren"]
METHODS = [MAIN, "Grad-CAM", "RISE", "random patches", "energy", KEEP_ALL]
SHARES = "[0, 0.5, 1]"
Run = Callable[..., Path]


@pytest.fixture(scope="module")
def data(write_esc50: Callable[..., Path]) -> Path:
    """Three labels, folds 1 to 5: three clips of 5 s to test on."""
    return write_esc50(LABELS, folds=5, esc10=True)


@pytest.fixture(scope="module")
def few_passes() -> Iterator[None]:
    """Slow methods in a few passes: what they find is tested elsewhere."""
    quick: dict[str, Attribution] = {
        "SmoothGrad": partial(smooth_grad, steps=2),
        "Integrated Gradients": partial(integrated_gradients, steps=2),
        "RISE": partial(rise, count=2),
        "occlusion": partial(occlusion, grid=(1, 2)),
        "M2IB": partial(m2ib, steps=1, samples=1),
        "Score-CAM": partial(gscore_cam, top=2),
        "gScoreCAM": partial(gscore_cam, top=2),
        "KernelSHAP": partial(kernel_shap, count=3),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, attribution in quick.items():
            method = attribution_method(name, attribution, True, 4, "")
            patch.setitem(EXPLAINERS, name, method)
        yield


@pytest.fixture(scope="module")
def evaluate(
    recipe: Callable[[str], ModuleType], data: Path, few_passes: None
) -> Callable[..., pd.DataFrame]:
    """Function that runs the recipe into a folder, with options."""

    def run(folder: Path, *options: str) -> pd.DataFrame:
        places = [f"--data_folder={data}", f"--output_folder={folder}"]
        yaml = str(ROOT / "hparams/evaluate.yaml")
        shares = f"--insertion_fractions={SHARES}"
        arguments = [yaml, *places, shares, "--batch_size=2", *options]
        if not any(option.startswith("--methods") for option in options):
            arguments.append(f"--methods=[{', '.join(METHODS)}]")
        return recipe("evaluate").main(arguments)

    return run


@pytest.fixture(scope="module")
def evaluated(
    evaluate: Callable[..., pd.DataFrame], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Folder of a run with every condition."""
    base = tmp_path_factory.mktemp("evaluate")
    (base / "speech").mkdir()
    voice = np.sin(np.arange(16000) / 9).astype(np.float32)
    soundfile.write(base / "speech" / "voice.wav", voice, 16000)
    evaluate(base / "out", f"--speech_folder={base / 'speech'}")
    return base / "out"


def test_every_clip_method_and_condition_is_scored(evaluated: Path) -> None:
    """results.csv has the published columns and the means of per_clip.csv."""
    per_clip = pd.read_csv(evaluated / "per_clip.csv")
    results = pd.read_csv(evaluated / "results.csv")
    conditions = ["clean", "mixture", "white noise", "speech"]
    assert list(dict.fromkeys(results.condition)) == conditions
    assert list(results.method) == METHODS * 4
    assert list(results.columns) == results_columns()
    assert (results.n == 3).all()
    assert not per_clip.duplicated(["id", "method", "condition"]).any()
    means = per_clip.groupby(["condition", "method"]).FF.mean()
    for row in results.itertuples():
        assert row.FF == pytest.approx(means[row.condition, row.method])
    assert np.isfinite(results[results_columns()[2:]].to_numpy(float)).all()


def test_known_sources_and_curves_are_scored(evaluated: Path) -> None:
    """Time is scored in sequences alone, SI-SDR in sums alone, areas by all but one."""
    located = pd.read_csv(evaluated / "localisation.csv").set_index("condition")
    assert list(located.loc["sum", "method"]) == METHODS
    assert located.loc["sum", "temporal_iou"].isna().all()
    assert located.loc["sequence", "si_sdr_improvement"].isna().all()
    assert (
        located.loc["sequence", ["mass_on_source", "pointing_game", "temporal_iou"]]
        .notna()
        .all(axis=None)
    )
    areas = pd.read_csv(evaluated / "areas.csv")
    assert set(areas.method) == set(METHODS) - {KEEP_ALL}
    assert areas[["insertion", "deletion"]].stack().between(0, 1).all()


def test_the_page_has_every_table(evaluated: Path) -> None:
    """results.md has a section for each condition and further measurement."""
    lines = (evaluated / "results.md").read_text().splitlines()
    assert [line[3:] for line in lines if line.startswith("## ")] == [
        "clean",
        "mixture",
        "white noise",
        "speech",
        *(
            f"Equal area {area}: {condition}"
            for condition in ("clean", "mixture", "white noise", "speech")
            for area in ("0.1", "0.2", "0.35", "ours")
        ),
        "Known sources: sum",
        "Known sources: sequence",
        "Areas under insertion and deletion curves",
        "What the models were trained on",
    ]


def test_nothing_is_computed_twice(
    evaluated: Path,
    evaluate: Callable[..., pd.DataFrame],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A complete folder runs no explainer; speech is left out without its folder."""
    before = (evaluated / "per_clip.csv").read_bytes()

    def refuse(*_: object) -> None:
        raise AssertionError("an explainer was run")

    monkeypatch.setattr(ExplainerSuite, "explain", refuse)
    again = evaluate(evaluated)
    assert list(dict.fromkeys(again.condition)) == ["clean", "mixture", "white noise"]
    assert (evaluated / "per_clip.csv").read_bytes() == before


def test_an_interrupted_run_goes_on(
    evaluated: Path,
    evaluate: Callable[..., pd.DataFrame],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run that was cut off and went on writes what one without a break did."""
    explain, calls = ExplainerSuite.explain, []

    def twice(self: ExplainerSuite, name: str, batch: ExplainerInput) -> object:
        calls.append(batch)
        if len(calls) == 3 * len(METHODS):
            raise KeyboardInterrupt
        return explain(self, name, batch)

    options = ("--conditions=[clean, mixture]", "--localisation=False")
    monkeypatch.setattr(ExplainerSuite, "explain", twice)
    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path, *options)
    evaluate(tmp_path, *options)
    assert len(calls) == 4 * len(METHODS) + 1  # two a condition; one was lost
    assert set(pd.read_csv(tmp_path / "areas.csv").method) == set(METHODS) - {KEEP_ALL}
    names = ["condition", "id", "method", "AI", "FF", "MM"]
    found = pd.read_csv(tmp_path / "per_clip.csv")[names]
    wanted = pd.read_csv(evaluated / "per_clip.csv")[names]
    wanted = wanted[wanted.condition.isin(["clean", "mixture"])]
    pd.testing.assert_frame_equal(found, wanted.reset_index(drop=True), atol=1e-5)


def test_no_condition_is_left(
    evaluate: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    """Speech alone needs a folder of it."""
    with pytest.raises(ValueError, match="conditions names none"):
        evaluate(tmp_path, "--conditions=[speech]")


def write_urbansound8k(folder: Path, fold: int) -> Path:
    """One fold of UrbanSound8K: a clip of noise of each of two classes."""
    (folder / "metadata").mkdir(parents=True)
    (folder / f"audio/fold{fold}").mkdir(parents=True)
    lines = ["slice_file_name,fsID,start,end,salience,fold,classID,class"]
    for number, label in ((3, "dog_bark"), (8, "siren")):
        name = f"7-{number}-0-0.wav"
        wav = np.random.default_rng(number).uniform(-0.5, 0.5, 22050)
        soundfile.write(folder / f"audio/fold{fold}" / name, wav, 22050)
        lines.append(f"{name},7,0,4,1,{fold},{number},{label}")
    (folder / "metadata/UrbanSound8K.csv").write_text("\n".join([*lines, ""]))
    return folder


def test_one_fold_of_urbansound8k(
    recipe: Callable[[str], ModuleType], few_passes: None, tmp_path: Path
) -> None:
    """It is evaluated though no fold to train on is there, also with the old words."""
    folder = write_urbansound8k(tmp_path / "US8K", fold=2)
    shared = ["--test_folds=[2]", "--localisation=False", "--insertion_fractions=[]"]
    levels = "--contamination_snr_db={white noise: 6}"
    options = [*shared, levels, "--conditions=[clean, white noise]"]
    options.append("--methods=[Grad-CAM]")
    yaml, tables = str(ROOT / "hparams/evaluate.yaml"), []
    for name, source in enumerate(
        (
            [f"--urbansound8k_folder={folder}"],
            [f"--data_folder={folder}", "--dataset=urbansound8k"],
        )
    ):
        out = f"--output_folder={tmp_path / str(name)}"
        tables.append(recipe("evaluate").main([yaml, *options, *source, out]))
    assert (tables[0].n == 2).all()
    names = ["method", "condition", "AI", "FF"]
    pd.testing.assert_frame_equal(tables[0][names], tables[1][names])
    notes = json.loads((tmp_path / "0/per_clip.json").read_text())
    assert notes["labels"] == sorted(URBANSOUND8K_LABELS)
    assert notes["contamination_snr_db"]["white noise"] == 6


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("evaluate", ["--data_folder=nowhere"], "nowhere is not ESC-50 as released"),
        ("evaluate", [], "give the clips by one of --data_folder"),
        ("evaluate", ["--manifest=none.csv"], "none.csv does not exist"),
        ("evaluate", ["--urbansound8k_folder=empty"], "UrbanSound8K.csv is not there"),
        ("evaluate", ["--data_folder=empty", "--dataset=folder"], "no subfolder with"),
        ("evaluate", ["ESC50", "--conditions=[rain]"], "conditions names 'rain'"),
        ("evaluate", ["ESC50", "--methods=[rise]"], "methods names 'rise': did you"),
        ("evaluate", ["ESC50", "--without=[enrgy]"], "did you mean 'energy'"),
        ("evaluate", ["ESC50", "--recompute=[lime]"], "recompute names 'lime'"),
        ("evaluate", ["ESC50", "--ids=[5-1]"], "ids names '5-1'"),
        ("evaluate", ["ESC50", "--speech_folder=empty"], "empty holds no recording"),
        (
            "evaluate",
            ["ESC50", "--contamination_snr_db=loud"],
            "snr_db=loud: give a number",
        ),
        (
            "evaluate",
            ["US8K", "--esc10_only=True"],
            "no clip to test on has a label",
        ),
        ("figures", ["ESC50", "--figure_labels=[clock]"], "no clip .* is 'clock'"),
        ("figures", ["ESC50", "--explainers=[LIMF]"], "explainers names 'LIMF'"),
        ("figures", ["US8K", "--test_folds=[1]"], "fold 1 holds no clip in "),
        ("quality", ["--data_folder=empty"], "meta/esc50.csv is missing"),
    ],
)
def test_inputs_are_checked_before_a_model_is_loaded(
    recipe: Callable[[str], ModuleType],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    options: list[str],
    message: str,
) -> None:
    """What cannot be used is named at once, and nothing is written."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ZeroShotInterpreter, "from_hparams", refuse)
    (tmp_path / "empty").mkdir()
    words = {"ESC50": [f"--data_folder={data}"]}
    if "US8K" in options:
        place = write_urbansound8k(tmp_path / "US8K", fold=10)
        words["US8K"] = [f"--urbansound8k_folder={place}"]
    given = [one for word in options for one in words.get(word, [word])]
    out = [f"--output_folder={tmp_path / 'out'}"]
    yaml = str(ROOT / f"hparams/{name}.yaml")
    with pytest.raises((ValueError, FileNotFoundError), match=message) as refused:
        recipe(name).main([yaml, *given, *out])
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_figures_of_other_settings_are_not_mixed(
    evaluated: Path, evaluate: Callable[..., pd.DataFrame]
) -> None:
    """The option that differs is named."""
    with pytest.raises(ValueError, match=r"another setting of seed \(1234, now 7\)"):
        evaluate(evaluated, "--seed=7")


def test_rows_of_another_decoder_are_not_mixed(
    evaluated: Path, evaluate: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    """A folder in which the areas are those of another one is not touched."""
    old = shutil.copytree(evaluated, tmp_path / "old")
    note = old / "per_clip.json"
    settings = json.loads(note.read_text())
    note.write_text(json.dumps({**settings, "reference": "0f3a"}))
    before = (old / "per_clip.csv").read_bytes()
    with pytest.raises(ValueError, match="another setting of reference"):
        evaluate(old)
    assert (old / "per_clip.csv").read_bytes() == before


def test_one_figure_can_be_computed_alone(
    evaluated: Path, evaluate: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    """One method under one condition has the rows of the whole evaluation."""
    options = ("--methods=[random patches]", "--conditions=[mixture]")
    alone = evaluate(tmp_path, *options, "--localisation=False")
    assert alone.method.tolist() == [MAIN, "random patches"]
    for table in ("per_clip", "equal_area_per_clip"):
        keys = ["condition", "id", "method"]
        keys += ["map", "area"] if table.startswith("equal") else []
        found, whole = (
            pd.read_csv(folder / f"{table}.csv").set_index(keys)
            for folder in (tmp_path, evaluated)
        )
        whole = whole.loc[found.index].drop(columns="seconds", errors="ignore")
        pd.testing.assert_frame_equal(found[whole.columns], whole, rtol=1e-6)


def test_a_metric_and_an_explainer_are_one_entry_each(
    evaluate: Callable[..., pd.DataFrame],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is added to the registries is in every table and on the page."""
    methods = f"--methods=[{MAIN}, half, {KEEP_ALL}]"
    options = ("--conditions=[clean]",)
    evaluate(tmp_path / "before", *options)
    toy = Metric("toy", lambda batch: batch.masks.amax((1, 2)), better="higher")
    monkeypatch.setitem(FIGURES, "toy", toy)
    half = Method("half", lambda batch: 0.5 * batch.like)
    monkeypatch.setitem(EXPLAINERS, "half", half)
    evaluate(tmp_path / "out", *options, methods)
    for table in ("results", "per_clip"):
        found = pd.read_csv(tmp_path / "out" / f"{table}.csv").set_index("method")
        assert found.loc["half", "MM"].max() <= 0.5
        assert (found.loc["half", "toy"] <= 0.5).all()
        assert (found.loc[KEEP_ALL, "toy"] == 1).all()
    for table in ("localisation", "localisation_per_clip", "areas"):
        found = pd.read_csv(tmp_path / "out" / f"{table}.csv")
        assert "half" in set(found.method)
    page = (tmp_path / "out" / "results.md").read_text()
    assert "| toy ↑ |" in page
    assert page.count("| half |") == 1 + 4 + 2 + 1  # four areas, two arrangements
    monkeypatch.delitem(EXPLAINERS, "half")
    with pytest.raises(ValueError, match="per_clip.csv .* has no column toy"):
        evaluate(tmp_path / "before", *options)


@pytest.mark.parametrize("recipe_name", ["evaluate", "figures"])
def test_package_that_is_missing_is_one_line(
    recipe_name: str, data: Path, tmp_path: Path
) -> None:
    """The error comes before any work and names the extra to install."""
    (tmp_path / "path" / "captum").mkdir(parents=True)
    broken = tmp_path / "path" / "captum" / "__init__.py"
    broken.write_text("raise ImportError('no captum')\n")
    places = [str(tmp_path / "path"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    out = tmp_path / "out"
    done = subprocess.run(
        [
            sys.executable,
            f"recipes/{recipe_name}.py",
            f"hparams/{recipe_name}.yaml",
            f"--data_folder={data}",
            f"--output_folder={out}",
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == (
        f"{recipe_name}.py: captum cannot be imported (no captum): install what "
        "the extra eval needs, " + pip('install -e ".[eval]"')
    )
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no curves_per_clip.csv: run recipes/evaluate.py"),
        ("method,share\nLMAC-ZS,0\n", "curves_per_clip.csv has no row of LMAC-ZS+"),
    ],
)
def test_figures_without_curves_to_draw(
    recipe: Callable[[str], ModuleType],
    data: Path,
    tmp_path: Path,
    content: str | None,
    message: str,
) -> None:
    """An evaluation that lacks them is refused before anything is computed."""
    if content is not None:
        (tmp_path / "curves_per_clip.csv").write_text(content)
    options = [f"--data_folder={data}", f"--output_folder={tmp_path / 'out'}"]
    yaml = str(ROOT / "hparams/figures.yaml")
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        recipe("figures").main([yaml, *options, f"--evaluation={tmp_path}"])
    assert str(refused.value).startswith(f"--evaluation={tmp_path}")
    assert not (tmp_path / "out").exists()


def test_figures_of_other_recordings_are_not_mixed(
    evaluated: Path,
    evaluate: Callable[..., pd.DataFrame],
    data: Path,
    tmp_path: Path,
) -> None:
    """Neither of other speech, nor of a clip that has changed under the same name."""
    soundfile.write(tmp_path / "voice.wav", np.zeros(8000), 16000)
    with pytest.raises(ValueError, match="another setting of speech"):
        evaluate(evaluated, f"--speech_folder={tmp_path}")
    alike = Path(shutil.copytree(evaluated.parent / "speech", tmp_path / "alike"))
    voice = sorted(alike.iterdir())[0]
    voice.write_bytes(voice.read_bytes()[:-2] + b"\1\1")
    with pytest.raises(ValueError, match="another setting of speech_recordings"):
        evaluate(evaluated, f"--speech_folder={alike}")
    clip = next((data / "audio").glob("5-*.wav"))
    whole = clip.read_bytes()
    soundfile.write(clip, np.zeros(44100), 44100)
    try:
        with pytest.raises(ValueError, match=f"figures for other contents of {clip}"):
            evaluate(evaluated)
    finally:
        clip.write_bytes(whole)


def test_classes_that_were_left_out_are_apart(
    evaluate: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    """A table and a section; both state what was trained on. A wrong label ends it."""
    options = ("--conditions=[clean]", "--localisation=False")
    evaluate(tmp_path / "out", *options, "--left_out=[rain]")
    table = pd.read_csv(tmp_path / "out/left_out.csv")
    ours = table[table.method == MAIN].set_index("classes")
    assert ours.n.to_dict() == {"left out": 1, "trained on": 2}
    page = (tmp_path / "out/results.md").read_text()
    assert "**clean, classes left out**: 1 clips of 1 classes (rain 1)" in page
    assert "- tested: 3 clips of 3 labels, esc50\n- CLAP: 407 clips of ESC-50" in page
    assert f"- {MAIN}: `esc50.yaml`, split development\n" in page
    evaluate(tmp_path / "out", *options)
    assert "left out" not in (tmp_path / "out/results.md").read_text()
    with pytest.raises(ValueError, match="left_out names 'rein'"):
        evaluate(tmp_path / "out", *options, "--left_out=[rein]")


def test_page_of_results(
    evaluated: Path, recipe: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    """Of a folder as it is left, with facts about the run, without absolute paths."""
    facts = json.loads((evaluated / "facts.json").read_text())
    assert facts["passes"]["Grad-CAM"] == 2
    assert facts["versions"]["torch"]
    out = tmp_path / "page.md"
    words = [f"Three clips={evaluated}", f"--output={out}"]
    assert recipe("results_page").main(words) == out
    page = out.read_text()
    assert "\n## Three clips\n" in page
    assert "### Equal area 0.2, clean" in page
    assert "Own masks: mixture · white noise · speech" in page
    assert "Known sources: sum" in page
    assert f"- {MAIN}: `esc50.yaml`, split development\n" in page
    assert "--data_folder=esc50" in page
    assert str(evaluated.parent) not in page
    assert len(page.splitlines()) < 400
    for method in METHODS:
        assert f"| {method} | 3 | " in page
    with pytest.raises(ValueError, match="holds none of per_clip.csv"):
        recipe("results_page").main([str(tmp_path), f"--output={out}"])
    assert out.read_text() == page


def test_speech_may_be_added_later(
    evaluate: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    """What was scored without a folder of it stays, and then the folder counts."""
    for name, samples in (("one", 8000), ("two", 9000)):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "voice.wav", np.ones(samples) / 2, 16000)
    out = tmp_path / "out"
    options = ("--localisation=False",)
    evaluate(out, "--conditions=[clean]", *options)
    clean = pd.read_csv(out / "per_clip.csv")
    both = ("--conditions=[clean, speech]", *options)
    evaluate(out, *both, f"--speech_folder={tmp_path / 'one'}")
    found = pd.read_csv(out / "per_clip.csv")
    pd.testing.assert_frame_equal(found[found.condition == "clean"], clean)
    with pytest.raises(ValueError, match="another setting of speech"):
        evaluate(out, *both, f"--speech_folder={tmp_path / 'two'}")
    evaluate(out, *both)
    with pytest.raises(ValueError, match="another setting of speech"):
        evaluate(out, *both, f"--speech_folder={tmp_path / 'two'}")


def test_figures(
    evaluated: Path,
    recipe: Callable[[str], ModuleType],
    data: Path,
    tmp_path: Path,
) -> None:
    """Every picture is there, for the screen and for print, with its numbers."""
    options = [
        f"--data_folder={data}",
        f"--output_folder={tmp_path}",
        f"--evaluation={evaluated}",
        "--no_diversity_source=" + str(ROOT / "pretrained/lmaczs_small"),
        "--figure_labels=[dog, rain]",
        "--randomisation_clips=2",
    ]
    written = recipe("figures").main([str(ROOT / "hparams/figures.yaml"), *options])
    names = {"similarity", "prompts", "cascade", "ssim", "diversity", "curves"}
    names |= {"masked_similarity"}
    assert {path.stem for path in written} == names
    for path in written:
        if path.suffix == ".pdf":
            assert path.read_bytes().startswith(b"%PDF")
        else:
            with Image.open(path) as picture:
                assert np.asarray(picture.convert("L")).std() > 5
    pairs = pd.read_csv(tmp_path / "similarity.csv")
    assert len(pairs) == 3 * 3 * 3  # the decoder twice, and Grad-CAM++
    same = pairs[pairs.method != "Grad-CAM++"].groupby(["id", "prompt"])
    assert same.masked_similarity.nunique().eq(1).all()
    page = (tmp_path / "randomisation.md").read_text()
    assert "The paper's claim" in page
    assert "| Grad-CAM++ | patch embedding |" in page
    ssim = pd.read_csv(tmp_path / "ssim.csv")
    stages = ["stage 3", "stage 2", "stage 1", "patch embedding"]
    assert list(dict.fromkeys(ssim.stage)) == stages
    assert ssim.ssim.between(-1, 1).all()


def test_what_a_decoder_has_learnt_is_not_tested_on(
    recipe: Callable[[str], ModuleType],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By its content; recordings that cannot be read are an error that names them."""
    evaluate, rows = recipe("evaluate"), []
    for number in range(3):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, np.random.default_rng(number).normal(0, 0.1, 800), 8000)
        rows.append((path.stem, str(path), "dog"))
    clips = pd.DataFrame(rows, columns=["id", "path", "label"])
    given = clips, str(tmp_path / "out")
    found = evaluate.clips_to_test(*given, [str(tmp_path)])
    assert list(found.id) == ["0", "1", "2"]
    learnt = {found.sha256[1]: [[0, 5]]}
    (tmp_path / "learnt.json").write_text(json.dumps(learnt))
    found = evaluate.clips_to_test(*given, [str(tmp_path / "none"), str(tmp_path)])
    assert list(found.id) == ["0", "2"]
    assert "1 of the 3 clips of split test were learnt" in caplog.text
    soundfile.write(clips.path[2], np.full(800, 0.1), 8000)
    evaluate.clips_to_test(*given, [])  # there are no figures yet
    (tmp_path / "out" / "per_clip.csv").touch()
    soundfile.write(clips.path[2], np.full(800, 0.2), 8000)
    with pytest.raises(InputError, match=r"figures for other contents of .*2\.wav: c"):
        evaluate.clips_to_test(*given, [])
    Path(clips.path[2]).write_bytes(b"no sound")
    with pytest.raises(InputError, match=r"1 of 3 recordings .*2\.wav: no audio"):
        evaluate.clips_to_test(*given, [])
