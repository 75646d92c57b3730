"""The app's window, by Gradio: what it shows, and what its buttons do."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from lmaczs.app.explaining import explained_page
from lmaczs.app.limits import Limits
from lmaczs.app.uploads import Uploads, check_upload, prompts_in, read_upload
from lmaczs.demo.scenes import SCENES, write_scenes
from lmaczs.interpreter import Refine, ZeroShotInterpreter
from lmaczs.utils.errors import InputError, LmaczsError
from lmaczs.utils.naming import slugify

logger = logging.getLogger(__name__)

EXAMPLES = ("dog_by_the_fire", "siren_and_church_bells", "dog_at_the_church")
"""Scenes of the demonstration that are offered."""

IDLE_SECONDS = 900
"""Age at which a file that a user sent is removed, whatever becomes of the session."""

ERROR_SECONDS = 20
"""How long a message stays."""

LOOK = {
    # of the user's machine: Gradio's own fonts are fetched from the network
    "theme": gr.themes.Default(
        primary_hue="blue",
        font=("system-ui", "sans-serif"),
        font_mono=("ui-monospace", "monospace"),
    ).set(
        checkbox_border_color="*neutral_400", checkbox_border_color_dark="*neutral_400"
    ),
    "css": """
.gradio-container { max-width: 1240px !important; margin: 0 auto !important; }
.lmaczs-bar { display: flex; flex-wrap: wrap; gap: .4rem 1rem; align-items: center;
  justify-content: space-between; margin-bottom: .5rem; }
.lmaczs-bar a { margin: 0 !important; }
.lmaczs-page { width: 100%; height: 60rem; border: 0; display: block; }
@media (max-width: 640px) { .lmaczs-result { margin: 0 -2rem; } }
""",
}
"""Arguments of `launch`."""

# The frame is as high as the page in it: one scroll bar, not two. Its title and margins
# are those of the window.
FIT = (
    "const page = this.contentDocument, body = page.body;"
    "page.querySelector('.top').hidden = true;"
    "Object.assign(body.style, {padding: 0, maxWidth: 'none', background: 'none'});"
    "new ResizeObserver(() => { this.style.height = body.offsetHeight + 'px'; })"
    ".observe(body);"
)
# The page is in the frame already; a link to it needs no file on the server.
DOWNLOAD = (
    "const page = this.closest('.lmaczs-result').querySelector('iframe').srcdoc;"
    "const file = new Blob([page], {type: 'text/html'});"
    "this.href = window.URL.createObjectURL(file);"
)


def build_app(
    interpreter: ZeroShotInterpreter,
    limits: Limits,
    refine: Refine,
    samples: Path,
) -> tuple[Any, Uploads]:
    """Lay out the app; return Gradio's Blocks, and the files of its users.

    The demonstration's scenes are written into the folder `samples`.
    """
    uploads = Uploads()
    # served from where they are: copies would be removed as users' files are
    gr.set_static_paths([samples])

    def check(path: str | None, request: gr.Request) -> None:
        uploads.use(request.session_hash or "", path)
        with _errors():
            if path is not None:
                check_upload(Path(path), limits)

    def explain(
        path: str | None, text: str, contrast: bool, request: gr.Request
    ) -> str:
        uploads.use(request.session_hash or "", path)
        with _errors():
            return _explained(interpreter, limits, refine, path, text, contrast)

    def leave(request: gr.Request) -> None:
        uploads.end(request.session_hash or "")

    with gr.Blocks(
        title="lmaczs", analytics_enabled=False, delete_cache=(60, IDLE_SECONDS)
    ) as app:
        gr.Markdown(_about(interpreter, limits))
        recording, prompts, contrast, go = _inputs(limits)
        rows = _samples(samples, interpreter.sample_rate)
        labels = [Path(path).stem.replace("_", " ") for path, _ in rows]
        gr.Examples(rows, [recording, prompts], label="Samples", example_labels=labels)
        result = gr.HTML(label="Explanations")
        recording.change(
            check, recording, None, show_progress="hidden", api_visibility="private"
        )
        go.click(
            explain,
            [recording, prompts, contrast],
            result,
            concurrency_limit=1,
            api_visibility="private",
        )
        app.unload(leave)
    app.queue(max_size=limits.waiting)
    return app, uploads


def _explained(
    interpreter: ZeroShotInterpreter,
    limits: Limits,
    refine: Refine,
    path: str | None,
    text: str,
    contrast: bool,
) -> str:
    """What is shown of a recording for the prompts of a text; or an InputError."""
    begin = time.perf_counter()
    prompts = prompts_in(text, limits)
    if path is None:
        raise InputError("there is no recording: upload or record one")
    sent = read_upload(path, limits, interpreter.sample_rate)
    name, against = Path(path).name, contrast and len(prompts) > 1
    page = explained_page(interpreter, sent, prompts, name, refine, against)
    return shown(page, name, prompts, time.perf_counter() - begin)


def _inputs(limits: Limits) -> tuple[gr.Audio, gr.Textbox, gr.Checkbox, gr.Button]:
    """Lay out what a user gives: recording, prompts, contrast and the button."""
    with gr.Row():
        recording = gr.Audio(
            sources=["upload", "microphone"],
            type="filepath",
            label=f"Recording, at most {limits.seconds:g} s",
            buttons=[],
        )
        with gr.Column():
            prompts = gr.Textbox(
                lines=4,
                label="Prompts, one a line",
                placeholder="a dog barking\nrain",
            )
            contrast = gr.Checkbox(
                label="Explain each prompt against the others",
                info="What makes it this one rather than those?",
            )
            go = gr.Button("Explain", variant="primary")
    return recording, prompts, contrast, go


def shown(page: str, name: str, prompts: Iterable[str], seconds: float) -> str:
    """A page in a frame, below a line with its time and a link to download it."""
    count = len(list(prompts))
    what = "explanation" if count == 1 else "explanations"
    file = f"{slugify(Path(name).stem)}.html"
    return (
        f'<div class="lmaczs-result"><div class="lmaczs-bar"><span>{count} {what} in '
        f'{seconds:.1f} s</span><a href="#" download="{escape(file)}" '
        f'onclick="{escape(DOWNLOAD)}">Download the page</a></div>'
        f'<iframe class="lmaczs-page" title="Explanations of {escape(name)}" '
        f'onload="{escape(FIT)}" srcdoc="{escape(page)}"></iframe></div>'
    )


def _about(interpreter: ZeroShotInterpreter, limits: Limits) -> str:
    return (
        "# What did the model listen to?\n"
        "Give a recording and prompts: see and hear the part of it that makes the "
        f"model ({escape(interpreter.hparams.model_name)}) match each prompt. Nothing "
        "is kept: a recording is removed when you leave or choose another."
    )


def _samples(folder: Path, sample_rate: int) -> list[list[str]]:
    """Path and prompts of each scene that is offered."""
    paths = {scene.name: path for scene, path in write_scenes(folder, sample_rate)}
    texts = {one.name: "\n".join([*one.prompts, one.absent_prompt]) for one in SCENES}
    return [[str(paths[name]), texts[name]] for name in EXAMPLES]


class _errors:
    """Show an error as a sentence in the app, and an unexpected one in the log."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or not isinstance(error, Exception):
            return
        text = " ".join(str(error).split())
        if not isinstance(error, LmaczsError):
            logger.error("unexpected", exc_info=error)
            text = "the explanation failed: the server's log has the reason"
        raise gr.Error(
            escape(text), duration=ERROR_SECONDS, print_exception=False
        ) from error
