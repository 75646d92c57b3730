"""Cost of one training step of the decoder at full size: ClapConfig(), random weights.

    python benchmarks/train_step.py [--batch 2] [--steps 3] [--threads 2] [--device cpu]

The default configuration of Hugging Face's CLAP is that of the public checkpoints
(153 M parameters, 48 kHz, 10 s). Prints seconds a step and a clip, and peak memory.
"""

from __future__ import annotations

import argparse
import resource
import time

import speechbrain as sb
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    PreTrainedTokenizerFast,
)

from lmaczs.brain import InterpreterBrain
from lmaczs.clap import FrozenClap
from lmaczs.decoder import MaskDecoder
from lmaczs.objectives import LmacZsObjective

PROMPTS = ["This is a sound of a dog.", "This is a sound of rain."]
WEIGHTS = {"similarity": 1.0, "sparsity": 0.3, "diversity": 0.1, "removed": 0.3}


def full_size_clap() -> FrozenClap:
    """CLAP of the public checkpoints' size with random weights.

    Returns
    -------
    FrozenClap
    """
    bpe = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe.train_from_iterator(PROMPTS, vocab_size=300, special_tokens=special)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, pad_token="<pad>", model_max_length=77
    )
    extractor = ClapFeatureExtractor(frequency_min=50, truncation="rand_trunc")
    return FrozenClap(ClapModel(ClapConfig()), extractor, tokenizer)


def make_brain(clap: FrozenClap, device: str) -> InterpreterBrain:
    """Brain with everything that a step needs.

    Parameters
    ----------
    clap : FrozenClap
        The model to be explained.
    device : str
        cpu or cuda.

    Returns
    -------
    InterpreterBrain
    """
    decoder = MaskDecoder(clap)
    hparams = {
        "clap": clap,
        "decoder": decoder,
        "average_decay": 0,
        "domain": "stft",
        "criterion": LmacZsObjective(WEIGHTS),
        "templates": ["{}"],
    }
    modules = {"decoder": decoder, "clap": clap}
    brain = InterpreterBrain(modules, torch.optim.AdamW, hparams, {"device": device})
    brain.set_classes(PROMPTS)
    brain.kept = {}
    brain.init_optimizers()
    return brain


def main() -> None:
    """Time steps and print the cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    brain = make_brain(full_size_clap(), options.device)
    samples = brain.clap.front_end.max_samples
    batch = {
        "wav": 0.1 * torch.randn(options.batch, samples),
        "samples": torch.full((options.batch,), samples),
        "present": torch.tensor([[True, False]]).expand(options.batch, -1),
        "prompts": [PROMPTS] * options.batch,
        "label": PROMPTS[:1] * options.batch,
    }
    times = [step(brain, batch) for _ in range(options.steps + 1)][1:]
    clap, decoder = (
        sum(p.numel() for p in module.parameters()) / 1e6
        for module in (brain.clap, brain.modules.decoder)
    )
    seconds = sorted(times)[len(times) // 2]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"CLAP {clap:.1f} M, decoder {decoder:.2f} M parameters")
    print(f"{seconds:.2f} s a step of {options.batch} clips, 2 prompts each")
    print(f"{seconds / options.batch:.2f} s a clip; peak memory {memory:.2f} GiB")


def step(brain: InterpreterBrain, batch: dict) -> float:
    """One forward, backward and update.

    Parameters
    ----------
    brain : InterpreterBrain
        From `make_brain`.
    batch : dict
        As `lmaczs.prompted_clips.collate` makes it.

    Returns
    -------
    float
        Seconds.
    """
    start = time.perf_counter()
    brain.kept = {}
    brain.modules.decoder.train()
    pairs = brain.compute_forward(batch, sb.Stage.TRAIN)
    brain.compute_objectives(pairs, batch, sb.Stage.TRAIN).backward()
    brain.optimizer.step()
    brain.optimizer.zero_grad()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
