"""A small HTTP service: recordings in, what the model listened to out, as JSON.

    python docs/service.py --port 8080
    curl --data-binary @dog.wav "http://127.0.0.1:8080/explain?prompt=dog&prompt=rain"
    curl --data-binary @dog.wav "http://127.0.0.1:8080/classify?label=dog&label=rain"

It needs nothing but lmaczs and Python's own http.server. The model is loaded once, and
requests take turns; a file's size and length are checked before it is decoded.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import BoundedSemaphore, Lock
from typing import Any
from urllib.parse import parse_qs, urlsplit

import soundfile

from lmaczs import Interpretation, ZeroShotInterpreter
from lmaczs.app.limits import Limits
from lmaczs.app.uploads import prompts_in, read_upload, with_warnings
from lmaczs.audio.io import Recording
from lmaczs.utils.errors import LmaczsError

IDLE_SECONDS = 30
"""How long a client may take to send the next bytes."""


class Service(ThreadingHTTPServer):
    """The model, and what requests share."""

    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], interpreter: ZeroShotInterpreter, limits: Limits
    ) -> None:
        super().__init__(address, Handler)
        self.interpreter, self.limits = interpreter, limits
        self.turn = Lock()
        self.places = BoundedSemaphore(limits.waiting)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what fails, but not that a client has gone."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def explain(self, sent: Recording, asked: dict[str, list[str]]) -> Any:
        """Explain a recording for ?prompt=...; with ?sounds=1, also what is kept."""
        prompts = prompts_in("\n".join(asked.get("prompt", [])), self.limits)
        pair = sent.wav, self.interpreter.sample_rate
        with self.turn:
            results = self.interpreter.interpret_waveform(pair, prompts=prompts)
        results = with_warnings(results, sent)
        sounds = asked.get("sounds", ["0"])[0] == "1"
        return [_answer(one, sounds) for one in results]

    def classify(self, sent: Recording, asked: dict[str, list[str]]) -> Any:
        """Compare ?label=... with each other."""
        pair = sent.wav, self.interpreter.sample_rate
        with self.turn:
            labels = asked.get("label", [])
            table = self.interpreter.classify_waveform(pair, labels=labels)
        return table.to_dict("records")


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Service
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    wbufsize = -1  # an answer is sent in one piece, ...
    disable_nagle_algorithm = True  # ... and at once

    def do_GET(self) -> None:
        """Say that the service is there."""
        if self.path == "/health":
            model = self.server.interpreter.hparams.model_name
            self._send(200, {"status": "ok", "model": model})
        else:
            self._send(404, {"error": "POST to /explain or /classify"})

    def do_POST(self) -> None:
        """Explain or classify the recording in the body."""
        url = urlsplit(self.path)
        work = {"/explain": self.server.explain, "/classify": self.server.classify}
        length = self.headers.get("Content-Length", "")
        most = self.server.limits.megabytes
        self.close_connection = True  # where the body is not read
        if not length.isdecimal():
            self._send(411, {"error": "Content-Length is missing"})
        elif int(length) > most * 1e6:
            self._send(413, {"error": f"at most {most:g} MB are taken: cut it"})
        elif url.path not in work:
            self._skip(int(length))
            self._send(404, {"error": "POST to /explain or /classify"})
        elif not self.server.places.acquire(blocking=False):
            self._skip(int(length))
            self._send(503, {"error": "too many requests are waiting: try again"})
        else:
            try:
                body = self.rfile.read(int(length))
                self.close_connection = False
                found = 200, work[url.path](self._read(body), parse_qs(url.query))
            except LmaczsError as error:
                found = 400, {"error": " ".join(str(error).split())}
            finally:
                self.server.places.release()
            self._send(*found)

    def _skip(self, length: int) -> None:
        """Read a body and drop it: a client that still sends it gets no answer."""
        while length > 0 and (chunk := self.rfile.read(min(length, 1 << 16))):
            length -= len(chunk)

    def _read(self, body: bytes) -> Recording:
        """Decode the body; its file is removed at once."""
        with TemporaryDirectory(prefix="lmaczs-service-") as folder:
            path = Path(folder, "recording")
            path.write_bytes(body)
            rate = self.server.interpreter.sample_rate
            return read_upload(path, self.server.limits, rate)

    def _send(self, status: int, answer: Any) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)


def _answer(one: Interpretation, sounds: bool) -> dict[str, Any]:
    """What explanation.json holds, and the explanation as base64 of 16-bit FLAC."""
    record = one.to_dict()
    if sounds:
        file = io.BytesIO()
        loudest = max(1.0, float(one.waveform.abs().max()))
        samples = (one.waveform / loudest).numpy()
        soundfile.write(file, samples, one.sample_rate, format="FLAC")
        record["explanation_flac"] = base64.b64encode(file.getvalue()).decode()
    return record


def main() -> None:
    """Load the model and serve, on this machine alone unless --host says otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--source", help="folder or Hub id; default: the embedded one")
    args = parser.parse_args()
    interpreter = ZeroShotInterpreter.from_hparams(args.source)
    with Service((args.host, args.port), interpreter, Limits()) as service:
        print(f"http://{args.host}:{service.server_port}/ (Ctrl-C stops it)")
        try:
            service.serve_forever()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
