"""docs/service.py: recordings in, explanations out, over HTTP; what is refused."""

from __future__ import annotations

import base64
import http.client
import io
import json
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from lmaczs import ZeroShotInterpreter
from lmaczs.app.limits import Limits

SCRIPT = Path(__file__).parents[2] / "docs" / "service.py"
RATE = 32000


@pytest.fixture(scope="module")
def interpreter(tiny_clap_folder: Path) -> ZeroShotInterpreter:
    """A CLAP of random weights, without a decoder."""
    return ZeroShotInterpreter.from_clap(tiny_clap_folder)


@pytest.fixture(scope="module")
def service(interpreter: ZeroShotInterpreter) -> Iterator[Any]:
    """The service on a free port, with limits of 0.3 MB, two seconds, two in line."""
    spec = spec_from_file_location("service", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    limits = Limits(megabytes=0.3, seconds=2, waiting=2)
    with module.Service(("127.0.0.1", 0), interpreter, limits) as one:
        thread = threading.Thread(target=one.serve_forever, daemon=True)
        thread.start()
        yield one
        one.shutdown()
        thread.join()


def samples(seconds: float = 1.0) -> np.ndarray:
    """Noise [samples]."""
    rng = np.random.default_rng(0)
    return rng.uniform(-0.5, 0.5, round(seconds * RATE)).astype(np.float32)


def encoded(seconds: float = 1.0, kind: str = "WAV") -> bytes:
    """A file of it."""
    file = io.BytesIO()
    soundfile.write(file, samples(seconds), RATE, format=kind, subtype="PCM_16")
    return file.getvalue()


def ask(
    service: Any, path: str, body: bytes | None = None, method: str = "POST"
) -> tuple[int, Any]:
    """Status and answer of a request."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", service.server_port, timeout=60
    )
    connection.request(method, path, body)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def test_explanations_are_those_of_the_library(
    service: Any,
    interpreter: ZeroShotInterpreter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Numbers and sound of every prompt; no file is left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    status, found = ask(
        service, "/explain?prompt=a+dog&prompt=rain&sounds=1", encoded()
    )
    assert status == 200 and list(tmp_path.iterdir()) == []
    path = tmp_path / "a.wav"
    path.write_bytes(encoded())
    expected = interpreter.interpret_file(path, ["a dog", "rain"])
    for one, other in zip(found, expected, strict=True):
        record = other.to_dict()
        assert one["prompt"] == record["prompt"]
        assert one["verdict"] == record["verdict"]
        assert one["similarity"] == pytest.approx(record["similarity"], abs=1e-5)
        sound, rate = soundfile.read(
            io.BytesIO(base64.b64decode(one["explanation_flac"]))
        )
        assert rate == RATE
        assert sound == pytest.approx(other.waveform.numpy(), abs=2e-4)


def test_classes_are_those_of_the_library(
    service: Any, interpreter: ZeroShotInterpreter
) -> None:
    """The most similar first."""
    status, found = ask(service, "/classify?label=dog&label=rain", encoded(kind="FLAC"))
    pair = soundfile.read(io.BytesIO(encoded(kind="FLAC")))
    table = interpreter.classify_waveform(pair, labels=["dog", "rain"])
    assert status == 200 and [one["label"] for one in found] == list(table["label"])
    assert found[0]["similarity"] == pytest.approx(table["similarity"][0], abs=1e-5)


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    [
        ("/explain", encoded(), 400, "there is no prompt: type one"),
        ("/explain?prompt=dog", b"no audio", 400, "recording: no audio in a format"),
        ("/explain?prompt=dog", b"", 400, "recording: it is empty"),
        ("/explain?prompt=dog", encoded(2.5), 400, "it is 2.5 s long, at most 2 s"),
        ("/classify", encoded(), 400, "labels is a list of at least one label"),
        ("/other", encoded(), 404, "POST to /explain or /classify"),
    ],
)
def test_what_is_refused(
    service: Any, path: str, body: bytes, status: int, reason: str
) -> None:
    """By a status and a sentence without a folder's name."""
    found, answer = ask(service, path, body)
    assert found == status and reason in answer["error"]
    assert tempfile.gettempdir() not in answer["error"]


@pytest.mark.parametrize(("header", "status"), [("", 411), ("300001", 413)])
def test_a_body_that_is_not_read(service: Any, header: str, status: int) -> None:
    """Of a length that is missing or too large; it is not waited for."""
    length = f"Content-Length: {header}\r\n" if header else ""
    with socket.create_connection(("127.0.0.1", service.server_port), 60) as one:
        head = f"POST /explain?prompt=dog HTTP/1.1\r\nHost: here\r\n{length}\r\n"
        one.sendall(head.encode())
        assert one.recv(100).startswith(f"HTTP/1.1 {status} ".encode())


def test_whether_it_is_there(service: Any, interpreter: ZeroShotInterpreter) -> None:
    """The answer has the model's name."""
    status, answer = ask(service, "/health", method="GET")
    assert (status, answer["model"]) == (200, interpreter.hparams.model_name)


def test_requests_take_turns(service: Any) -> None:
    """They wait until it is theirs."""
    path = "/classify?label=dog"
    with ThreadPoolExecutor(2) as pool:
        with service.turn:
            waiting = [pool.submit(ask, service, path, encoded()) for _ in range(2)]
            time.sleep(0.5)
            assert not any(one.done() for one in waiting)
        assert [one.result()[0] for one in waiting] == [200, 200]


def test_the_line_is_short(service: Any) -> None:
    """Where two are waiting, a third is refused at once; then there is room again."""
    path = "/classify?label=dog"
    with service.places, service.places:
        status, answer = ask(service, path, encoded())
        assert status == 503 and "too many requests" in answer["error"]
    assert ask(service, path, encoded())[0] == 200
