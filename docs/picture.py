"""README's picture: a rooster and sea waves at once, and the explanation of each.

    python docs/picture.py ESC50 docs/explanation.png

Both clips are CC0: freesound.org 170078 (dudermensch) and 182613 (Carlvus).
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from lmaczs import Interpretation, ZeroShotInterpreter
from lmaczs.audio.io import load_audio
from lmaczs.audio.mixing import mix_at_snr
from lmaczs.report.figures import decibel, draw_bands, save_figure, to_bands

CLIPS = {"rooster": "4-170078-A-1.wav", "sea waves": "4-182613-B-11.wav"}
SNR_DB = 4.4  # of the rooster


def draw(spectrum: Tensor, explained: list[Interpretation]) -> Figure:
    """The recording, and what is left of it under each mask, on one colour scale."""
    rate = explained[0].sample_rate
    seconds = len(explained[0].waveform) / rate
    power = to_bands(spectrum.abs().square(), rate)
    panels = {"The recording": power}
    for one in explained:
        title = (
            f"“{one.prompt}”\nsimilarity {one.similarity:.2f}, of what is kept "
            f"{one.masked_similarity:.2f}, of the rest {one.residual_similarity:.2f}"
        )
        panels[title] = to_bands(one.masked_stft.abs().square(), rate)
    figure = Figure(figsize=(13, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), sharey=True)
    for ax, (title, values) in zip(axes, panels.items(), strict=True):
        dB = decibel(values, power.max())
        image = draw_bands(ax, dB, seconds, rate, is_mask=False)
        ax.set_title(title, fontsize="medium")
        ax.set_xlabel("Time (s)")
        ax.label_outer()
    figure.colorbar(image, ax=axes, label="dB re the recording's peak", pad=0.01)
    return figure


def main(esc50: str, path: str) -> None:
    """Mix, explain, draw and write."""
    interpreter = ZeroShotInterpreter.from_hparams(run_opts={"device": "cpu"})
    rate = interpreter.sample_rate
    sounds = [load_audio(Path(esc50, "audio", name), rate) for name in CLIPS.values()]
    wav = mix_at_snr(*sounds, SNR_DB).sum(0)
    explained = interpreter.interpret_waveform(wav, rate, list(CLIPS))
    save_figure(draw(interpreter.clap.front_end.stft(wav), explained), path)


if __name__ == "__main__":
    main(*sys.argv[1:])
