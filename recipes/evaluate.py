"""Score a decoder beside other methods: faithfulness, localisation, curves.

    python recipes/evaluate.py hparams/evaluate.yaml --data_folder=ESC50
        [--source=DIR] [--paper_source=DIR] [--lmac_source=DIR] [--speech_folder=DIR]
        [--output_folder=DIR]

Needs the extra eval: pip install -e ".[eval]".
Writes results.csv, localisation.csv and areas.csv (a row a method and condition), a CSV
with a row a clip for each, and results.md. What the output folder
holds already is not computed again.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from lmaczs import ZeroShotInterpreter
from lmaczs.data.esc50 import ESC10
from lmaczs.decoder import Decoder
from lmaczs.evaluation.explainers import MAIN, ExplainerSuite
from lmaczs.evaluation.run import Evaluation, EvaluationPlan, write_results
from lmaczs.utils.digests import fingerprint
from lmaczs.utils.errors import InputError, run_recipe
from lmaczs.utils.extras import EVALUATION, require_packages
from lmaczs.utils.options import load_hparams, parse_options

OTHER_DECODERS = {"paper_source": "LMAC-ZS", "lmac_source": "L-MAC"}
"""Keys of the YAML that name further decoders, with the names of their rows."""


def main(argv: list[str]) -> pd.DataFrame:
    """Evaluate, write the tables and return results.csv."""
    hparams_file, _, overrides = parse_options(argv)
    require_packages(EVALUATION, "eval")
    hparams = load_hparams(hparams_file, overrides)
    interpreter = ZeroShotInterpreter.from_hparams(hparams["source"])
    decoders = load_decoders(interpreter, {key: hparams[key] for key in OTHER_DECODERS})
    clips, labels = hparams["test_clips"]()
    if hparams["esc10_only"]:
        clips, labels = clips[clips.label.isin(ESC10)], sorted(ESC10)
    plan = EvaluationPlan(
        conditions=hparams["conditions"],
        contamination_snr_db=hparams["contamination_snr_db"],
        speech_folder=hparams["speech_folder"],
        localisation=hparams["localisation"],
        insertion_fractions=hparams["insertion_fractions"],
        batch_size=hparams["batch_size"],
        seed=hparams["seed"],
    )
    suite = ExplainerSuite(interpreter.clap, decoders, hparams["domain"])
    folder, template = hparams["output_folder"], interpreter.hparams.template
    found = Evaluation(suite, clips, labels, template, plan, folder).run()
    title = f"Faithfulness in the {suite.domain} domain"
    return write_results(found, title, folder)


def load_decoders(
    interpreter: ZeroShotInterpreter, sources: Mapping[str, str | None]
) -> dict[str, Decoder]:
    """Decoders of one CLAP by the names of their rows.

    Parameters
    ----------
    interpreter : ZeroShotInterpreter
        Has the first one.
    sources : mapping of str to str or None
        Folders or Hub ids of others, by the keys of `OTHER_DECODERS`.

    Returns
    -------
    dict of str to Decoder

    Raises
    ------
    InputError
        If one is for another CLAP.
    """
    decoders = {MAIN: interpreter.mods["decoder"]}
    for key, name in OTHER_DECODERS.items():
        source = sources[key]
        if source is None:
            continue
        other = ZeroShotInterpreter.from_hparams(source)
        if fingerprint(other.clap) != fingerprint(interpreter.clap):
            raise InputError(
                f"{key} explains another CLAP than source does: give a decoder of the "
                "same one"
            )
        decoders[name] = other.mods["decoder"]
    return decoders


if __name__ == "__main__":
    run_recipe(main, lambda table: print(table.round(3).to_string(index=False)))
