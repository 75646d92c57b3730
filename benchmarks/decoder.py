"""Cost of a mask at full size: the decoder beside the audio encoder, and the memory.

    python benchmarks/decoder.py

The CLAP is `ClapConfig()`, as large as LAION's, with random weights: time and memory
do not depend on them. The decoder should cost at most a quarter of the encoder.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable

import torch
from common.models import full_size_clap
from torch import Tensor

from lmaczs.clap import FrozenClap
from lmaczs.decoder import MaskDecoder

REPEATS, THREADS = 9, 1


def main() -> None:
    """Time both towers for one clip and prompt, then run one step both ways."""
    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    clap = full_size_clap()
    decoder = MaskDecoder(clap)
    wav = 0.1 * torch.randn(1, clap.front_end.max_samples)
    text = torch.nn.functional.normalize(torch.randn(1, 1, clap.embedding_dim), dim=-1)
    print(
        f"CLAP {count(clap)} M parameters, decoder {count(decoder)} M; {THREADS} thread"
    )
    print_times(clap, decoder, wav, text)
    print_memory(clap, decoder, wav, text)


def print_times(
    clap: FrozenClap, decoder: MaskDecoder, wav: Tensor, text: Tensor
) -> None:
    """Time every part of a forward pass for one clip and one prompt.

    Parameters
    ----------
    clap : FrozenClap
        Encoder.
    decoder : MaskDecoder
        Its decoder.
    wav : Tensor [1, samples]
        Clip.
    text : Tensor [1, 1, D]
        Embedding of a prompt.
    """
    with torch.no_grad():
        log_mel = clap.front_end.log_mel(wav)
        features = clap.audio_features(log_mel).features
        times = alternating_medians(
            {
                "front end": lambda: clap.front_end.log_mel(wav),
                "encoder": lambda: clap.audio_features(log_mel),
                "decoder": lambda: decoder(text, features, log_mel),
            }
        )
    print(f"forward, one clip, one prompt, median of {REPEATS}:")
    for name, seconds in times.items():
        share = seconds / times["encoder"]
        print(f"  {name:10}{1e3 * seconds:8.1f} ms  {share:.2f} of the encoder")


def alternating_medians(parts: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Time functions in turn, so that what else the machine does hits all alike.

    Parameters
    ----------
    parts : dict of str to callable
        What is timed.

    Returns
    -------
    dict of str to float
        Medians, seconds.
    """
    times = {name: [] for name in parts}
    for _ in range(REPEATS + 1):
        for name, function in parts.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(each[1:]) for name, each in times.items()}


def print_memory(
    clap: FrozenClap, decoder: MaskDecoder, wav: Tensor, text: Tensor
) -> None:
    """Take one training step's forward and backward; state its time and memory.

    Parameters
    ----------
    clap : FrozenClap
        Encoder.
    decoder : MaskDecoder
        Its decoder.
    wav : Tensor [1, samples]
        Clip.
    text : Tensor [1, 1, D]
        Embedding of a prompt.
    """
    before = peak_megabytes()
    start = time.perf_counter()
    wav = wav.clone().requires_grad_()
    log_mel = clap.front_end.log_mel(wav)
    features = clap.audio_features(log_mel).features
    mask = decoder(text, features, log_mel)[:, 0]
    spectrum = clap.front_end.stft(wav)
    masked = clap.audio_embedding(clap.front_end.input_tf(spectrum, mask))
    (masked * text[:, 0]).sum().backward()
    seconds = time.perf_counter() - start
    after = peak_megabytes()
    print(f"both ways, through both encodings to the waveform: {seconds:.2f} s")
    print(f"peak memory {before:.0f} MB before, {after:.0f} MB after")


def count(module: torch.nn.Module) -> str:
    """Count parameters.

    Parameters
    ----------
    module : Module
        Any.

    Returns
    -------
    str
        Millions, one decimal.
    """
    return f"{sum(p.numel() for p in module.parameters()) / 1e6:.1f}"


def peak_megabytes() -> float:
    """Most memory that this process has had so far.

    Returns
    -------
    float
        Megabytes; ``ru_maxrss`` is in kB on Linux, in bytes on macOS.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    main()
