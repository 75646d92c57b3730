"""An evaluation on a random tiny CLAP: what it computes, and that it resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from torch import Tensor

from lmaczs.clap import FrozenClap
from lmaczs.evaluation.explainer import ExplainerInput
from lmaczs.evaluation.explainers import EXPLAINERS, KEEP_ALL, ExplainerSuite, Method
from lmaczs.evaluation.run import Evaluation, EvaluationPlan, write_results

RATE = 32000  # of the tiny CLAP
PITCH = {"dog": 300, "rain": 900, "siren": 6000}
PLAN = EvaluationPlan(
    conditions=("white noise", "clean"),
    insertion_fractions=(0, 0.5, 1),
    batch_size=2,
    seed=3,
)
SPEECH = {"conditions": ["clean", "speech"]}
TABLES = ("per_clip", "curves_per_clip", "localisation_per_clip")
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
        return torch.rand(batch.cells.shape, generator=batch.rng()).round()


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
) -> Evaluation:
    """Two explainers in the mel domain, one of them given."""
    methods = {"drawn": Method("drawn", explain), KEEP_ALL: EXPLAINERS[KEEP_ALL]}
    suite = ExplainerSuite(clap, {}, "mel", methods)
    return Evaluation(suite, clips, list(PITCH), "the sound of {}", plan, folder)


def on_disk(folder: Path) -> dict[str, pd.DataFrame]:
    """Every table without its times."""
    found = {name: pd.read_csv(folder / f"{name}.csv", dtype=str) for name in TABLES}
    return {k: t.drop(columns="seconds", errors="ignore") for k, t in found.items()}


def same(one: Path, other: Path) -> bool:
    """Whether two folders hold the same tables, row by row and digit by digit."""
    pairs = zip(on_disk(one).values(), on_disk(other).values(), strict=True)
    return all(a.equals(b) for a, b in pairs)


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
    names = ["drawn", KEEP_ALL]
    batches = [("0", ["000", "001"]), ("2", ["002"])]

    def expected(conditions: list[str], methods: list[str]) -> list[tuple]:
        return [
            (condition, clip, method, start)
            for condition in conditions
            for start, ids in batches
            for method in methods
            for clip in ids
        ]

    def rows(table: pd.DataFrame) -> list[tuple]:
        columns = ["condition", "id", "method", "batch"]
        return list(table[columns].itertuples(index=False, name=None))

    assert rows(tables["per_clip"]) == expected(["white noise", "clean"], names)
    assert rows(tables["localisation_per_clip"]) == expected(["sum", "sequence"], names)
    curves = tables["curves_per_clip"]
    for share in ("0.0", "0.5", "1.0"):
        assert rows(curves[curves.share == share]) == expected(["clean"], ["drawn"])


def test_results_are_means(whole: Path) -> None:
    """A row a condition and method in each table, and a section each on the page."""
    results = pd.read_csv(whole / "results.csv")
    per_clip = pd.read_csv(whole / "per_clip.csv")
    assert results.condition.tolist() == ["white noise"] * 2 + ["clean"] * 2
    drawn = per_clip[(per_clip.method == "drawn") & (per_clip.condition == "clean")]
    assert results.FF[2] == pytest.approx(drawn.FF.mean())
    assert results.n.tolist() == [3] * 4
    page = (whole / "results.md").read_text()
    assert [line[3:] for line in page.splitlines() if line.startswith("## ")] == [
        "white noise",
        "clean",
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


def test_curves_are_of_clean_clips(
    tiny_clap: FrozenClap, clips: pd.DataFrame, tmp_path: Path
) -> None:
    """Also where that condition is not scored, and mixtures only where wanted."""
    plan = EvaluationPlan(
        conditions=("mixture",), localisation=False, insertion_fractions=(0, 1)
    )
    found = evaluation(tiny_clap, clips, tmp_path, Stop(), plan).run()
    assert list(found) == ["per_clip", "curves_per_clip"]
    assert set(found["per_clip"].condition) == {"mixture"}
    assert set(found["curves_per_clip"].condition) == {"clean"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
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
