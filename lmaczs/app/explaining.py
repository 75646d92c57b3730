"""From a recording and prompts to the page of their explanations, as one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from lmaczs.app.uploads import with_warnings
from lmaczs.audio.io import Recording
from lmaczs.interpreter import Refine, ZeroShotInterpreter
from lmaczs.report.html import write_page
from lmaczs.report.recording import page_entries, save_recording


def explained_page(
    interpreter: ZeroShotInterpreter,
    recording: Recording,
    prompts: Sequence[str],
    name: str,
    refine: Refine = "auto",
    contrast: bool = False,
) -> str:
    """Explain a recording for prompts; nothing stays on the disk.

    Parameters
    ----------
    interpreter : ZeroShotInterpreter
        The model.
    recording : Recording
        At the model's rate.
    prompts : sequence of str
        At least one.
    name : str
        Of the recording, for the page.
    refine : "auto" or int
        See `ZeroShotInterpreter.interpret_file`.
    contrast : bool
        Whether each prompt is explained against the others.

    Returns
    -------
    str
        HTML with pictures and sounds in it.

    Raises
    ------
    InputError
        If a prompt cannot be used, or `contrast` has less than two.
    """
    pair = recording.wav, interpreter.sample_rate
    against = prompts if contrast else None
    results = interpreter.interpret_waveform(
        pair, prompts=list(prompts), refine=refine, contrast=against
    )
    results = with_warnings(results, recording)
    with TemporaryDirectory(prefix="lmaczs-page-") as folder:
        home = Path(folder) / "recording"
        save_recording(home, results)
        page = write_page(folder, page_entries(home, results, name), single_file=True)
        return page.read_text("utf-8")
