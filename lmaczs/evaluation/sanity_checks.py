"""Whether a decoder deserves trust: present and absent prompts, known sources, silence.

Every measurement is a table with a row a sample; `summary` makes one figure of each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lmaczs.audio.io import load_audio
from lmaczs.audio.mixing import mix_at_snr
from lmaczs.clap import FrozenClap
from lmaczs.decoder import MaskDecoder
from lmaczs.explanation import explain, masks_of_clip, similarities
from lmaczs.frontend import FrontEnd, power
from lmaczs.metrics.localisation import mass_in_region, si_sdr_improvement


@torch.no_grad()
def presence(
    clap: FrozenClap,
    decoder: MaskDecoder,
    clips: pd.DataFrame,
    labels: Sequence[str],
    template: str,
) -> pd.DataFrame:
    """Similarity and mask of every pair of clip and prompt (figures 3 and 4).

    Parameters
    ----------
    clap : FrozenClap
        The model that is explained.
    decoder : MaskDecoder
        Trained for it.
    clips : DataFrame
        id, path, label.
    labels : sequence of str
        What is asked of each clip.
    template : str
        Makes the prompts.

    Returns
    -------
    DataFrame
        A row a pair: id, label (of the clip), prompt (a label), present, similarity,
        mask_mean, power_kept (share of the clip's power that is heard).
    """
    text = clap.encode_text([template.format(label) for label in labels])
    rows = []
    for clip in clips.itertuples():
        wav = load_audio(clip.path, clap.front_end.sample_rate).to(clap.device)
        cells = power(clap.front_end.stft(wav[None])[0])
        parts = [
            _kept(*masks_of_clip(clap, decoder, wav, part), cells)
            for part in text.split(16)
        ]
        for label, found in zip(labels, torch.cat(parts).tolist(), strict=True):
            rows.append((clip.id, clip.label, label, label == clip.label, *found))
    names = ("id", "label", "prompt", "present", "similarity", "mask_mean")
    return pd.DataFrame(rows, columns=(*names, "power_kept"))


def _kept(masks: Tensor, similarity: Tensor, cells: Tensor) -> Tensor:
    """Similarity, mean, and share of the power of `cells` [F, T] of masks: [P, 3]."""
    heard = (masks.square() * cells).sum((1, 2)) / cells.sum().clamp_min(1e-20)
    return torch.stack([similarity, masks.mean((1, 2)), heard], 1)


@torch.no_grad()
def known_sources(
    clap: FrozenClap,
    decoder: MaskDecoder,
    clips: pd.DataFrame,
    template: str,
    seed: int,
) -> pd.DataFrame:
    """Explain sums and sequences of two clips for the label of the first.

    Parameters
    ----------
    clap : FrozenClap
        The model that is explained.
    decoder : MaskDecoder
        Trained for it.
    clips : DataFrame
        id, path, label. Each is the first once; the second is drawn from another
        label's clips. The order in a sequence is drawn, too.
    template : str
        Makes the prompts.
    seed : int
        Of what is drawn.

    Returns
    -------
    DataFrame
        A row a pair: id, label, other (id of the second), si_sdr_improvement (dB, of
        the explanation in the sum at 0 dB), mass_on_source (of the mask in the sequence
        that lies on the first).

    Raises
    ------
    ValueError
        If all clips have one label.
    """
    if clips.label.nunique() < 2:
        raise ValueError("known_sources mixes clips of two labels, and there is one")
    rng = np.random.default_rng(seed)
    rate = clap.front_end.sample_rate
    rows = []
    for clip in clips.itertuples():
        others = clips[clips.label != clip.label]
        other = others.iloc[int(rng.integers(len(others)))]
        wavs = [load_audio(path, rate) for path in (clip.path, other.path)]
        prompt = template.format(clip.label)
        improvement = _in_a_sum(clap, decoder, wavs, prompt)
        share = _in_a_sequence(clap, decoder, wavs, prompt, bool(rng.integers(2)))
        rows.append((clip.id, clip.label, other.id, improvement, share))
    names = ("id", "label", "other", "si_sdr_improvement", "mass_on_source")
    return pd.DataFrame(rows, columns=names)


def _in_a_sum(
    clap: FrozenClap, decoder: MaskDecoder, wavs: Sequence[Tensor], prompt: str
) -> float:
    length = min(map(len, wavs))
    first, second = (wav[:length] for wav in wavs)
    mixture = mix_at_snr(first, second, 0.0).sum(0)
    text = clap.encode_text([prompt])
    (one,) = explain(clap, decoder, mixture, [prompt], text, verify=False)
    sounds = (one.waveform, mixture.cpu(), first.cpu())
    return float(si_sdr_improvement(*(sound[None] for sound in sounds)))


def _in_a_sequence(
    clap: FrozenClap,
    decoder: MaskDecoder,
    wavs: Sequence[Tensor],
    prompt: str,
    second_first: bool,
) -> float:
    first, second = (wav / wav.square().mean().sqrt().clamp_min(1e-9) for wav in wavs)
    order = [second, first] if second_first else [first, second]
    sequence = 0.05 * torch.cat(order)
    text = clap.encode_text([prompt])
    (one,) = explain(clap, decoder, sequence, [prompt], text, verify=False)
    return float(
        share_of_stretch(
            clap.front_end,
            one.mask,
            sequence,
            len(order[0]) if second_first else 0,
            len(first),
        )
    )


def share_of_stretch(
    front_end: FrontEnd, mask: Tensor, wav: Tensor, start: int, samples: int
) -> Tensor:
    """Share of a mask's energy-weighted mass within a stretch of a recording.

    Parameters
    ----------
    front_end : FrontEnd
        Of the mask.
    mask : Tensor [F, T]
        In [0, 1].
    wav : Tensor [samples]
        The recording.
    start : int
        First sample of the stretch.
    samples : int
        Its length.

    Returns
    -------
    Tensor
        0 to 1.
    """
    spectrum = power(front_end.stft(wav[None].cpu()))
    centre = torch.arange(mask.shape[-1]) * front_end.hop_length
    # the last frame is centred on the end or beyond: it hears what ends there
    centre = centre.clamp_max(len(wav) - 1)
    inside = (centre >= start) & (centre < start + samples)
    return mass_in_region(mask[None], spectrum, inside[None])[0]


@torch.no_grad()
def silence(clap: FrozenClap, labels: Sequence[str], template: str) -> pd.DataFrame:
    """Similarity of digital silence to every label.

    Parameters
    ----------
    clap : FrozenClap
        The model.
    labels : sequence of str
        What is asked.
    template : str
        Makes the prompts.

    Returns
    -------
    DataFrame
        A row a label: prompt, similarity.
    """
    text = clap.encode_text([template.format(label) for label in labels])
    nothing = torch.zeros(1, clap.front_end.max_samples, device=clap.device)
    similar = clap.audio_embedding(clap.front_end.log_mel(nothing)) @ text.T
    return pd.DataFrame({"prompt": list(labels), "similarity": similar[0].tolist()})


@torch.no_grad()
def paraphrase_hits(
    clap: FrozenClap, clips: pd.DataFrame, paraphrases: dict[str, str]
) -> pd.DataFrame:
    """Classify clips by paraphrases of their labels.

    Parameters
    ----------
    clap : FrozenClap
        The model.
    clips : DataFrame
        id, path, label.
    paraphrases : dict
        A sentence for each label that may be chosen.

    Returns
    -------
    DataFrame
        A row a clip with one of these labels: id, label, chosen, hit.
    """
    labels = list(paraphrases)
    text = clap.encode_text([paraphrases[label] for label in labels])
    rows = []
    for clip in clips[clips.label.isin(labels)].itertuples():
        wav = load_audio(clip.path, clap.front_end.sample_rate).to(clap.device)
        chosen = labels[int(similarities(clap, wav, text).argmax())]
        rows.append((clip.id, clip.label, chosen, chosen == clip.label))
    return pd.DataFrame(rows, columns=("id", "label", "chosen", "hit"))


def summary(
    tables: dict[str, pd.DataFrame], frequent: Sequence[str]
) -> dict[str, float]:
    """One figure for each measurement.

    Parameters
    ----------
    tables : dict
        presence, known_sources, silence and paraphrases, from the functions above.
    frequent : sequence of str
        Labels that accuracy is measured among, the others being measured among all.

    Returns
    -------
    dict
        See README.md, "Does it deserve trust?". What the tables cannot tell (accuracy
        without a clip, the correlation of a constant) is left out.
    """
    pairs = tables["presence"]
    present = pairs[pairs.present].set_index("id")
    kept = ["mask_mean", "power_kept"]
    absent = pairs[~pairs.present].groupby("id")[kept].mean()
    least = absent.mask_mean.reindex(present.index).clip(lower=1e-9)
    known = tables["known_sources"]
    figures = {
        **_accuracies(pairs, frequent),
        "paraphrase_accuracy": tables["paraphrases"].hit.mean(),
        "true_pair": present.similarity.mean(),
        "silence": tables["silence"].similarity.max(),
        "mask_present": present.mask_mean.mean(),
        "mask_absent": absent.mask_mean.mean(),
        "power_present": present.power_kept.mean(),
        "power_absent": absent.power_kept.mean(),
        "present_to_absent": (present.mask_mean / least).median(),
        "correlation": pairs.similarity.corr(pairs.mask_mean),
        "si_sdr_improvement": known.si_sdr_improvement.mean(),
        "mass_on_source": known.mass_on_source.mean(),
    }
    return {name: float(v) for name, v in figures.items() if not np.isnan(v)}


def _accuracies(pairs: pd.DataFrame, frequent: Sequence[str]) -> dict[str, float]:
    ten = pairs[pairs.label.isin(frequent)]
    few = _rank_of_truth(ten[ten.prompt.isin(frequent)])
    rest = _rank_of_truth(pairs[~pairs.label.isin(frequent)])
    return {
        "accuracy_frequent": (few < 1).mean(),
        "accuracy_other": (rest < 1).mean(),
        "top5_other": (rest < 5).mean(),
    }


def _rank_of_truth(pairs: pd.DataFrame) -> pd.Series:
    """How many other prompts are as near to a clip as its own label, a value a clip."""
    own = pairs[pairs.present].set_index("id").similarity
    # a tie and NaN count against the model: one that is blind must not look perfect
    farther = pairs.similarity < own.reindex(pairs.id).to_numpy()
    nearer = ~farther & ~pairs.present
    return nearer.groupby(pairs.id.to_numpy()).sum()
