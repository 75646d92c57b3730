"""The decoders of one comparison, by the names of their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lmaczs.decoder import Decoder
from lmaczs.evaluation.explainers import EXPLAINERS, MAIN
from lmaczs.evaluation.seeds import seed_name
from lmaczs.interpreter import ZeroShotInterpreter
from lmaczs.utils.digests import fingerprint
from lmaczs.utils.errors import InputError

OTHER_DECODERS = {"paper_source": "LMAC-ZS", "lmac_source": "L-MAC"}
"""Keys of an evaluation's YAML that name one further decoder, and its row."""


def further_sources(hparams: Mapping[str, Any]) -> dict[str, str]:
    """Folders or Hub ids of further decoders by the names of their rows.

    Parameters
    ----------
    hparams : mapping
        The keys of `OTHER_DECODERS`; and `decoders`, a mapping of names to a source or
        to a list of sources: decoders of several seeds, which are named
        ``NAME #1``, ``NAME #2``, ... (`lmaczs.evaluation.seeds`).

    Returns
    -------
    dict of str to str

    Raises
    ------
    InputError
        If a name is given twice or belongs to another method.
    """
    found = {
        name: hparams[key]
        for key, name in OTHER_DECODERS.items()
        if hparams[key] is not None
    }
    for name, sources in (hparams["decoders"] or {}).items():
        several = isinstance(sources, Sequence) and not isinstance(sources, str)
        rows = (
            {seed_name(name, place): one for place, one in enumerate(sources, 1)}
            if several
            else {str(name): sources}
        )
        taken = [row for row in rows if row in {MAIN, *EXPLAINERS, *found}]
        if taken:
            raise InputError(
                f"decoders names {taken[0]!r}, which is another row: choose a name"
            )
        found.update(rows)
    return found


def load_source(hparams: Mapping[str, Any], device: str | None) -> ZeroShotInterpreter:
    """The model that a YAML names by `source`, trusted as `trust_remote_code` says."""
    return ZeroShotInterpreter.from_hparams(
        hparams["source"],
        run_opts={"device": device},
        trust_remote_code=hparams["trust_remote_code"],
    )


def load_decoders(
    interpreter: ZeroShotInterpreter,
    sources: Mapping[str, str],
    trust_remote_code: bool = False,
) -> dict[str, Decoder]:
    """Decoders of one CLAP by the names of their rows.

    Parameters
    ----------
    interpreter : ZeroShotInterpreter
        Has the first one.
    sources : mapping of str to str
        Of others, see `further_sources`.
    trust_remote_code : bool
        As in `ZeroShotInterpreter.from_hparams`, of the others.

    Returns
    -------
    dict of str to Decoder

    Raises
    ------
    InputError
        If one is for another CLAP.
    """
    decoders = {MAIN: interpreter.mods["decoder"]}
    for name, source in sources.items():
        other = ZeroShotInterpreter.from_hparams(
            source, trust_remote_code=trust_remote_code
        )
        if fingerprint(other.clap) != fingerprint(interpreter.clap):
            raise InputError(
                f"{name} ({source}) explains another CLAP than source does: give a "
                "decoder of the same one"
            )
        decoders[name] = other.mods["decoder"].to(interpreter.clap.device)
    return decoders
