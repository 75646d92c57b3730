"""One evaluation: clips under conditions, mixtures with known sources, and the tables.

Rows that an output folder holds already are not computed again. Each batch is saved
when it is done, and batches are the same in an interrupted run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.utils.data import default_collate
from tqdm import tqdm

from lmaczs.data.lists import recordings_in, require_audio
from lmaczs.evaluation import tables
from lmaczs.evaluation.conditions import (
    CONDITIONS,
    CONTAMINATION_SNR_DB,
    ContaminatedClips,
    Snr,
    snr_by_condition,
)
from lmaczs.evaluation.explainers import ExplainerSuite
from lmaczs.evaluation.insertion_deletion import AREAS, areas, insertion_deletion
from lmaczs.evaluation.result_table import ResumableTable
from lmaczs.evaluation.scoring import explain_predicted, score_batch
from lmaczs.evaluation.seeds import over_seeds, seeds_page
from lmaczs.evaluation.source_mixtures import (
    ARRANGEMENTS,
    SourceMixtures,
    localisation_columns,
    prompts_of,
    score_localisation,
)
from lmaczs.metrics.faithfulness import METRICS
from lmaczs.metrics.localisation import LOCALISATION
from lmaczs.utils.digests import clips_digest, fingerprint
from lmaczs.utils.errors import InputError, LmaczsError, nearest
from lmaczs.utils.files import atomic_write
from lmaczs.utils.seeds import seed_of

logger = logging.getLogger(__name__)

FAITHFULNESS, CURVES = "per_clip", "curves_per_clip"
NOT_ALWAYS = frozenset({"seeds", "left_out"})
LOCATED = "localisation_per_clip"


@dataclass(frozen=True)
class EvaluationPlan:
    """Settings of an evaluation, apart from models and clips.

    `conditions` are of `lmaczs.evaluation.conditions`; speech is left out without
    `speech_folder`. A clip is `contamination_snr_db` above the added sound, see
    `snr_by_condition`. With `localisation`, sums and sequences of two clips are scored.
    `insertion_fractions` are the fractions of the cells for insertion and deletion
    curves; empty for none. `seed` is that of every random draw.
    """

    conditions: Sequence[str] = ("clean",)
    contamination_snr_db: Snr = CONTAMINATION_SNR_DB
    speech_folder: str | Path | None = None
    localisation: bool = True
    insertion_fractions: Sequence[float] = ()
    batch_size: int = 16
    seed: int = 1234

    def __post_init__(self) -> None:
        """Check all that needs no model; `InputError` names the option."""
        snr_by_condition(self.contamination_snr_db)
        for name in self.conditions:
            if name not in CONDITIONS:
                raise InputError(
                    f"conditions names {name!r}{nearest(name, CONDITIONS)}; there are "
                    f"{', '.join(CONDITIONS)}"
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

    `clips` has the columns id, path and label; `labels` are the classes of the
    zero-shot classifier, and `template` makes prompts of them.
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
        self.settings = {
            "model": fingerprint(suite.clap),
            "decoders": {name: fingerprint(d) for name, d in suite.decoders.items()},
            "explainers": [n for n in suite.names if n not in suite.decoders],
            "clips": clips_digest(clips),
            "speech": self._speech_digest(),
            "labels": self.labels,
            "template": template,
            "domain": suite.domain,
            "seed": plan.seed,
            "batch_size": plan.batch_size,
            "contamination_snr_db": snr_by_condition(plan.contamination_snr_db),
            "insertion_fractions": list(plan.insertion_fractions),
        }

    def run(self) -> dict[str, pd.DataFrame]:
        """Compute what the output folder lacks; return the tables, each a CSV, too.

        per_clip has a row for each clip, method and condition; localisation_per_clip
        for each sum or sequence, and method; curves_per_clip for each clip, method and
        fraction of cells; the last two where the plan has them. Raises InputError if no
        condition of the plan can be evaluated, or the folder has other settings.
        """
        needed = {FAITHFULNESS: list(METRICS), LOCATED: list(localisation_columns())}
        self._wanted = self._conditions_of_tables()
        self._tables = {
            name: ResumableTable(
                self.folder / f"{name}.csv",
                self.settings,
                text_columns=("id", "other"),
                needed=needed.get(name, ()),
            )
            for name in self._wanted
        }
        self._score_conditions()
        self._score_mixtures()
        return {
            name: table.rows[table.rows.condition.isin(self._wanted[name])]
            for name, table in self._tables.items()
        }

    def _conditions_of_tables(self) -> dict[str, Sequence[str]]:
        """Conditions of each table; curves are those of clean clips."""
        conditions = list(self.plan.conditions)
        if "speech" in conditions and not self.speech:
            logger.warning("condition speech is left out: it needs --speech_folder")
            conditions.remove("speech")
        curves = ["clean"] if self.plan.insertion_fractions else []
        mixtures = ARRANGEMENTS if self.plan.localisation else ()
        wanted = {FAITHFULNESS: conditions, CURVES: curves, LOCATED: mixtures}
        return {name: names for name, names in wanted.items() if names}

    def _score_conditions(self) -> None:
        plan, front_end = self.plan, self.suite.clap.front_end
        class_text = torch.stack(list(self.prompts.values()))
        conditions = [*self._wanted[FAITHFULNESS], *self._wanted.get(CURVES, ())]
        added = (plan.contamination_snr_db, plan.seed, self.speech)
        data = {
            name: ContaminatedClips(self.clips, front_end, name, *added)
            for name in dict.fromkeys(conditions)
        }
        for condition, start, names in self._pending(data, (FAITHFULNESS, CURVES)):
            clips = self._batch(data[condition], start)
            seed = seed_of(plan.seed, condition, clips["id"][0])
            explained = explain_predicted(self.suite, class_text, clips, seed)
            if FAITHFULNESS in names:
                rows = score_batch(explained, self.labels)
                self._add(FAITHFULNESS, condition, start, rows)
            if CURVES in names:
                rows = insertion_deletion(explained, plan.insertion_fractions)
                self._add(CURVES, condition, start, rows)

    def _score_mixtures(self) -> None:
        front_end, seed = self.suite.clap.front_end, self.plan.seed
        arrangements = ARRANGEMENTS if LOCATED in self._wanted else ()
        data = {a: SourceMixtures(self.clips, front_end, a, seed) for a in arrangements}
        for arrangement, start, _ in self._pending(data, (LOCATED,)):
            pairs = self._batch(data[arrangement], start)
            part_seed = seed_of(seed, arrangement, pairs["id"][0])
            rows = score_localisation(
                self.suite, self.prompts, pairs, arrangement, part_seed
            )
            self._add(LOCATED, arrangement, start, rows)

    def _pending(
        self, conditions: Iterable[Any], names: Sequence[str]
    ) -> Iterator[tuple[Any, int, list[str]]]:
        """Yield condition, first clip and tables of each batch that a table lacks."""
        left = []
        for condition in conditions:
            tables_of = [n for n in names if condition in self._wanted.get(n, ())]
            for start in range(0, len(self.clips), self.plan.batch_size):
                place = {"condition": condition, "batch": start}
                lacking = [n for n in tables_of if not self._tables[n].has(**place)]
                if lacking:
                    left.append((condition, start, lacking))
        yield from tqdm(left, desc=names[0], unit="batch", disable=not left)

    def _batch(
        self, data: ContaminatedClips | SourceMixtures, start: int
    ) -> dict[str, Any]:
        stop = min(start + self.plan.batch_size, len(data))
        return default_collate([data[row] for row in range(start, stop)])

    def _add(self, name: str, condition: str, start: int, rows: pd.DataFrame) -> None:
        rows.insert(0, "condition", condition)
        self._tables[name].add(rows.assign(batch=start))

    def _speech_digest(self) -> str | None:
        """Digest of the recordings' names and sizes; None where speech is not used."""
        folder = self.plan.speech_folder
        if folder is None or not self.speech or "speech" not in self.plan.conditions:
            return None
        names = [str(path.relative_to(folder)) for path in self.speech]
        return clips_digest(pd.DataFrame({"id": names, "path": self.speech}))


def write_results(
    found: Mapping[str, pd.DataFrame],
    title: str,
    folder: str | Path,
    more_tables: Mapping[str, pd.DataFrame] | None = None,
    more_sections: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Write results.csv (returned), localisation.csv, areas.csv and results.md.

    `found` is from `Evaluation.run`; `title` is the heading of results.md, to which
    `more_sections` are added by heading; `more_tables` are written as CSV by name.
    """
    results = tables.summarise(found[FAITHFULNESS])
    written, sections = {"results": results}, {}
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
        with atomic_write(Path(folder) / f"{name}.csv") as part:
            table.to_csv(part, index=False)
    with atomic_write(Path(folder) / "results.md") as part:
        part.write_text(tables.results_page(found[FAITHFULNESS], title, sections))
    return results
