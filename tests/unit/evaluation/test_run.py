"""An evaluation on a random tiny CLAP: what it computes, and that it resumes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from torch import Tensor

from lmaczs.clap import FrozenClap
from lmaczs.decoder import MaskDecoder
from lmaczs.evaluation.explainer import ExplainerInput
from lmaczs.evaluation.explainers import (
    EXPLAINERS,
    KEEP_ALL,
    MAIN,
    ExplainerSuite,
    Method,
)
from lmaczs.evaluation.facts import machine_facts, write_facts
from lmaczs.evaluation.run import Evaluation, EvaluationPlan, write_results
from lmaczs.utils.errors import InputError

RATE = 32000  # of the tiny CLAP
PITCH = {"dog": 300, "rain": 900, "siren": 6000}
PLAN = EvaluationPlan(
    conditions=("white noise", "clean"),
    areas=(0.1, 0.5),
    insertion_fractions=(0, 0.5, 1),
    batch_size=2,
    seed=3,
)
SPEECH = {"conditions": ["clean", "speech"]}
TABLES = (
    "per_clip",
    "equal_area_per_clip",
    "curves_per_clip",
    "localisation_per_clip",
)
BATCHES = 8  # two of each condition, two of each arrangement


class Stop:
    """An explainer that fails at one of its calls, as a kill would."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.calls: list[int] = []
        self.fails_at = fails_at

    def __call__(self, batch: ExplainerInput) -> Tensor:
        """Keep a random half of the cells."""
        if len(self.calls) == self.fails_at:
            self.fails_at = None
            raise KeyboardInterrupt
        self.calls.append(len(batch.text))
        size = batch.cells.shape[1:]
        masks = [torch.rand(size, generator=rng).round() for rng in batch.clip_rngs()]
        return torch.stack(masks)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """A tone of 1 s a label, with ids that look like numbers."""
    folder, rows = tmp_path_factory.mktemp("tones"), []
    for number, (label, hertz) in enumerate(PITCH.items()):
        wav = 0.3 * np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE)
        path = folder / f"{label}.wav"
        soundfile.write(path, wav, RATE)
        rows.append({"id": f"00{number}", "path": str(path), "label": label})
    return pd.DataFrame(rows)


def evaluation(
    clap: FrozenClap,
    clips: pd.DataFrame,
    folder: Path,
    explain: Stop,
    plan: EvaluationPlan = PLAN,
    **more: Method,
) -> Evaluation:
    """A decoder and two explainers in the mel domain, one of them given."""
    methods = {
        "drawn": Method("drawn", explain, passes=30),
        KEEP_ALL: EXPLAINERS[KEEP_ALL],
        **more,
    }
    torch.manual_seed(0)
    decoders = {MAIN: MaskDecoder(clap, "mel", width=8)}
    suite = ExplainerSuite(clap, decoders, "mel", methods)
    return Evaluation(suite, clips, list(PITCH), "the sound of {}", plan, folder)


def on_disk(folder: Path) -> dict[str, pd.DataFrame]:
    """Every table without its times."""
    found = {name: pd.read_csv(folder / f"{name}.csv", dtype=str) for name in TABLES}
    return {k: t.drop(columns="seconds", errors="ignore") for k, t in found.items()}


def same(one: Path, other: Path) -> bool:
    """Whether two folders hold the same tables, row by row and digit by digit."""
    pairs = zip(on_disk(one).values(), on_disk(other).values(), strict=True)
    return all(a.equals(b) for a, b in pairs)


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """Rows by name, without times."""
    keys = ["condition", "id", "method", "map", "area", "share"]
    index = [key for key in keys if key in table]
    return table.drop(columns="seconds", errors="ignore").set_index(index)


def agree(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Assert that rows are those of another table, whatever was beside them."""
    found, expected = scores(found), scores(expected)
    expected = expected.loc[found.index]
    pd.testing.assert_frame_equal(found, expected, rtol=1e-3, atol=1e-3)


@pytest.fixture(scope="module")
def whole(
    tiny_clap: FrozenClap,
    clips: pd.DataFrame,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Folder of a run without a break."""
    folder, explain = tmp_path_factory.mktemp("whole"), Stop()
    found = evaluation(tiny_clap, clips, folder, explain).run()
    write_results(found, "A title", folder)
    assert explain.calls == [2, 1] * 4
    return folder


def test_methods_of_several_seeds_have_a_table(whole: Path, tmp_path: Path) -> None:
    """seeds.csv and a section; there is neither where no method has them."""
    assert not (whole / "seeds.csv").exists()
    assert "Over seeds" not in (whole / "results.md").read_text()
    rows = pd.read_csv(whole / "per_clip.csv")
    names = {"drawn": "mine #1", KEEP_ALL: "mine #2"}
    found = {"per_clip": rows.assign(method=rows.method.map(names))}
    means = write_results(found, "A title", tmp_path).groupby("condition").AI.mean()
    seeds = pd.read_csv(tmp_path / "seeds.csv").set_index("condition")
    assert seeds.method.tolist() == ["mine"] * 2
    assert seeds.AI.to_dict() == pytest.approx(means.to_dict())
    assert "| mine | 2 |" in (tmp_path / "results.md").read_text()
    write_results({"per_clip": rows}, "A title", tmp_path)
    assert not (tmp_path / "seeds.csv").exists()


def test_tables_hold_every_batch_in_order(whole: Path) -> None:
    """Conditions as the plan has them, then sums and sequences, batch by batch."""
    tables = on_disk(whole)
    names = [MAIN, "drawn", KEEP_ALL]

    def expected(conditions: list[str], methods: list[str]) -> list[tuple]:
        return [
            (condition, clip, method)
            for condition in conditions
            for ids in (["000", "001"], ["002"])
            for method in methods
            for clip in ids
        ]

    def rows(table: pd.DataFrame) -> list[tuple]:
        columns = ["condition", "id", "method"]
        return list(table[columns].itertuples(index=False, name=None))

    assert rows(tables["per_clip"]) == expected(["white noise", "clean"], names)
    assert rows(tables["localisation_per_clip"]) == expected(["sum", "sequence"], names)
    curves = tables["curves_per_clip"]
    for share in ("0.0", "0.5", "1.0"):
        assert rows(curves[curves.share == share]) == expected(["clean"], names[:2])
    equal = tables["equal_area_per_clip"]
    for kind in ("alone", "times power"):
        for area in ("0.1", "0.5", "ours"):
            some = equal[(equal["map"] == kind) & (equal.area == area)]
            assert rows(some) == expected(["white noise", "clean"], names[:2])
    whole = equal[equal.area == "1"]
    assert rows(whole) == expected(["white noise", "clean"], names[2:])


def test_results_are_means(whole: Path) -> None:
    """A row a condition and method in each table, and a section each on the page."""
    results = pd.read_csv(whole / "results.csv")
    per_clip = pd.read_csv(whole / "per_clip.csv")
    assert results.condition.tolist() == ["white noise"] * 3 + ["clean"] * 3
    drawn = per_clip[(per_clip.method == "drawn") & (per_clip.condition == "clean")]
    assert results.FF[4] == pytest.approx(drawn.FF.mean())
    assert results.n.tolist() == [3] * 6
    tests = pd.read_csv(whole / "tests.csv", dtype={"area": str})
    assert set(tests.area.dropna()) == {"0.1", "0.5", "ours"}
    assert len(tests) == 2 * (1 + 3 * 3) * 2 * 5  # tables, other methods, metrics
    assert (tests.verdict == "tie").all()  # of three clips
    page = (whole / "results.md").read_text()
    assert [line[3:] for line in page.splitlines() if line.startswith("## ")] == [
        "white noise",
        "clean",
        *(
            f"Equal area {area}: {condition}"
            for condition in ("white noise", "clean")
            for area in ("0.1", "0.5", "ours")
        ),
        "Known sources: sum",
        "Known sources: sequence",
        "Areas under insertion and deletion curves",
    ]


@pytest.mark.parametrize("fails_at", range(BATCHES))
def test_a_run_that_was_interrupted_resumes(
    tiny_clap: FrozenClap,
    clips: pd.DataFrame,
    whole: Path,
    tmp_path: Path,
    fails_at: int,
) -> None:
    """What is left is explained once, and the tables are those of one run."""
    explain = Stop(fails_at)
    with pytest.raises(KeyboardInterrupt):
        evaluation(tiny_clap, clips, tmp_path, explain).run()
    evaluation(tiny_clap, clips, tmp_path, explain).run()
    assert explain.calls == [2, 1] * 4
    assert same(tmp_path, whole)
    evaluation(tiny_clap, clips, tmp_path, explain).run()
    assert len(explain.calls) == BATCHES


def test_what_one_table_lacks_is_not_added_to_the_others(
    tiny_clap: FrozenClap, clips: pd.DataFrame, whole: Path, tmp_path: Path
) -> None:
    """Clean clips are explained again for the curves alone."""
    evaluation(tiny_clap, clips, tmp_path, Stop()).run()
    (tmp_path / "curves_per_clip.csv").unlink()
    explain = Stop()
    evaluation(tiny_clap, clips, tmp_path, explain).run()
    assert explain.calls == [2, 1]
    assert same(tmp_path, whole)


def test_tables_may_lack_other_clips(
    tiny_clap: FrozenClap, clips: pd.DataFrame, whole: Path, tmp_path: Path
) -> None:
    """Each clip's own masks are scored, whichever of a batch a table lacks."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    for name, lost in (("per_clip", "001"), ("equal_area_per_clip", "000")):
        table = pd.read_csv(tmp_path / f"{name}.csv", dtype=str)
        here = (table.condition == "clean") & (table.method == "drawn")
        table[~(here & (table.id == lost))].to_csv(
            tmp_path / f"{name}.csv", index=False
        )
    explain = Stop()
    found = evaluation(tiny_clap, clips, tmp_path, explain).run()
    assert explain.calls == [2]
    for name in ("per_clip", "equal_area_per_clip"):
        text = {"id": str, "area": str}
        expected = pd.read_csv(whole / f"{name}.csv", dtype=text)
        assert (
            scores(found[name])
            .index.sort_values()
            .equals(scores(expected).index.sort_values())
        )
        agree(found[name], expected)


def test_curves_are_of_clean_clips(
    tiny_clap: FrozenClap, clips: pd.DataFrame, tmp_path: Path
) -> None:
    """Also where that condition is not scored, and mixtures only where wanted."""
    plan = EvaluationPlan(
        conditions=("mixture",), localisation=False, insertion_fractions=(0, 1)
    )
    found = evaluation(tiny_clap, clips, tmp_path, Stop(), plan).run()
    assert list(found) == ["per_clip", "equal_area_per_clip", "curves_per_clip"]
    assert set(found["per_clip"].condition) == {"mixture"}
    assert set(found["curves_per_clip"].condition) == {"clean"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"areas": [0.1, 20]}, "areas has 20: give fractions of the cells"),
        ({"insertion_fractions": [-1]}, "insertion_fractions has -1: give fractions"),
        ({"conditions": ["speech"]}, "add clean to it, or give --speech_folder$"),
        ({"conditions": []}, "^conditions names none"),
        ({"conditions": ["clean", "mixtur"]}, "'mixtur': did you mean 'mixture'"),
        ({"contamination_snr_db": "12 dB"}, "^contamination_snr_db is '12 dB'"),
        (
            {**SPEECH, "speech_folder": "empty"},
            "^--speech_folder: empty holds no recording",
        ),
        (
            {**SPEECH, "speech_folder": "nowhere"},
            "^--speech_folder: nowhere is no folder",
        ),
        ({**SPEECH, "speech_folder": "broken"}, "1 of 1 recordings are no audio"),
    ],
)
def test_plans_that_cannot_be_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    message: str,
) -> None:
    """Before there is a model; the option is named."""
    monkeypatch.chdir(tmp_path)
    Path("broken").mkdir()
    Path("empty").mkdir()
    Path("broken/voice.wav").write_text("no audio")
    with pytest.raises(ValueError, match=message):
        EvaluationPlan(**options)


def test_levels_are_those_of_the_rows(
    tiny_clap: FrozenClap, clips: pd.DataFrame, tmp_path: Path
) -> None:
    """The same level in other words resumes, another one is refused."""
    options = {"conditions": ("white noise",), "localisation": False}
    for level in (3, {"speech": 3.0}):
        plan = EvaluationPlan(**options, contamination_snr_db=level)
        evaluation(tiny_clap, clips, tmp_path, explain := Stop(), plan).run()
        assert len(explain.calls) == (1 if level == 3 else 0)
    plan = EvaluationPlan(**options, contamination_snr_db={"white noise": 6})
    with pytest.raises(ValueError, match="another setting of contamination_snr_db"):
        evaluation(tiny_clap, clips, tmp_path, Stop(), plan).run()


def test_a_method_may_be_added_or_computed_again(
    tiny_clap: FrozenClap, clips: pd.DataFrame, whole: Path, tmp_path: Path
) -> None:
    """The rows of others are neither touched nor computed."""
    first, second = Stop(), Stop()
    evaluation(tiny_clap, clips, tmp_path, first).run()
    before = on_disk(tmp_path)
    more = {"more": Method("more", second)}
    found = evaluation(tiny_clap, clips, tmp_path, first, **more).run()
    assert first.calls == second.calls == [2, 1] * 4
    for name, table in on_disk(tmp_path).items():
        assert table[table.method != "more"].equals(before[name])
        own = found[name].method == "more"
        again = found[name][own].assign(method="drawn")
        agree(again, found[name][found[name].method == "drawn"])
    plan = replace(PLAN, recompute=["drawn"])
    again = evaluation(tiny_clap, clips, tmp_path, first, plan, **more).run()
    assert first.calls == [2, 1] * 8 and second.calls == [2, 1] * 4
    for name, table in again.items():
        agree(table, found[name])
        assert len(table) == len(found[name])
    fewer = evaluation(tiny_clap, clips, tmp_path, first).run()
    assert set(fewer["per_clip"].method) == {MAIN, "drawn", KEEP_ALL}
    with pytest.raises(
        InputError, match="recompute names 'drwan': did you mean 'drawn'"
    ):
        evaluation(
            tiny_clap, clips, tmp_path, first, replace(PLAN, recompute=["drwan"])
        )


def test_parts_of_a_run_are_joined(
    tiny_clap: FrozenClap, clips: pd.DataFrame, whole: Path, tmp_path: Path
) -> None:
    """Rows of other folders are not computed again, and those folders stay."""
    here = machine_facts()
    parts = {"clean": here, "white noise": {**here, "machines": ["another"]}}
    for condition, facts in parts.items():
        folder = tmp_path / condition
        plan = replace(PLAN, conditions=(condition,))
        evaluation(tiny_clap, clips, folder, Stop(), plan).run()
        write_facts(folder, {**facts, "seconds": 1.0, "passes": {}})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    plan, explain = replace(PLAN, join=[tmp_path / name for name in parts]), Stop()
    found = evaluation(tiny_clap, clips, tmp_path / "all", explain, plan).run()
    assert explain.calls == []
    assert before == {path: path.read_bytes() for path in before}
    for name, table in found.items():
        text = dict.fromkeys(("id", "other", "area"), str)
        expected = pd.read_csv(whole / f"{name}.csv", dtype=text)
        agree(table, expected)
        assert len(table) == len(expected)
    timed = found["per_clip"].groupby("condition").seconds.count()
    assert timed["clean"] == len(clips) * 3 and timed["white noise"] == 0
    with pytest.raises(InputError, match="join names .*, which is no finished"):
        replace(PLAN, join=[tmp_path / "nowhere"])
    noisier = replace(plan, contamination_snr_db={"white noise": 6})
    with pytest.raises(InputError, match="clean, which is to be joined, holds figures"):
        evaluation(tiny_clap, clips, tmp_path / "other", Stop(), noisier).run()


def test_a_cell_alone_is_what_it_is_among_all(
    tiny_clap: FrozenClap, clips: pd.DataFrame, whole: Path, tmp_path: Path
) -> None:
    """One method, clip and condition give the rows of the whole evaluation."""
    plan = replace(PLAN, conditions=("white noise",), ids=["001"])
    run = evaluation(tiny_clap, clips, tmp_path, Stop(), plan)
    found = run.run()
    assert set(found["per_clip"].id) == {"001"}
    for name, table in found.items():
        text = dict.fromkeys(("id", "other", "area"), str)
        agree(table, pd.read_csv(whole / f"{name}.csv", dtype=text))
    with pytest.raises(InputError, match="ids names '01': did you mean '001'"):
        evaluation(tiny_clap, clips, tmp_path, Stop(), replace(PLAN, ids=["01"]))


def test_slow_methods_are_computed_on_some_clips(
    tiny_clap: FrozenClap, clips: pd.DataFrame, whole: Path, tmp_path: Path
) -> None:
    """Every second here; on the others later, if wanted."""
    plan, explain = replace(PLAN, slow_passes=29, slow_every=2), Stop()
    found = evaluation(tiny_clap, clips, tmp_path, explain, plan).run()
    assert explain.calls == [1, 1] * 4
    for name, table in found.items():
        ids = table.groupby("method", sort=False).id.unique()
        assert list(ids["drawn"]) == ["000", "002"]
        assert list(ids[MAIN]) == ["000", "001", "002"]
        text = dict.fromkeys(("id", "other", "area"), str)
        agree(table, pd.read_csv(whole / f"{name}.csv", dtype=text))
    plan = replace(plan, slow_passes=30)
    found = evaluation(tiny_clap, clips, tmp_path, explain, plan).run()
    assert explain.calls == [1, 1] * 4 + [1] * 4
    assert (found["per_clip"].groupby("method").id.nunique() == 3).all()


def test_equal_area_under_some_conditions(
    tiny_clap: FrozenClap, clips: pd.DataFrame, tmp_path: Path
) -> None:
    """Other areas are refused in the same folder."""
    plan = replace(PLAN, equal_area_conditions=["clean"])
    found = evaluation(tiny_clap, clips, tmp_path, Stop(), plan).run()
    assert set(found["equal_area_per_clip"].condition) == {"clean"}
    assert set(found["per_clip"].condition) == {"clean", "white noise"}
    other = replace(plan, areas=[0.3])
    with pytest.raises(InputError, match="another setting of areas"):
        evaluation(tiny_clap, clips, tmp_path, Stop(), other).run()
