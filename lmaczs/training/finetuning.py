"""The pretrained decoder that a fine-tuning starts from, and what it gained."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lmaczs.clap import FrozenClap
from lmaczs.decoder import Decoder
from lmaczs.frontend import Domain
from lmaczs.hub import resolve
from lmaczs.interpreter import ZeroShotInterpreter
from lmaczs.metrics.faithfulness import MEANINGS, METRICS
from lmaczs.metrics.metric import legend
from lmaczs.utils.digests import fingerprint
from lmaczs.utils.errors import InputError


@dataclass(frozen=True)
class PretrainedDecoder:
    """A trainable pretrained decoder, and what an export of it needs.

    `clap_source` is the CLAP's folder, absolute, or its Hub id; `template` that of the
    labels in its training.
    """

    clap: FrozenClap
    decoder: Decoder
    clap_source: str
    domain: Domain
    width: int
    template: str


def start_from(
    decoder: Decoder,
    clap: FrozenClap,
    source: str | Path | None = None,
    trust_remote_code: bool = False,
) -> Decoder:
    """Give a new decoder the weights of a trained one, if there is a source.

    Parameters
    ----------
    decoder : Decoder
        New, for `clap`; changed in place.
    clap : FrozenClap
        The model that it is to explain.
    source : str or Path, optional
        A folder that ``lmaczs export`` wrote, or a Hub id.
    trust_remote_code : bool
        As in `ZeroShotInterpreter.from_hparams`.

    Returns
    -------
    Decoder
        The same `decoder`.

    Raises
    ------
    InputError
        If the trained decoder explains another CLAP or is of another kind.
    """
    if source is None:
        return decoder
    start = load_pretrained_decoder(source, trust_remote_code)
    if fingerprint(start.clap) != fingerprint(clap):
        raise InputError(
            f"--decoder_source={source} explains another CLAP than clap_source is: "
            "give a decoder of the same one"
        )
    found, wanted = (_kind(one) for one in (start.decoder, decoder))
    if found != wanted:
        raise InputError(
            f"--decoder_source={source} is a {found}, but the YAML makes a {wanted}: "
            "give its values of decoder, domain and width"
        )
    decoder.load_state_dict(start.decoder.state_dict())
    return decoder


def _kind(decoder: Decoder) -> str:
    """Class, domain and size of a decoder, in words."""
    size = sum(weight.numel() for weight in decoder.parameters())
    return f"{type(decoder).__name__} in the {decoder.domain} domain of {size} weights"


def load_pretrained_decoder(
    source: str | Path | None = None, trust_remote_code: bool = False
) -> PretrainedDecoder:
    """Load a pretrained decoder and its CLAP.

    Parameters
    ----------
    source : str or Path, optional
        A folder that ``lmaczs export`` wrote, or a Hub id; default: the embedded model.
    trust_remote_code : bool
        As in `ZeroShotInterpreter.from_hparams`.

    Returns
    -------
    PretrainedDecoder

    Raises
    ------
    InputError
        If the folder was not written by ``lmaczs export``.
    """
    interpreter = ZeroShotInterpreter.from_hparams(
        source, run_opts={"device": "cpu"}, trust_remote_code=trust_remote_code
    )
    hparams = vars(interpreter.hparams)
    needed = ("clap_source", "domain", "width", "template")
    missing = [name for name in needed if name not in hparams]
    if missing:
        raise InputError(
            f"--source={source}: its hyperparams.yaml has no {missing[0]}: give a "
            "folder that `lmaczs export` wrote"
        )
    return PretrainedDecoder(
        clap=interpreter.mods["clap"],
        # SpeechBrain froze it for inference
        decoder=interpreter.mods["decoder"].requires_grad_(True),
        clap_source=resolve(hparams["clap_source"], hparams["source_folder"]),
        **{name: hparams[name] for name in needed[1:]},
    )


def comparison(
    before: Mapping[str, float], after: Mapping[str, float], clips: int
) -> str:
    """Metrics of a number of test clips before and after a training, with a legend."""
    columns = (*METRICS, "MM_absent", "loss")
    names = [name for name in columns if name in before and name in after]
    header = " " * 6 + "".join(f"{name:>10}" for name in names)
    lines = [
        f"{title:<6}" + "".join(f"{values[name]:>10.3f}" for name in names)
        for title, values in (("before", before), ("after", after))
    ]
    title = f"Means over the {clips} clips of the split test:"
    notes = textwrap.wrap(legend(MEANINGS, names), len(header))
    return "\n".join([title, header, *lines, *notes])
