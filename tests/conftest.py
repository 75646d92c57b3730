"""Shared by all tests: no network, one thread, tiny CLAPs, and the real clips."""

from __future__ import annotations

import json
import logging
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Read when transformers, torch and matplotlib are imported, and inherited by the
# commands that tests start: set before any test module imports one of them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"

import hypothesis
import numpy as np
import speechbrain  # noqa: F401 - registers its redirects of old module names
import torch
from speechbrain.utils.importutils import LazyModule
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapProcessor,
    ClapTextConfig,
    RobertaTokenizerFast,
)

from lmaczs.clap import FrozenClap
from lmaczs.distillation.text_tower import (
    TextTower,
    clap_tokenizer,
    save_text_tower,
    train_bpe,
)
from lmaczs.frontend import Domain, FrontEnd

# What the user's programs have cached plays no part, and stays as it is.
_user_cache = tempfile.TemporaryDirectory(prefix="lmaczs-tests-")
os.environ["XDG_CACHE_HOME"] = _user_cache.name

# hypothesis reads __file__ of every module; a redirect would import its target for it,
# and k2 is not installed.
for _module in [m for m in sys.modules.values() if isinstance(m, LazyModule)]:
    vars(_module).setdefault("__file__", None)

# Timing is no property. Where CI is set (.ci/run), examples are the same in every run.
hypothesis.settings.register_profile(
    "lmaczs",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    max_examples=25,
    database=None,
    derandomize="CI" in os.environ,
)
hypothesis.settings.load_profile("lmaczs")


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave out what needs ESC-50, unless -m names it; -m adds to this."""
    if "real_clips" in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("real_clips")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """Every test draws the same ones, whichever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


SENTENCES = (
    "This is a sound of a dog barking.",
    "I can hear heavy rain on a roof and a person speaking.",
    "piano music, church bells, a siren far away, a clock ticking",
)
# Of the embedded default, with one block per stage: 5 s at 32 kHz, 251 frames.
SMALL = {
    "front_end": {
        "sampling_rate": 32000,
        "fft_window_size": 2048,
        "hop_length": 640,
        "max_length_s": 5,
    },
    "audio": {"spec_size": 128, "depths": [1, 1, 1], "num_attention_heads": [2, 4, 8]},
}
# Of LAION's checkpoints, with one block per stage: 10 s at 48 kHz, 1001 frames.
FULL = {
    "front_end": {
        "sampling_rate": 48000,
        "fft_window_size": 1024,
        "hop_length": 480,
        "max_length_s": 10,
    },
    "audio": {
        "spec_size": 256,
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [2, 4, 8, 16],
    },
}
# Of neither: 3 s at 16 kHz, 32 mel bands, 121 frames, two stages.
OTHER = {
    "front_end": {
        "sampling_rate": 16000,
        "fft_window_size": 1024,
        "hop_length": 400,
        "max_length_s": 3,
        "feature_size": 32,
        "frequency_max": 7000,
    },
    "audio": {
        "spec_size": 64,
        "depths": [1, 1],
        "num_attention_heads": [2, 4],
        "num_mel_bins": 32,
    },
}


def _tokenizer() -> RobertaTokenizerFast:
    """Byte-level BPE, special tokens numbered as ClapTextConfig expects them."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(SENTENCES * 4, vocab_size=400, special_tokens=special)
    merges = json.loads(bpe.to_str())["model"]["merges"]
    return RobertaTokenizerFast(
        vocab=bpe.get_vocab(),
        merges=[tuple(pair) for pair in merges],
        model_max_length=24,
    )


def _random_model(audio: dict, fused: bool, vocabulary: int) -> ClapModel:
    """Random weights, whose embeddings differ between inputs."""
    width, stages = 16, len(audio["depths"])
    text_config = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 26,
    }
    audio_config = {
        "num_mel_bins": 64,
        **audio,
        "patch_embeds_hidden_size": width,
        "hidden_size": width * 2 ** (stages - 1),
        "enable_fusion": fused,
    }
    torch.manual_seed(0)
    model = ClapModel(
        ClapConfig(
            text_config=text_config, audio_config=audio_config, projection_dim=32
        )
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and "embeddings.token_type" not in name:
                weight.normal_(0, 1.5 * weight[0].numel() ** -0.5)
        norm = model.audio_model.audio_encoder.batch_norm
        norm.running_mean.fill_(-40.0)  # dB
        norm.running_var.fill_(400.0)
    return model.eval()


MaskedLogMel = Callable[..., torch.Tensor]


@pytest.fixture(scope="session")
def masked_log_mel() -> MaskedLogMel:
    """Oracle: encoder input of clips [B, samples] under masks on the clip grid.

    Arguments: ``front_end``, ``wavs``, ``mask`` and ``domain`` (``"stft"``). In the
    waveform domain it takes the clip's own STFT, not that of its repetitions.
    """

    def masked(
        front_end: FrontEnd,
        wavs: torch.Tensor,
        mask: torch.Tensor,
        domain: Domain = "stft",
    ) -> torch.Tensor:
        samples = wavs.shape[-1]
        if domain == "waveform":
            kept = front_end.istft(mask * front_end.stft(wavs), samples)
            return front_end.log_mel(kept)
        spectrum = front_end.stft(front_end.fit_length(wavs))
        return front_end.input_tf(spectrum, front_end.tile_mask(mask, samples), domain)

    return masked


@pytest.fixture(scope="session")
def make_clap_folder(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Path]:
    """Function that writes a random CLAP with one block per stage, of a geometry.

    Arguments: ``geometry``, "small" (5 s at 32 kHz, as the embedded default), "full"
    (10 s at 48 kHz, as LAION's checkpoints) or "other" (3 s at 16 kHz), and ``fused``.
    """

    def make(geometry: str = "small", fused: bool = False) -> Path:
        folder = tmp_path_factory.mktemp(f"clap_{geometry}{'_fused' * fused}")
        numbers = {"small": SMALL, "full": FULL, "other": OTHER}[geometry]
        tokenizer = _tokenizer()
        common = {"feature_size": 64, "frequency_min": 50, "frequency_max": 14000}
        extractor = ClapFeatureExtractor(
            truncation="fusion" if fused else "rand_trunc",
            padding="repeatpad",
            **{**common, **numbers["front_end"]},
        )
        processor = ClapProcessor(feature_extractor=extractor, tokenizer=tokenizer)
        processor.save_pretrained(folder)
        _random_model(numbers["audio"], fused, len(tokenizer)).save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_clap_folder(make_clap_folder: Callable[..., Path]) -> Path:
    """Hugging Face folder of a random CLAP in the embedded default's geometry."""
    return make_clap_folder()


@pytest.fixture(scope="session")
def tiny_clap(tiny_clap_folder: Path) -> FrozenClap:
    """Random CLAP: 5 s at 32 kHz, 251 frames, three stages, embeddings of 32."""
    return FrozenClap.from_pretrained(tiny_clap_folder)


@pytest.fixture(scope="session")
def tiny_fused_clap(make_clap_folder: Callable[..., Path]) -> FrozenClap:
    """As `tiny_clap`, fused: four channels, HTK filters."""
    return FrozenClap.from_pretrained(make_clap_folder(fused=True))


@pytest.fixture(scope="session")
def laion_like_clap(make_clap_folder: Callable[..., Path]) -> FrozenClap:
    """Random CLAP in LAION's geometry: 10 s at 48 kHz, 1001 frames, four stages."""
    return FrozenClap.from_pretrained(make_clap_folder("full"))


@pytest.fixture(scope="session")
def tiny_text_tower_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random text tower, as recipes/train_text.py writes one; embeddings of 32."""
    tokenizer = clap_tokenizer(train_bpe(SENTENCES * 20, vocab_size=330), max_tokens=24)
    torch.manual_seed(0)
    tower = TextTower(
        ClapTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=26,
            projection_dim=32,
        )
    )
    with torch.no_grad():
        for name, weight in tower.named_parameters():
            if weight.dim() > 1 and "embeddings.token_type" not in name:
                weight.normal_(0, 1.5 * weight[0].numel() ** -0.5)
    folder = tmp_path_factory.mktemp("text_tower")
    return save_text_tower(tower, tokenizer, folder, {})


@pytest.fixture(scope="session")
def object_store() -> Iterator[str]:
    """URL of an empty bucket of an S3 server on loopback."""
    from moto.server import ThreadedMotoServer
    from pyarrow.fs import FileSystem

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "any")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "any")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        files, _ = FileSystem.from_uri("s3://lmaczs/?allow_bucket_creation=true")
        files.create_dir("lmaczs")
        yield "s3://lmaczs"
    server.stop()


@pytest.fixture
def bucket(object_store: str, tmp_path: Path) -> str:
    """URL of an empty folder of an S3 server on loopback."""
    return f"{object_store}/{tmp_path.name}"


@pytest.fixture(scope="session")
def esc50_folder() -> Path:
    """ESC-50 in its released layout (audio/, meta/), for tests marked real_clips."""
    folder = os.environ.get("LMACZS_ESC50", "")
    if not Path(folder, "meta", "esc50.csv").is_file():
        pytest.fail(
            f"LMACZS_ESC50 must name a folder that holds meta/esc50.csv, not {folder!r}"
        )
    return Path(folder)
