"""Time of an explanation's picture and of what the page loads, and their sizes.

    python benchmarks/pictures.py

The recording is five seconds of noise at 32 kHz, which nothing compresses, and its mask
is smooth. A picture should take at most 0.1 s.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from lmaczs.audio.io import save_audio
from lmaczs.report.figures import explanation_figure, save_figure
from lmaczs.report.page_data import write_page_data
from lmaczs.report.picture import save_png

RATE, SECONDS, N_FFT, HOP = 32000, 5, 1024, 320
REPEATS, THREADS = 15, 1


def milliseconds(work: Callable[[], Path]) -> tuple[float, float]:
    """Median time of a call, after a first one, and that of its processor time."""
    work()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter(), time.process_time()
        work()
        ends = time.perf_counter(), time.process_time()
        times.append([end - begin for begin, end in zip(start, ends, strict=True)])
    wall, processor = map(statistics.median, zip(*times, strict=True))
    return 1000 * wall, 1000 * processor


def main() -> None:
    """Draw and write each of them several times."""
    torch.set_num_threads(THREADS)
    generator = torch.Generator().manual_seed(0)
    wav = 0.2 * torch.randn(RATE * SECONDS, generator=generator)
    window = torch.hann_window(N_FFT)
    stft = torch.stft(wav, N_FFT, HOP, window=window, return_complex=True)
    rough = torch.rand(1, 1, 9, 15, generator=generator)
    mask = torch.nn.functional.interpolate(rough, stft.shape, mode="bilinear")[0, 0]
    kept = torch.istft(mask * stft, N_FFT, HOP, window=window, length=len(wav))
    title = "“noise”\nkept, ahead of all reference prompts\nsimilarity: input 0.5"
    shown = stft, mask, RATE, float(SECONDS), title
    with tempfile.TemporaryDirectory() as folder:
        png = Path(folder, "a.png")
        sounds = {"input": wav, "noise/explanation": kept, "noise/residual": wav - kept}
        for name, sound in sounds.items():
            save_audio(Path(folder, f"{name}.wav"), sound, RATE)
        work: dict[str, Callable[[], Path]] = {
            "picture": lambda: save_png(png, *shown),
            "figure": lambda: save_figure(explanation_figure(*shown), png),
            "page data": lambda: write_page_data(folder, stft, {"noise": mask}),
        }
        for name, one in work.items():
            wall, processor = milliseconds(one)
            size = one().stat().st_size / 1000
            print(f"{name:10} {wall:5.0f} ms ({processor:.0f} ms CPU) {size:7.0f} kB")


if __name__ == "__main__":
    main()
