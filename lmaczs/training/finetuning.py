"""Where fine-tuning starts: a decoder that is trained, and the CLAP it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lmaczs.clap import FrozenClap
from lmaczs.decoder import MaskDecoder
from lmaczs.frontend import Domain
from lmaczs.hub import resolve
from lmaczs.interpreter import ZeroShotInterpreter
from lmaczs.utils.errors import InputError

COMPARED = ("accuracy", "AI", "AD", "AG", "FF", "Fid-In", "MM", "MM_absent", "loss")


@dataclass(frozen=True)
class StartingPoint:
    """A pretrained decoder, ready to be trained on.

    Attributes
    ----------
    clap : FrozenClap
        The model that it explains.
    decoder : MaskDecoder
        With its weights, which can be trained.
    clap_source : str
        Folder of the CLAP, absolute, or a Hub id.
    domain : {"mel", "stft", "waveform"}
        Of the masks.
    width : int
        Of the decoder.
    template : str
        That labels were put into.
    """

    clap: FrozenClap
    decoder: MaskDecoder
    clap_source: str
    domain: Domain
    width: int
    template: str


def load_starting_point(source: str | Path | None = None) -> StartingPoint:
    """Load a pretrained decoder and its CLAP.

    Parameters
    ----------
    source : str or Path, optional
        A folder that ``lmaczs export`` wrote, or a Hub id; the embedded default
        without it.

    Returns
    -------
    StartingPoint

    Raises
    ------
    InputError
        If the folder was not written by ``lmaczs export``.
    """
    interpreter = ZeroShotInterpreter.from_hparams(source, run_opts={"device": "cpu"})
    hparams = vars(interpreter.hparams)
    asked = ("clap_source", "domain", "width", "template")
    missing = [name for name in asked if name not in hparams]
    if missing:
        raise InputError(
            f"--source={source}: its hyperparams.yaml has no {missing[0]}: give a "
            "folder that `lmaczs export` wrote"
        )
    return StartingPoint(
        clap=interpreter.mods["clap"],
        # SpeechBrain froze it for inference
        decoder=interpreter.mods["decoder"].requires_grad_(True),
        clap_source=resolve(hparams["clap_source"], hparams["source_folder"]),
        **{name: hparams[name] for name in asked[1:]},
    )


def comparison(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Metrics before and after a training, as a table of two lines below its header.

    Parameters
    ----------
    before : mapping
        From names to values.
    after : mapping
        Likewise.

    Returns
    -------
    str
        Without a line break at its end.
    """
    names = [name for name in COMPARED if name in before and name in after]
    header = " " * 6 + "".join(f"{name:>10}" for name in names)
    lines = [
        f"{title:<6}" + "".join(f"{values[name]:>10.3f}" for name in names)
        for title, values in (("before", before), ("after", after))
    ]
    return "\n".join([header, *lines])
