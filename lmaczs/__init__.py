"""Listenable maps for zero-shot audio classifiers (LMAC-ZS, arXiv 2405.17615).

>>> from lmaczs import ZeroShotInterpreter
>>> interpreter = ZeroShotInterpreter.from_hparams()
>>> one = interpreter.interpret_file("out/scenes/dog_by_the_fire.wav", "dog")
>>> one.similarity > 0.5
True

The method, in the order of the paper: `frontend` (waveform to log-mel, InputTf),
`clap` (the frozen model, read by `clap_checkpoint`), `decoder` and `paper_decoder` (the
mask M(t, h)), `objectives` (its training losses), `explanation` (mask to sound),
`interpreter` (SpeechBrain's interface); `prompts` and `hub` resolve what they name.
Around it: `audio`, `data`, `metrics`, `training`, `evaluation`, `report`, `demo`,
`cli`, `utils`, and `distillation`, which made the embedded CLAP.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from lmaczs.utils.imports import collector_paused

if TYPE_CHECKING:
    from lmaczs.explanation import Interpretation
    from lmaczs.hub import default_source
    from lmaczs.interpreter import ZeroShotInterpreter
    from lmaczs.utils.errors import AudioError, AudioWarning

__all__ = [
    "AudioError",
    "AudioWarning",
    "Interpretation",
    "ZeroShotInterpreter",
    "default_source",
]
__version__ = "0.1.0"

# Resolved on first use: torch and transformers take seconds to import, and
# `lmaczs --help` needs neither.
_LAZY = {
    "AudioError": "lmaczs.utils.errors",
    "AudioWarning": "lmaczs.utils.errors",
    "Interpretation": "lmaczs.explanation",
    "ZeroShotInterpreter": "lmaczs.interpreter",
    "default_source": "lmaczs.hub",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with collector_paused():
        value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
