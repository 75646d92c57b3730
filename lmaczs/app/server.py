"""The app's server: on loopback unless told, its files in a folder of its own."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from lmaczs.app.limits import Limits
from lmaczs.interpreter import Refine, ZeroShotInterpreter
from lmaczs.utils.errors import InputError
from lmaczs.utils.extras import require_packages


def require_app() -> None:
    """Raise `MissingExtraError` where Gradio cannot be imported."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read by its import
    require_packages(["gradio"], "app")


def serve_app(
    interpreter: ZeroShotInterpreter,
    limits: Limits,
    refine: Refine,
    host: str,
    port: int,
    started: Callable[[str], object],
) -> None:
    """Serve the app until the process is interrupted or terminated.

    Parameters
    ----------
    interpreter : ZeroShotInterpreter
        The model; requests take turns.
    limits : Limits
        Of requests.
    refine : "auto" or int
        See `ZeroShotInterpreter.interpret_file`.
    host : str
        Address to listen at.
    port : int
        Port to listen at.
    started : callable
        Called with the app's address when it can be opened.

    Raises
    ------
    InputError
        If the address cannot be listened at.
    """
    require_app()
    from lmaczs.app.window import LOOK, build_app

    _require_free(host, port)
    with TemporaryDirectory(prefix="lmaczs-serve-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(Path(folder, "files"))
        app, uploads = build_app(interpreter, limits, refine, Path(folder, "samples"))
        _, address, _ = app.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            ssr_mode=False,
            footer_links=[],
            max_file_size=round(limits.megabytes * 1e6),
            **LOOK,
        )
        uploads.kept |= {path.resolve() for path in Path(folder).rglob("*.wav")}
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            started(address)
            app.block_thread()
        except KeyboardInterrupt:
            pass
        finally:
            app.close(verbose=False)


def _require_free(host: str, port: int) -> None:
    """Raise `InputError` where an address cannot be listened at."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((host, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"--host {host} --port {port}: {reason}: give another --port, or --host"
        ) from error
