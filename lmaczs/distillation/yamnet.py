"""An AudioSet tagger (YAMNet) as the teacher that a small CLAP is distilled from.

YAMNet scores 521 AudioSet classes for each 0.96 s of sound. It is run from its
TFLite file with ai-edge-litert (extra ``distill``); the log-mel spectrogram that
it expects is computed here, as TensorFlow's original does.

References
----------
Gemmeke et al., "Audio Set: An ontology and human-labeled dataset for audio
events", ICASSP 2017. Plakal and Ellis, "YAMNet", tensorflow/models,
research/audioset/yamnet.
"""

from __future__ import annotations

import csv
import hashlib
import math
import warnings
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lmaczs.audio.scales import hz_to_mel

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
EMBEDDING_SIZE = 1024  # of what the last layer makes the scores of


@lru_cache(maxsize=1)
def mel_matrix() -> Tensor:
    """Compute the matrix from linear magnitude to mel magnitude.

    The triangles are straight lines over mel, as in TensorFlow's
    ``linear_to_mel_weight_matrix``, not over Hz as in torchaudio, and their peak is 1.

    Returns
    -------
    Tensor
        Weights, float32 [n_fft // 2 + 1, n_mels] in [0, 1].
    """
    bins = hz_to_mel(torch.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1).double())
    low, high = hz_to_mel(torch.tensor([MIN_HZ, MAX_HZ], dtype=torch.float64)).tolist()
    edges = torch.linspace(low, high, N_MELS + 2, dtype=torch.float64)
    width = edges[1] - edges[0]
    rising = (bins[:, None] - edges[:-2]) / width
    falling = (edges[2:] - bins[:, None]) / width
    return torch.minimum(rising, falling).clamp(min=0).float()


def log_mel(wav: Tensor) -> Tensor:
    """Compute YAMNet's log-mel spectrogram.

    Parameters
    ----------
    wav : Tensor
        Mono waveform at 16 kHz, float32 [samples], at least 400 samples long.

    Returns
    -------
    Tensor
        Natural log of (mel magnitude + 0.001), float32 [frames, 64].
    """
    frames = wav.unfold(0, WIN_LENGTH, HOP_LENGTH) * torch.hann_window(WIN_LENGTH)
    magnitude = torch.fft.rfft(frames, n=N_FFT).abs()
    return torch.log(magnitude @ mel_matrix() + LOG_OFFSET)


def pad_to_patches(wav: Tensor) -> Tensor:
    """Append zeros until whole patches cover the clip to its last sample.

    Parameters
    ----------
    wav : Tensor
        Mono waveform at 16 kHz, float32 [samples].

    Returns
    -------
    Tensor
        The waveform, PATCH_SAMPLES plus a multiple of PATCH_HOP_SAMPLES long.
    """
    beyond_first = max(0, wav.numel() - PATCH_SAMPLES)
    hops = -(-beyond_first // PATCH_HOP_SAMPLES)
    length = PATCH_SAMPLES + hops * PATCH_HOP_SAMPLES
    return torch.nn.functional.pad(wav, (0, length - wav.numel()))


def log_mel_patches(wav: Tensor) -> Tensor:
    """Cut a clip's log-mel spectrogram into overlapping patches.

    Parameters
    ----------
    wav : Tensor
        Mono waveform at 16 kHz in [-1, 1], float32 [samples], of any length.

    Returns
    -------
    Tensor
        Patches of 0.96 s every 0.48 s, float32 [n_patches, 96, 64], at least one.

    Raises
    ------
    ValueError
        If `wav` is not one channel of samples.
    """
    if wav.ndim != 1:
        raise ValueError(
            f"The tagger takes one mono waveform [samples], not {list(wav.shape)}."
        )
    frames = log_mel(pad_to_patches(wav.float()))
    return frames.unfold(0, PATCH_FRAMES, PATCH_HOP_FRAMES).transpose(1, 2)


def read_class_names(class_map: str | Path) -> list[str]:
    """Read the names of AudioSet's classes, in the order of the tagger's outputs.

    Parameters
    ----------
    class_map : str | Path
        CSV file with the columns ``index``, ``mid`` and ``display_name``.

    Returns
    -------
    list[str]
        Display names, such as "Church bell".

    Raises
    ------
    ValueError
        If the file is missing or lacks a column.
    """
    if not Path(class_map).is_file():
        raise ValueError(
            f"class_names: {class_map} does not exist; give AudioSet's class map, a "
            "CSV file with the columns index,mid,display_name."
        )
    with Path(class_map).open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        for column in ("index", "display_name"):
            if column not in (reader.fieldnames or ()):
                raise ValueError(f"class_names: {class_map} has no column {column}.")
        rows = sorted(reader, key=lambda row: int(row["index"]))
    return [row["display_name"] for row in rows]


class AudioSetTagger:
    """YAMNet, run patch by patch on the CPU.

    Parameters
    ----------
    model_file : str | Path
        TFLite file of YAMNet that takes log-mel patches, float32 [1, 96, 64].
        Its network is quantised to 8 bits inside: scores are multiples of 1/256.
    class_map : str | Path
        CSV file of the class names, see `read_class_names`.
    num_threads : int
        Threads of the TFLite interpreter.

    Attributes
    ----------
    class_names : list[str]
        Names of the classes, in the order of the scores.
    fingerprint : str
        SHA-256 of the model file, which marks the scores that it made.

    Raises
    ------
    ImportError
        If ai-edge-litert is not installed.
    FileNotFoundError
        If one of the two files is missing.
    ValueError
        If the two files do not fit each other or the patches.
    """

    def __init__(
        self, model_file: str | Path, class_map: str | Path, num_threads: int = 1
    ) -> None:
        for path in map(Path, (model_file, class_map)):
            if not path.is_file():
                raise FileNotFoundError(f"The tagger's file {path} does not exist.")
        self.class_names = read_class_names(class_map)
        self.fingerprint = hashlib.sha256(Path(model_file).read_bytes()).hexdigest()
        self._interpreter = _open_interpreter(Path(model_file), num_threads)
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]
        _check_signature(self._interpreter, len(self.class_names), Path(model_file))
        self._embedding = _embedding_layer(self._interpreter, Path(model_file))

    def scores(self, wav: Tensor) -> Tensor:
        """Score every class in every patch of a clip.

        Parameters
        ----------
        wav : Tensor
            Mono waveform at 16 kHz in [-1, 1], float32 [samples]. What is missing to
            whole patches is zeros.

        Returns
        -------
        Tensor
            Independent probabilities, float32 [n_patches, 521] in [0, 1], of patches
            of 0.96 s that start every 0.48 s.
        """
        return self.hear(wav)[0]

    def hear(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        """Score a clip, and embed it.

        Parameters
        ----------
        wav : Tensor
            As for `scores`.

        Returns
        -------
        tuple of Tensor
            Scores [n_patches, 521], and what the last layer makes them of: float32
            [n_patches, 1024], not negative, which tells more than AudioSet's classes.
        """
        heard = [self._hear_patch(patch) for patch in log_mel_patches(wav).numpy()]
        scores, embeddings = zip(*heard, strict=True)
        return torch.stack(scores), torch.stack(embeddings)

    def _hear_patch(self, patch: np.ndarray) -> tuple[Tensor, Tensor]:
        self._interpreter.set_tensor(self._input, np.ascontiguousarray(patch[None]))
        self._interpreter.invoke()
        scores = self._interpreter.get_tensor(self._output)[0]
        scale, zero = self._embedding["quantization"]
        found = self._interpreter.get_tensor(self._embedding["index"]).reshape(-1)
        embedding = (found.astype(np.float32) - zero) * (scale or 1.0)
        return torch.from_numpy(scores), torch.from_numpy(embedding)


def _embedding_layer(interpreter: Interpreter, model_file: Path) -> dict[str, Any]:
    """The tensor that the last layer makes the scores of."""
    found = [
        details
        for details in interpreter.get_tensor_details()
        if math.prod(details["shape"]) == EMBEDDING_SIZE == details["shape"][-1]
    ]
    if not found:
        raise ValueError(
            f"{model_file} has no layer of {EMBEDDING_SIZE} values: use YAMNet's file."
        )
    return found[-1]


def _open_interpreter(model_file: Path, num_threads: int) -> Interpreter:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ImportError(
            "The audio tagger needs ai-edge-litert: pip install 'lmaczs[distill]'."
        ) from error
    try:
        with warnings.catch_warnings():  # that to keep a layer takes memory: 4 MB
            warnings.simplefilter("ignore")
            interpreter = Interpreter(
                str(model_file),
                num_threads=num_threads,
                experimental_preserve_all_tensors=True,
            )
    except ValueError as error:
        raise ValueError(f"{model_file} is no TFLite model: {error}") from error
    interpreter.allocate_tensors()
    return interpreter


def _check_signature(
    interpreter: Interpreter, n_classes: int, model_file: Path
) -> None:
    """Refuse a model whose tensors are not float patches in and float scores out."""
    expected = [(1, PATCH_FRAMES, N_MELS), (1, n_classes)]
    details = [
        interpreter.get_input_details()[0],
        interpreter.get_output_details()[0],
    ]
    found = [tuple(detail["shape"].tolist()) for detail in details]
    floats = all(detail["dtype"] is np.float32 for detail in details)
    if found != expected or not floats:
        raise ValueError(
            f"{model_file} maps {found[0]} to {found[1]}, where float32 {expected[0]} "
            f"to {expected[1]} is needed: use YAMNet's file and its own class map."
        )
