"""Time of the front end per clip, beside Hugging Face's extractor, on two cores.

    python benchmarks/frontend.py

Both read the same clips in float32 and return the same features (to 1e-3 dB, which is
asserted here too). HF's extractor takes clip after clip and uses one core.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from transformers import ClapFeatureExtractor

from lmaczs.frontend import FrontEnd

BATCH, TURNS, CALLS, THREADS = 16, 3, 5, 2
GEOMETRIES = {
    "LAION: 10 s at 48 kHz, hop 480": {},
    "embedded: 5 s at 32 kHz, hop 640": {
        "sampling_rate": 32000,
        "fft_window_size": 2048,
        "hop_length": 640,
        "max_length_s": 5,
    },
}


def main() -> None:
    """Measure both geometries, for clips that fill the encoder and for shorter ones."""
    torch.set_num_threads(THREADS)
    calls = TURNS * CALLS
    print(f"{BATCH} clips at once, {THREADS} threads, median of {calls}, ms per clip")
    print(f"{'geometry':34}{'clip':>6}{'HF':>8}{'ours':>8}{'ratio':>8}")
    for name, numbers in GEOMETRIES.items():
        fe = ClapFeatureExtractor(
            frequency_min=50, truncation="rand_trunc", padding="repeatpad", **numbers
        )
        for seconds in (fe.max_length_s, fe.max_length_s / 2):
            hf, ours = measure(fe, seconds)
            print(f"{name:34}{seconds:4.1f} s{hf:8.2f}{ours:8.2f}{hf / ours:8.1f}")


def measure(fe: ClapFeatureExtractor, seconds: float) -> tuple[float, float]:
    """Time both on the same noise.

    Parameters
    ----------
    fe : ClapFeatureExtractor
        HF's extractor.
    seconds : float
        Length of the clips.

    Returns
    -------
    tuple of float
        HF's and our milliseconds per clip.

    Raises
    ------
    SystemExit
        If the two differ by more than 1e-3 dB.
    """
    front_end = FrontEnd(fe)
    samples = int(seconds * fe.sampling_rate)
    rng = np.random.default_rng(0)
    clips = rng.normal(0, 0.1, (BATCH, samples)).astype(np.float32)

    def hf() -> torch.Tensor:
        features = fe(list(clips), sampling_rate=fe.sampling_rate, return_tensors="np")[
            "input_features"
        ]
        return torch.from_numpy(np.asarray(features))

    @torch.no_grad()
    def ours() -> torch.Tensor:
        return front_end.log_mel(torch.from_numpy(clips))

    worst = float((hf() - ours()).abs().max())
    if worst > 1e-3:
        raise SystemExit(f"the two differ by {worst} dB: no comparison")
    return milliseconds_per_clip(hf, ours)


def milliseconds_per_clip(*functions: Callable[[], torch.Tensor]) -> tuple[float, ...]:
    """Time functions in turn, several calls of each at a time.

    The first call of a turn does not count: numpy's threads, which HF uses, keep
    spinning for some 30 ms after their last product and slow the next function.

    Parameters
    ----------
    *functions : callable
        Each handles one batch.

    Returns
    -------
    tuple of float
        Median over `TURNS` turns of `CALLS` calls, divided by the clips in a batch.
    """
    times = [[] for _ in functions]
    for _ in range(TURNS):
        for function, taken in zip(functions, times, strict=True):
            function()
            for _ in range(CALLS):
                start = time.perf_counter()
                function()
                taken.append(time.perf_counter() - start)
    return tuple(1e3 * statistics.median(taken) / BATCH for taken in times)


if __name__ == "__main__":
    main()
