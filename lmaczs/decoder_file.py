"""From a decoder's folder to its CLAP and its decoder, without running what it names.

Only the classes in `lmaczs.model_file` are built, and a decoder is allocated after its
weights have been seen to be of its size.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from speechbrain.utils.parameter_transfer import Pretrainer
from torch import nn

from lmaczs.clap import FrozenClap
from lmaczs.decoder import Decoder, MaskDecoder, load_decoder
from lmaczs.frontend import DOMAINS
from lmaczs.model_file import WEIGHTS, read_model_file
from lmaczs.paper_decoder import PaperDecoder
from lmaczs.prompts import require_template
from lmaczs.utils.ending import sentence_of
from lmaczs.utils.errors import InputError
from lmaczs.utils.plain_files import require_plain
from lmaczs.utils.weights import faults, is_pickle, shapes_in, some

KINDS: dict[str, type[Decoder]] = {
    "lmaczs.decoder.MaskDecoder": MaskDecoder,
    "lmaczs.paper_decoder.PaperDecoder": PaperDecoder,
}


def load_folder(
    folder: str | Path,
    overrides: Mapping[str, Any] | None = None,
    trust_remote_code: bool = False,
) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """Load the model in a folder, whoever made it.

    Parameters
    ----------
    folder : str or Path
        Written by ``lmaczs export``, or as if.
    overrides : mapping, optional
        Plain values that replace those of the folder.
    trust_remote_code : bool
        Whether weights may be pickles.

    Returns
    -------
    tuple
        The modules `clap` and `decoder`; and the folder's plain values.

    Raises
    ------
    FileNotFoundError
        If the folder names no model, or its CLAP or its weights are missing.
    InputError
        If it names anything that exports do not (`ForeignCodeError`), is damaged or
        cannot be used.
    ClapError
        If its CLAP cannot.
    """
    folder = Path(folder).resolve()
    file = read_model_file(folder, overrides)
    require_template(file.values["template"])
    path = _weights(folder)
    clap = FrozenClap.from_pretrained(
        file.values["clap_source"], folder, trust_remote_code=trust_remote_code
    )
    kind = KINDS[file.decoder]
    decoder = build_decoder(kind, clap, file.arguments, path, trust_remote_code)
    return {"clap": clap, "decoder": decoder}, {
        **file.values,
        "source_folder": str(folder),
    }


def _weights(folder: Path) -> Path:
    for name in WEIGHTS:
        if (folder / name).exists():
            return require_plain(folder, name)
    raise FileNotFoundError(
        f"{folder} holds no decoder ({WEIGHTS[0]} is missing; the {WEIGHTS[1]} of an "
        "older export is fetched and read with --trust-remote-code alone)"
    )


def build_decoder(
    kind: type[Decoder],
    clap: FrozenClap,
    arguments: Mapping[str, Any],
    path: Path,
    trust_remote_code: bool = False,
) -> Decoder:
    """Build a decoder and load its weights, which say how large it may be.

    Parameters
    ----------
    kind : type
        `MaskDecoder`, or another class that takes a CLAP.
    clap : FrozenClap
        The model that it explains.
    arguments : mapping
        Further arguments of `kind`.
    path : Path
        A safetensors file; or, if the user trusts it, a pickle.
    trust_remote_code : bool
        Whether the user trusts it.

    Returns
    -------
    Decoder

    Raises
    ------
    InputError
        As `load_decoder`; and if an argument cannot be used, or the file is a pickle
        that is not trusted.
    """
    if arguments.get("domain", DOMAINS[0]) not in DOMAINS:
        raise InputError(
            f"{path.parent}: domain is {arguments['domain']!r}, not one of "
            f"{', '.join(DOMAINS)}"
        )
    if is_pickle(path):
        if not trust_remote_code:
            raise InputError(
                f"{path} is a pickle, which can run code: if you trust who made it, "
                "add --trust-remote-code (trust_remote_code=True in Python), or export "
                "the run again, which writes decoder.safetensors"
            )
    else:
        try:
            with torch.device("meta"):  # shapes alone: nothing is allocated
                wanted = kind(clap, **arguments).state_dict()
        except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
            raise InputError(
                f"{path.parent}: no {kind.__name__} can be made of its arguments "
                f"({sentence_of(error)})"
            ) from error
        found = shapes_in([path])
        extra = [key for key in found if key not in wanted]
        fault = faults(wanted, found) or (extra and f"unknown {some(extra)}")
        if fault:
            raise InputError(
                f"{path} holds weights of another decoder (was it trained for another "
                f"CLAP, or with another width?): {fault}"
            )
    decoder = kind(clap, **arguments)
    load_decoder(decoder, path)
    return decoder


class DecoderPretrainer(Pretrainer):
    """SpeechBrain's pretrainer, for weights in safetensors files, not in pickles."""

    def collect_files(self, default_source: Any = None, **options: Any) -> Any:
        """As SpeechBrain's; each file is ``NAME.safetensors`` in `default_source`."""
        for name in self.loadables:
            self.paths.setdefault(name, f"{default_source}/{name}.safetensors")
        return super().collect_files(default_source, **options)
