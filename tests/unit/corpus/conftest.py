"""Recordings, and a corpus of them, made with the embedded default."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from lmaczs.audio.io import save_audio
from lmaczs.corpus.rows import Wanted
from lmaczs.corpus.run import Corpus, begin
from lmaczs.corpus.store import Store
from lmaczs.demo.scenes import render
from lmaczs.interpreter import ZeroShotInterpreter
from lmaczs.utils.digests import fingerprint

RATE = 32000
PROMPTS = ("siren", "dog")


@pytest.fixture(scope="session")
def interpreter() -> ZeroShotInterpreter:
    """The embedded default, on the CPU."""
    return ZeroShotInterpreter.from_hparams(run_opts={"device": "cpu"})


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By name: a siren, a dog, silence, nine seconds with a siren, and no sound.

    The last one ends in its header.
    """
    folder = tmp_path_factory.mktemp("recordings")
    noise = 0.001 * torch.randn(9 * RATE, generator=torch.Generator().manual_seed(0))
    siren, dog = (render(name, RATE, 2.0, seed=0).float() for name in PROMPTS)
    noise[3 * RATE : 8 * RATE] += render("siren", RATE, 5.0, seed=0).float()
    sounds = {"siren": siren, "dog": dog, "long": noise, "silence": torch.zeros(RATE)}
    paths = {
        name: save_audio(folder / f"{name}.wav", sound, RATE)
        for name, sound in sounds.items()
    }
    empty = folder / "empty.wav"
    empty.write_bytes(paths["siren"].read_bytes()[:20])
    return {**paths, "empty": empty}


@pytest.fixture(scope="session")
def clips(recordings: dict[str, Path]) -> pa.Table:
    """Clips of a plan: all recordings, and half a second of one, each with a site."""
    paths = [*map(str, recordings.values()), str(recordings["long"])]
    times = {"start": [None] * 5 + [4.25], "stop": [None] * 5 + [4.75]}
    return pa.table({"path": paths, **times, "site": list("aabbcc")})


@pytest.fixture(scope="session")
def model(interpreter: ZeroShotInterpreter) -> dict[str, str]:
    """What corpus.json says of the model."""
    hparams = interpreter.hparams
    names = {"model": hparams.model_name, "template": hparams.template}
    return {**names, "weights": fingerprint(interpreter.mods)}


@pytest.fixture
def deny(object_store: str) -> Iterator[Callable[[str], None]]:
    """Has the object store refuse to give an object, which it names as bucket/key."""
    import boto3

    name = object_store.removeprefix("s3://")
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    statements: list[dict[str, str]] = []

    def refuse(path: str) -> None:
        rule = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject"}
        statements.append({**rule, "Resource": f"arn:aws:s3:::{path}"})
        policy = {"Version": "2012-10-17", "Statement": statements}
        client.put_bucket_policy(Bucket=name, Policy=json.dumps(policy))

    yield refuse
    if statements:
        client.delete_bucket_policy(Bucket=name)


@pytest.fixture
def corpus(
    tmp_path: Path, clips: pa.Table, model: dict[str, str]
) -> tuple[Store, Corpus]:
    """A corpus that is planned, two clips a block, of which no block is done."""
    store = Store(tmp_path / "corpus")
    wanted = Wanted(PROMPTS, 0, keep="prompt == 'siren' and presence > 0.95")
    return store, begin(store, [clips], model, wanted, 2)
