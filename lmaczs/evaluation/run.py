"""One evaluation: clips under conditions, mixtures with known sources, and the tables.

Rows that an output folder holds already are not computed again. What a method makes of
a batch is saved when it is done; no row depends on which clips and methods are computed
beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from torch.utils.data import Dataset, default_collate
from tqdm import tqdm

from lmaczs.data.lists import recordings_in, require_audio
from lmaczs.data.recordings import digests_of
from lmaczs.evaluation import tables
from lmaczs.evaluation.comparisons import (
    BETTER,
    OWN,
    areas_of,
    better_maps,
    compared_metrics,
    equal_area_rows,
    every_test,
    verdicts_of,
)
from lmaczs.evaluation.conditions import (
    CONDITIONS,
    CONTAMINATION_SNR_DB,
    ContaminatedClips,
    Snr,
    snr_by_condition,
)
from lmaczs.evaluation.equal_area import equal_area
from lmaczs.evaluation.explainers import (
    KEEP_ALL,
    Explained,
    ExplainerSuite,
    require_name,
)
from lmaczs.evaluation.facts import FACTS, machine_facts, read_facts
from lmaczs.evaluation.insertion_deletion import AREAS, areas, insertion_deletion
from lmaczs.evaluation.result_table import ResumableTable
from lmaczs.evaluation.scoring import PredictedClips, predict, score
from lmaczs.evaluation.seeds import over_seeds, seeds_page
from lmaczs.evaluation.source_mixtures import (
    ARRANGEMENTS,
    MixtureBatch,
    SourceMixtures,
    localisation_columns,
    mixture_batch,
    prompts_of,
    score_localisation,
)
from lmaczs.metrics.faithfulness import METRICS
from lmaczs.metrics.localisation import LOCALISATION
from lmaczs.utils.digests import clips_digest, code_digest, digest, fingerprint
from lmaczs.utils.errors import InputError, LmaczsError, nearest
from lmaczs.utils.files import atomic_write
from lmaczs.utils.seeds import seed_of
from lmaczs.utils.spreadsheets import write_csv

logger = logging.getLogger(__name__)

FAITHFULNESS, EQUAL_AREA = "per_clip", "equal_area_per_clip"
CURVES, LOCATED = "curves_per_clip", "localisation_per_clip"
NO_FIGURES = ("app", "cli", "corpus", "distillation", "report", "training")
"""Parts of this package whose code changes no figure of an evaluation."""
NOT_ALWAYS = frozenset({"seeds", "left_out"})
DIGEST = "sha256"  # column of clips
ROW = ("condition", "id", "method")

Batch = TypeVar("Batch", PredictedClips, MixtureBatch)
Scorer = Callable[[Batch, str, Explained], pd.DataFrame]

Rows = dict[str, dict[str, list[int]]]
"""Numbers of the clips to compute, by method and table."""


@dataclass(frozen=True)
class EvaluationPlan:
    """Settings of an evaluation, apart from models and clips.

    `conditions` are of `lmaczs.evaluation.conditions`; speech is left out without
    `speech_folder`. A clip is `contamination_snr_db` above the added sound, see
    `snr_by_condition`. Maps are cut to each of `areas` (fractions of the cells) under
    `equal_area_conditions` (all if None), and multiplied by the cells' power to
    `power_exponent`; see `equal_area`. With `localisation`, sums and sequences of two
    clips are scored. `insertion_fractions` are the fractions of the cells for insertion
    and deletion curves; empty for none. Methods of more than `slow_passes` encoder
    passes are computed on every `slow_every`-th clip. `ids` are the clips to score;
    default: all. `recompute` names methods of which existing rows are computed again.
    `join` are output folders of the same settings, whose rows are not computed again.
    `seed` is that of every random draw.
    """

    conditions: Sequence[str] = ("clean",)
    contamination_snr_db: Snr = CONTAMINATION_SNR_DB
    speech_folder: str | Path | None = None
    areas: Sequence[float] = (0.1, 0.2, 0.35)
    power_exponent: float = 0.25
    equal_area_conditions: Sequence[str] | None = None
    localisation: bool = True
    insertion_fractions: Sequence[float] = ()
    slow_passes: int = 40
    slow_every: int = 1
    ids: Sequence[str] | None = None
    recompute: Sequence[str] = ()
    join: Sequence[str | Path] = ()
    batch_size: int = 16
    seed: int = 1234

    def __post_init__(self) -> None:
        """Check all that needs no model; `InputError` names the option."""
        snr_by_condition(self.contamination_snr_db)
        for option in ("areas", "insertion_fractions"):
            for value in getattr(self, option):
                if not 0 <= value <= 1:
                    raise InputError(
                        f"{option} has {value}: give fractions of the cells, 0 to 1"
                    )
        for name in self.conditions:
            if name not in CONDITIONS:
                raise InputError(
                    f"conditions names {name!r}{nearest(name, CONDITIONS)}; there are "
                    f"{', '.join(CONDITIONS)}"
                )
        for folder in self.join:
            if not (Path(folder) / FACTS).is_file():
                raise InputError(
                    f"join names {folder}, which is no finished output folder of "
                    "recipes/evaluate.py"
                )
        if self.speech_folder is None and set(self.conditions) <= {"speech"}:
            raise InputError(
                "conditions names none that can be evaluated: add clean to it, or give "
                "--speech_folder"
            )
        if self.speech_folder is not None and "speech" in self.conditions:
            try:
                require_audio(map(str, recordings_in(self.speech_folder)))
            except LmaczsError as error:
                raise InputError(f"--speech_folder: {error}") from error


class Evaluation:
    """Explainers, clips, and the tables of one output folder.

    `clips` has the columns id, path and label, and sha256 where the digests of their
    files are known; `labels` are the classes of the
    zero-shot classifier, and `template` makes prompts of them. InputError if `plan`
    names a clip or method that there is not.
    """

    def __init__(
        self,
        suite: ExplainerSuite,
        clips: pd.DataFrame,
        labels: Sequence[str],
        template: str,
        plan: EvaluationPlan,
        output_folder: str | Path,
    ) -> None:
        self.suite, self.clips, self.labels = suite, clips, list(labels)
        self.plan, self.folder = plan, Path(output_folder)
        folder = plan.speech_folder
        self.speech = recordings_in(folder) if folder is not None else []
        self.prompts = prompts_of(suite.clap, labels, template)
        self.rows = rows_of(clips.id, plan.ids)
        for name in plan.recompute:
            require_name(name, suite.names, "recompute")
        reference = suite.reference
        self.settings = {
            "model": fingerprint(suite.clap),
            "reference": None if reference is None else fingerprint(reference),
            "decoders": {name: fingerprint(d) for name, d in suite.decoders.items()},
            "clips": clips_digest(clips.drop(columns=DIGEST, errors="ignore")),
            "recordings": digest(list(clips[DIGEST])) if DIGEST in clips else None,
            "speech": self._speech_digest(),
            "speech_recordings": self._speech_contents(),
            "labels": self.labels,
            "template": template,
            "domain": suite.domain,
            "seed": plan.seed,
            "contamination_snr_db": snr_by_condition(plan.contamination_snr_db),
        }

    def run(self) -> dict[str, pd.DataFrame]:
        """Compute what the output folder lacks; return the tables, each a CSV, too.

        per_clip has a row for each clip, method and condition; localisation_per_clip
        for each sum or sequence, and method; equal_area_per_clip and curves_per_clip
        several; the tables that the plan has. Rows of conditions, methods and clips
        that are not in the plan stay in the files and are not returned. Raises
        InputError if no condition of the plan can be evaluated, or the folder has other
        settings.
        """
        self._wanted = self._conditions_of_tables()
        self._tables = {name: self._table(name) for name in self._wanted}
        for folder in self.plan.join:
            self._join(Path(folder))
        self._done = {name: table.keys(*ROW) for name, table in self._tables.items()}
        self._score_conditions()
        self._score_mixtures()
        return {name: self._chosen(name) for name in self._tables}

    def _table(self, name: str) -> ResumableTable:
        """Open a table, without the rows to compute again."""
        plan = self.plan
        own: dict[str, dict[str, Any]] = {
            EQUAL_AREA: {
                "areas": list(plan.areas),
                "power_exponent": plan.power_exponent,
            },
            CURVES: {"insertion_fractions": list(plan.insertion_fractions)},
        }
        needed = {FAITHFULNESS: list(METRICS), LOCATED: list(localisation_columns())}
        table = ResumableTable(
            self.folder / f"{name}.csv",
            {**self.settings, **own.get(name, {})},
            text_columns=("id", "other", "area"),
            needed=needed.get(name, ()),
            code=code_digest(*NO_FIGURES),
        )
        table.drop("method", plan.recompute)
        return table

    def _join(self, folder: Path) -> None:
        """Take over the rows of another folder that the tables lack.

        Without their seconds, if they are of another machine or device.
        """
        here = machine_facts(self.suite.clap.device)["machines"]
        timed = read_facts(folder).get("machines") == here
        for name, table in self._tables.items():
            rows = table.rows_of(folder / f"{name}.csv")
            if rows.empty:
                continue
            done, methods = table.keys(*ROW), self.suite.names
            keys = rows[list(ROW)].itertuples(index=False, name=None)
            new = [key not in done and key[2] in methods for key in keys]
            if any(new):
                taken = rows[new].copy()
                if "seconds" in taken and not timed:
                    taken["seconds"] = float("nan")
                table.add(taken)

    def _chosen(self, name: str) -> pd.DataFrame:
        """Rows of a table that the plan has, by condition and method in its order."""
        rows, methods = self._tables[name].rows, self.suite.names
        if rows.empty:
            return rows
        order = {
            "condition": list(self._wanted[name]),
            "method": [*methods],
            "id": list(self.clips.id.iloc[self.rows]),
        }
        for column, values in order.items():
            rows = rows[rows[column].isin(values)]
        places = {column: {v: i for i, v in enumerate(order[column])} for column in ROW}
        return rows.sort_values(
            ["condition", "method", "id"],
            key=lambda column: column.map(places[str(column.name)]),
            kind="stable",
        ).reset_index(drop=True)

    def _conditions_of_tables(self) -> dict[str, Sequence[str]]:
        """Conditions of each table; curves are those of clean clips."""
        plan, conditions = self.plan, list(self.plan.conditions)
        if "speech" in conditions and not self.speech:
            logger.warning("condition speech is left out: it needs --speech_folder")
            conditions.remove("speech")
        equal = plan.equal_area_conditions
        wanted: dict[str, Sequence[str]] = {
            FAITHFULNESS: conditions,
            EQUAL_AREA: [c for c in conditions if equal is None or c in equal],
            CURVES: ["clean"] if plan.insertion_fractions else [],
            LOCATED: ARRANGEMENTS if plan.localisation else (),
        }
        return {name: names for name, names in wanted.items() if names}

    def _score_conditions(self) -> None:
        """Compute per_clip, equal_area_per_clip and curves_per_clip."""
        plan, clap = self.plan, self.suite.clap
        scorers: dict[str, Scorer[PredictedClips]] = {
            FAITHFULNESS: score,
            EQUAL_AREA: partial(
                equal_area, areas=plan.areas, exponent=plan.power_exponent
            ),
            CURVES: partial(insertion_deletion, fractions=plan.insertion_fractions),
        }
        added = (plan.contamination_snr_db, plan.seed, self.speech)
        for condition in self._every_condition(scorers):
            data = ContaminatedClips(self.clips, clap.front_end, condition, *added)
            seed = seed_of(plan.seed, condition)

            def prepare(clips: Any, seed: int = seed) -> PredictedClips:
                return predict(clap, self.prompts, clips, self.suite.domain, seed)

            self._compute(condition, data, prepare, scorers)

    def _score_mixtures(self) -> None:
        """Compute localisation_per_clip."""
        plan, clap = self.plan, self.suite.clap
        scorers: dict[str, Scorer[MixtureBatch]] = {LOCATED: score_localisation}
        for arrangement in ARRANGEMENTS if plan.localisation else ():
            data = SourceMixtures(self.clips, clap.front_end, arrangement, plan.seed)
            own = (arrangement, self.suite.domain, seed_of(plan.seed, arrangement))

            def prepare(pairs: Any, own: Any = own) -> MixtureBatch:
                return mixture_batch(clap, self.prompts, pairs, *own)

            self._compute(arrangement, data, prepare, scorers)

    def _every_condition(self, names: Iterable[str]) -> list[str]:
        """Conditions of some tables, each once."""
        every = [c for name in names for c in self._wanted.get(name, ())]
        return list(dict.fromkeys(every))

    def _compute(
        self,
        condition: str,
        data: Dataset,
        prepare: Callable[[Any], Batch],
        scorers: Mapping[str, Scorer[Batch]],
    ) -> None:
        """Explain and score what tables lack of a condition, batch by batch."""
        size = self.plan.batch_size
        batches = [self.rows[i : i + size] for i in range(0, len(self.rows), size)]
        every = [self._lacking(condition, batch, scorers) for batch in batches]
        left = [lacking for lacking in every if lacking]
        for lacking in tqdm(left, desc=condition, unit="batch", disable=not left):
            rows = sorted({row for some in lacking.values() for row in _all(some)})
            whole = prepare(default_collate([data[row] for row in rows]))
            whole = replace(whole, batch=self.suite.with_reference(whole.batch))
            for method, tables_of in lacking.items():
                own = _all(tables_of)
                batch = whole.take([rows.index(row) for row in own])
                explained = self.suite.explain(method, batch.batch)
                for name, some in tables_of.items():
                    places = [own.index(row) for row in some]
                    given = batch.take(places), method, explained.take(places)
                    table = scorers[name](*given)
                    table.insert(0, "condition", condition)
                    self._tables[name].add(table)

    def _lacking(
        self, condition: str, rows: Sequence[int], names: Iterable[str]
    ) -> Rows:
        """Clips of a batch that tables lack, by method and table."""
        found: Rows = {}
        for method in self.suite.names:
            for name in names:
                if condition not in self._wanted.get(name, ()):
                    continue
                if name == CURVES and method == KEEP_ALL:  # it ranks nothing
                    continue
                some = [
                    row
                    for row in self._own_rows(method, rows)
                    if (condition, self.clips.id.iloc[row], method)
                    not in self._done[name]
                ]
                if some:
                    found.setdefault(method, {})[name] = some
        return found

    def _own_rows(self, method: str, rows: Sequence[int]) -> list[int]:
        """Clips on which a method is computed."""
        plan = self.plan
        slow = self.suite.methods[method].passes > plan.slow_passes
        return [row for row in rows if not slow or row % plan.slow_every == 0]

    def _speech_digest(self) -> str | None:
        """Digest of the recordings' names and sizes; None where speech is not used."""
        folder = self.plan.speech_folder
        if folder is None or not self._with_speech:
            return None
        names = [str(path.relative_to(folder)) for path in self.speech]
        return clips_digest(pd.DataFrame({"id": names, "path": self.speech}))

    def _speech_contents(self) -> str | None:
        """Digest of the recordings themselves."""
        if not self._with_speech:
            return None
        return digest(list(digests_of(map(str, self.speech)).values()))

    @property
    def _with_speech(self) -> bool:
        return bool(self.speech) and "speech" in self.plan.conditions


def _all(tables_of: Mapping[str, Sequence[int]]) -> list[int]:
    """Clips that any of some tables lacks."""
    return sorted({row for rows in tables_of.values() for row in rows})


def rows_of(every: pd.Series, ids: Sequence[str] | None) -> list[int]:
    """Numbers of the clips with these ids; all without. InputError names a wrong id."""
    places = {name: row for row, name in enumerate(every)}
    if ids is None:
        return list(range(len(every)))
    for name in ids:
        require_name(str(name), places, "ids")
    return sorted(places[str(name)] for name in ids)


def write_results(
    found: Mapping[str, pd.DataFrame],
    title: str,
    folder: str | Path,
    more_tables: Mapping[str, pd.DataFrame] | None = None,
    more_sections: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Write means over clips, and results.md; return results.csv.

    Also results_unscaled.csv and tests.csv (every method compared with LMAC-ZS+ in
    every table, see `every_test`), and, where the plan has them, equal_area.csv,
    localisation.csv and areas.csv. `found` is from `Evaluation.run`; `title` is the
    heading of results.md, to which `more_sections` are added by heading; `more_tables`
    are written as CSV by name.
    """
    results = tables.summarise(found[FAITHFULNESS])
    unscaled = tables.summarise_unscaled(found[FAITHFULNESS])
    written, sections = {"results": results, "results_unscaled": unscaled}, {}
    tests = every_test(found[FAITHFULNESS], found.get(EQUAL_AREA))
    written["tests"] = tests
    if EQUAL_AREA in found:
        written["equal_area"] = tables.summarise_equal_area(found[EQUAL_AREA])
        sections.update(equal_area_sections(found[EQUAL_AREA], tests))
    if LOCATED in found:
        columns = [*localisation_columns().values(), tables.SECONDS]
        written["localisation"] = tables.means_of(found[LOCATED], columns)
        for arrangement, rows in found[LOCATED].groupby("condition", sort=False):
            names = LOCALISATION[str(arrangement)]
            columns = [c for n, c in localisation_columns().items() if n in names]
            text = tables.markdown_table(rows, columns)
            sections[f"Known sources: {arrangement}"] = text
    if CURVES in found:
        under = areas(found[CURVES]).assign(condition="clean")
        written["areas"] = tables.means_of(under, AREAS)
        text = tables.markdown_table(under, AREAS)
        sections["Areas under insertion and deletion curves"] = text
    figures = tables.printed_metrics()[:-1]
    seeds = over_seeds(results, [column.name for column in figures])
    if not seeds.empty:
        written["seeds"] = seeds
        sections["Over seeds"] = seeds_page(seeds, figures)
    written.update(more_tables or {})
    sections.update(more_sections or {})
    for name in NOT_ALWAYS.difference(written):  # of an earlier call
        (Path(folder) / f"{name}.csv").unlink(missing_ok=True)
    for name, table in written.items():
        write_csv(Path(folder) / f"{name}.csv", table)
    with atomic_write(Path(folder) / "results.md") as part:
        own = tests[tests.scoring == OWN]
        page = tables.results_page(found[FAITHFULNESS], title, sections, own)
        part.write_text(page, encoding="utf-8")
    return results


def equal_area_sections(equal: pd.DataFrame, tests: pd.DataFrame) -> dict[str, str]:
    """Sections of results.md: each method's better map, at each area.

    From rows of equal_area_per_clip.csv and tests.csv.
    """
    better, sections = better_maps(equal), {}
    for condition, rows in equal.groupby("condition", sort=False):
        for area in areas_of(rows):
            cut = equal_area_rows(rows, area, BETTER, better)
            own = verdicts_of(tests, str(condition), area, BETTER)
            more = {"map": better}
            sections[f"Equal area {area}: {condition}"] = tables.markdown_table(
                cut, compared_metrics(), own, intervals=False, more=more
            )
    return sections
