"""YAMNet, the AudioSet tagger that a small CLAP is distilled from.

It scores 521 AudioSet classes for each 0.96 s of sound. The network runs from its
TFLite file with ai-edge-litert (extra ``distill``); its log-mel input is computed here,
as in TensorFlow's original.

References
----------
Gemmeke et al., "Audio Set: An ontology and human-labeled dataset for audio events",
ICASSP 2017. Plakal and Ellis, "YAMNet", tensorflow/models, research/audioset/yamnet.
"""

from __future__ import annotations

import hashlib
import math
import os
import warnings
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers.audio_utils import mel_filter_bank

from lmaczs.utils.errors import InputError
from lmaczs.utils.extras import require_packages

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter

SAMPLE_RATE = 16_000  # Hz
WIN_LENGTH = 400  # samples, 25 ms
HOP_LENGTH = 160  # samples, 10 ms
N_FFT = 512
N_MELS = 64
MIN_HZ, MAX_HZ = 125.0, 7500.0
LOG_OFFSET = 0.001  # keeps the logarithm finite: silence is ln 0.001 = -6.9
PATCH_FRAMES = 96  # 0.96 s
PATCH_HOP_FRAMES = 48  # 0.48 s
PATCH_SAMPLES = WIN_LENGTH + (PATCH_FRAMES - 1) * HOP_LENGTH
PATCH_HOP_SAMPLES = PATCH_HOP_FRAMES * HOP_LENGTH
EMBEDDING_SIZE = 1024  # of the layer before the scores


@lru_cache(maxsize=1)
def mel_matrix() -> Tensor:
    """Weights from magnitude to mel magnitude, float32 [n_fft // 2 + 1, n_mels].

    The triangles, of peak 1, are straight lines over HTK mel, as in TensorFlow's
    ``linear_to_mel_weight_matrix``, not over Hz as in torchaudio.
    """
    weights = mel_filter_bank(
        num_frequency_bins=N_FFT // 2 + 1,
        num_mel_filters=N_MELS,
        min_frequency=MIN_HZ,
        max_frequency=MAX_HZ,
        sampling_rate=SAMPLE_RATE,
        mel_scale="kaldi",  # 1127 ln(1 + f / 700), which is HTK's
        triangularize_in_mel_space=True,
    )
    return torch.from_numpy(weights).float()


def log_mel(wav: Tensor) -> Tensor:
    """Natural log of (mel magnitude + 0.001), [frames, 64], of at least 400 samples."""
    frames = wav.unfold(0, WIN_LENGTH, HOP_LENGTH) * torch.hann_window(WIN_LENGTH)
    magnitude = torch.fft.rfft(frames, n=N_FFT).abs()
    return torch.log(magnitude @ mel_matrix() + LOG_OFFSET)


def pad_to_patches(wav: Tensor) -> Tensor:
    """Append zeros to ``wav [samples]`` until whole patches cover it to its end."""
    beyond_first = max(0, wav.numel() - PATCH_SAMPLES)
    hops = -(-beyond_first // PATCH_HOP_SAMPLES)
    length = PATCH_SAMPLES + hops * PATCH_HOP_SAMPLES
    return torch.nn.functional.pad(wav, (0, length - wav.numel()))


def log_mel_patches(wav: Tensor) -> Tensor:
    """Log-mel patches [n_patches, 96, 64] of 0.96 s every 0.48 s, one at least."""
    if wav.ndim != 1:
        raise ValueError(
            f"YAMNet takes a mono waveform [samples], not {list(wav.shape)}"
        )
    frames = log_mel(pad_to_patches(wav.float()))
    return frames.unfold(0, PATCH_FRAMES, PATCH_HOP_FRAMES).transpose(1, 2)


def patch_centres(patches: int, seconds: float) -> Tensor:
    """Centres of YAMNet's patches, as fractions of a clip that lasts `seconds`."""
    hop, half = PATCH_HOP_SAMPLES / SAMPLE_RATE, PATCH_SAMPLES / SAMPLE_RATE / 2
    return (hop * torch.arange(patches) + half) / seconds


def read_class_names(class_map: str | Path) -> list[str]:
    """Read the display names of AudioSet's classes, in the order of YAMNet's scores."""
    if not Path(class_map).is_file():
        raise InputError(
            f"class_names: {class_map} does not exist; give AudioSet's class map, a "
            "CSV file with the columns index,mid,display_name."
        )
    try:
        table = pd.read_csv(class_map, keep_default_na=False, dtype={"index": int})
    except ValueError as error:  # empty, not UTF-8, or an index that is no number
        raise InputError(
            f"class_names: {class_map} cannot be read: {error}; give AudioSet's class "
            "map, a CSV file with the columns index,mid,display_name."
        ) from error
    for column in ("index", "display_name"):
        if column not in table:
            raise InputError(f"class_names: {class_map} has no column {column}.")
    return table.sort_values("index").display_name.tolist()


class YAMNet:
    """YAMNet, run patch by patch on the CPU.

    Parameters
    ----------
    model_file : str | Path
        TFLite file that takes log-mel patches, float32 [1, 96, 64]. Its network is
        quantised to 8 bits inside: scores are multiples of 1/256.
    class_map : str | Path
        CSV file of the class names, see `read_class_names`.

    Attributes
    ----------
    class_names : list[str]
        Names of the K classes, in the order of the scores.
    fingerprint : str
        SHA-256 of the model file, part of the key of cached scores.

    Raises
    ------
    MissingExtraError
        If ai-edge-litert is not installed.
    FileNotFoundError
        If one of the two files is missing.
    InputError
        If the two files do not fit each other or the patches.
    """

    def __init__(self, model_file: str | Path, class_map: str | Path) -> None:
        for path in map(Path, (model_file, class_map)):
            if not path.is_file():
                raise FileNotFoundError(f"The tagger's file {path} does not exist.")
        self.class_names = read_class_names(class_map)
        self.fingerprint = hashlib.sha256(Path(model_file).read_bytes()).hexdigest()
        self._model_file = Path(model_file)
        self._process = -1
        self._interpreter: Interpreter | None = None
        _check_signature(self._opened(), len(self.class_names), self._model_file)
        self._embedding = _embedding_layer(self._opened(), self._model_file)

    def forward(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        """Score and embed each patch of a clip.

        Parameters
        ----------
        wav : Tensor [samples]
            Mono waveform at 16 kHz in [-1, 1], padded with zeros to whole patches of
            0.96 s that start every 0.48 s.

        Returns
        -------
        tuple of Tensor
            Independent probabilities of the classes, [n_patches, 521] in [0, 1], and
            the activations of the layer before, [n_patches, 1024], not negative.
        """
        patches = [self._forward_patch(patch) for patch in log_mel_patches(wav).numpy()]
        scores, embeddings = zip(*patches, strict=True)
        return torch.stack(scores), torch.stack(embeddings)

    def _forward_patch(self, patch: np.ndarray) -> tuple[Tensor, Tensor]:
        net = self._opened()
        net.set_tensor(net.get_input_details()[0]["index"], patch[None].copy())
        net.invoke()
        scores = net.get_tensor(net.get_output_details()[0]["index"])[0]
        scale, zero = self._embedding["quantization"]
        found = net.get_tensor(self._embedding["index"]).reshape(-1)
        embedding = (found.astype(np.float32) - zero) * (scale or 1.0)
        return torch.from_numpy(scores), torch.from_numpy(embedding)

    def _opened(self) -> Interpreter:
        """Interpreter of this process: a worker cannot use its parent's."""
        if self._interpreter is None or self._process != os.getpid():
            self._interpreter = _open_interpreter(self._model_file)
            self._process = os.getpid()
        return self._interpreter

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_interpreter": None}


def open_tagger(
    model_file: str | Path | None, class_map: str | Path | None
) -> YAMNet | None:
    """The tagger of a recipe's options; None without them, InputError for one alone."""
    if model_file is None and class_map is None:
        return None
    if model_file is None or class_map is None:
        raise InputError("give both --tagger_model and --tagger_class_map, or neither")
    return YAMNet(model_file, class_map)


def _embedding_layer(interpreter: Interpreter, model_file: Path) -> dict[str, Any]:
    """The tensor from which the last layer computes the scores."""
    found = [
        details
        for details in interpreter.get_tensor_details()
        if math.prod(details["shape"]) == EMBEDDING_SIZE == details["shape"][-1]
    ]
    if not found:
        raise InputError(
            f"{model_file} has no layer of {EMBEDDING_SIZE} values: use YAMNet's file."
        )
    return found[-1]


def _open_interpreter(model_file: Path) -> Interpreter:
    require_packages(["ai_edge_litert.interpreter"], "distill")
    from ai_edge_litert.interpreter import Interpreter

    try:
        with warnings.catch_warnings():  # that keeping every layer takes memory: 4 MB
            warnings.simplefilter("ignore")
            interpreter = Interpreter(
                str(model_file), num_threads=1, experimental_preserve_all_tensors=True
            )
    except ValueError as error:
        raise InputError(f"{model_file} is no TFLite model: {error}") from error
    interpreter.allocate_tensors()
    return interpreter


def _check_signature(
    interpreter: Interpreter, n_classes: int, model_file: Path
) -> None:
    """Refuse a model that does not map float patches to float scores."""
    expected = [(1, PATCH_FRAMES, N_MELS), (1, n_classes)]
    details = [interpreter.get_input_details()[0], interpreter.get_output_details()[0]]
    found = [tuple(detail["shape"].tolist()) for detail in details]
    floats = all(detail["dtype"] is np.float32 for detail in details)
    if found != expected or not floats:
        raise InputError(
            f"{model_file} maps {found[0]} to {found[1]}, where float32 {expected[0]} "
            f"to {expected[1]} is needed: use YAMNet's file and its own class map."
        )
