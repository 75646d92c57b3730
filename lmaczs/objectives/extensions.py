"""Terms of the objective that are ours, not the papers': pure functions.

In the notation of `lmaczs.objectives.paper`; every term returns one value per clip.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lmaczs.frontend import Domain, FrontEnd, cell_power
from lmaczs.objectives.paper import mean_where

ALIKE = 0.8
"""Cosine above which two prompts say the same, in the words of another template."""

AGREES = 0.3
"""Cosine of clip and prompt from which the model says that the prompt is there."""

MOST = 1e3
"""Above every difference of two logits, below that to a class that does not exist."""


def absent_term(
    masks: Tensor, power: Tensor, present: Tensor, original: Tensor
) -> Tensor:
    """A prompt that is not there, nor heard by the model, has nothing to keep.

    ``relu(1 - relu(C_ij) / 0.3) (mean(M_ij) + sum(M_ij * S_j)) / 2``, mean over absent
    prompts: little to see, and little to hear, for a few cells may hold most of the
    power `S`. Where the model agrees with a prompt all the same, its mask may show with
    what.

    Parameters
    ----------
    masks : Tensor [B, P, F, T]
        In [0, 1].
    power : Tensor [B, F, T]
        Of the clip, as shares of the whole.
    present : Tensor [B, P], bool
        Which prompts sound in the clip.
    original : Tensor [B, P]
        ``C_ij``.

    Returns
    -------
    Tensor [B]
        In [0, 1]; 0 where no prompt is absent.
    """
    unheard = (1 - original.relu() / AGREES).relu()
    kept = (masks.mean((2, 3)) + (masks * power[:, None]).sum((2, 3))) / 2
    return mean_where(unheard * kept, ~present)


def removed_term(removed: Tensor) -> Tensor:
    """What the mask leaves out should not carry the prompt.

    Parameters
    ----------
    removed : Tensor [B]
        ``t_j . f((1 - M_jj) * X_j)``.

    Returns
    -------
    Tensor [B]
        ``relu(removed)``.
    """
    return removed.relu()


def leakage_term(masked: Tensor, text: Tensor, present: Tensor) -> Tensor:
    """The mask of one sound should not carry another.

    ``relu(t_k . f(M_ij * X_j) - max(0, t_i . t_k))``, mean over the ordered pairs of
    prompts i and k that are both present: a mixture's masks tell its sources apart.

    Parameters
    ----------
    masked : Tensor [B, P, D]
        ``f(M_ij * X_j)``, unit norm.
    text : Tensor [B, P, D]
        Unit norm.
    present : Tensor [B, P], bool
        Which prompts sound in the clip.

    Returns
    -------
    Tensor [B]
        0 where fewer than two prompts are present.
    """
    carried = masked @ text.transpose(1, 2)
    alike = (text @ text.transpose(1, 2)).relu()
    itself = torch.eye(text.shape[1], dtype=torch.bool, device=text.device)
    pairs = present[:, :, None] & present[:, None] & ~itself
    return mean_where((carried - alike).relu().flatten(1), pairs.flatten(1))


def interference_term(masks: Tensor, others: Tensor, present: Tensor) -> Tensor:
    """What else sounds in a clip should be left out.

    ``sum(M_ij * O_ij)``, mean over present prompts. Of a mixture that was made for
    training, and of noise that was added, it is known what does not belong to a prompt.

    Parameters
    ----------
    masks : Tensor [B, P, F, T]
        In [0, 1].
    others : Tensor [B, P, F, T]
        Power of what sounds beside a prompt's own sound, as a share of the clip's.
    present : Tensor [B, P], bool
        Which prompts sound in the clip.

    Returns
    -------
    Tensor [B]
        In [0, 1]: which share of a clip's power a mask keeps that it should not.
    """
    return mean_where((masks * others).sum((2, 3)), present)


def omission_term(masks: Tensor, own: Tensor, present: Tensor) -> Tensor:
    """What a prompt's own sound is made of should not be left out.

    ``sum((1 - M_ij) * S_ij)``, mean over present prompts: with `interference_term` the
    distance, weighted by power, from the mask that would tell the sounds apart.

    Parameters
    ----------
    masks : Tensor [B, P, F, T]
        In [0, 1].
    own : Tensor [B, P, F, T]
        Power of a prompt's own sound, as a share of the clip's; 0 throughout where
        nothing else is known to sound.
    present : Tensor [B, P], bool
        Which prompts sound in the clip.

    Returns
    -------
    Tensor [B]
        In [0, 1]: which share of a clip's power a mask leaves out that it should keep.
    """
    return mean_where(((1 - masks) * own).sum((2, 3)), present)


def share_of_whole(power: Tensor) -> Tensor:
    """Power of every cell as a share of its clip's.

    Parameters
    ----------
    power : Tensor [B, F, T]
        Power spectrogram.

    Returns
    -------
    Tensor [B, F, T]
        Its sum over F and T is 1, in silence 0.
    """
    whole = power.sum((1, 2), keepdim=True)
    return torch.where(whole > 0, power / whole, 0)


def shares_of_power(own: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Two sounds as shares of the power of both.

    Parameters
    ----------
    own : Tensor [B, P, F, T]
        Power of each prompt's own sound.
    others : Tensor [B, P, F, T]
        Power of the rest of the clip.

    Returns
    -------
    tuple of Tensor [B, P, F, T]
        Together their sum over F and T is 1; 0 throughout in silence, and the first is
        where there is no rest.
    """
    rest = others.sum((2, 3), keepdim=True)
    whole = own.sum((2, 3), keepdim=True) + rest
    own = torch.where(rest > 0, own / whole, 0)
    return own, torch.where(whole > 0, others / whole, 0)


@torch.no_grad()
def beside_prompts(
    front_end: FrontEnd, wav: Tensor, sources: Tensor, prompts: int, domain: Domain
) -> tuple[Tensor, Tensor]:
    """Each prompt's own sound and what sounds beside it, on the grid of the masks.

    Parameters
    ----------
    front_end : FrontEnd
        Of the model.
    wav : Tensor [B, samples]
        Clips, fitted to the model's length.
    sources : Tensor [B, 2, samples]
        What is in them of the first prompt's sound, and of the second's.
    prompts : int
        P.
    domain : {"mel", "stft", "waveform"}
        Of the masks.

    Returns
    -------
    tuple of Tensor [B, P, F, T], or [B, P, n_mels, T] in the mel domain
        See `shares_of_power`; 0 for prompts beyond the second, which are absent.
    """
    sounds = (sources, wav[:, None] - sources)
    powers = [cell_power(front_end, front_end.stft(x), domain) for x in sounds]
    shares = shares_of_power(*powers)
    missing = (0, 0, 0, 0, 0, max(0, prompts - sources.shape[1]))
    own, others = (nn.functional.pad(one, missing)[:, :prompts] for one in shares)
    return own, others


def contrast_term(
    masked: Tensor, text: Tensor, present: Tensor, classes: Tensor, logit_scale: float
) -> Tensor:
    """What a mask keeps should be told from every class but the prompt.

    ``-log(exp(s C^_ij) / (exp(s C^_ij) + sum_k exp(s t_k . f(M_ij * X_j))))``, mean
    over present prompts; k runs over the classes that say something else than the
    prompt. It is L-MAC's masked-in term for any prompt: where `similarity_term` is
    content with what was there, this one asks for more.

    Parameters
    ----------
    masked : Tensor [B, P, D]
        ``f(M_ij * X_j)``, unit norm.
    text : Tensor [B, P, D]
        Unit norm.
    present : Tensor [B, P], bool
        Which prompts sound in the clip.
    classes : Tensor [K, D]
        Embeddings of the class prompts.
    logit_scale : float
        ``s``, the checkpoint's.

    Returns
    -------
    Tensor [B]
        Not negative; 0 where no prompt is present.
    """
    more = _log_odds(masked, text, classes, logit_scale)
    return mean_where(nn.functional.softplus(-more), present)


def residual_term(
    removed: Tensor, text: Tensor, classes: Tensor, logit_scale: float
) -> Tensor:
    """What a mask leaves out should be told for some other class than the prompt.

    ``-log(1 - p)`` with the probability p of the prompt among the classes that say
    something else, in ``f((1 - M_jj) * X_j)``: L-MAC's masked-out term for any prompt,
    which is content where the prompt is not told any more. It is what FF measures.

    Parameters
    ----------
    removed : Tensor [B, D]
        ``f((1 - M_jj) * X_j)``, unit norm.
    text : Tensor [B, D]
        The first prompt, unit norm.
    classes : Tensor [K, D]
        Embeddings of the class prompts.
    logit_scale : float
        ``s``, the checkpoint's.

    Returns
    -------
    Tensor [B]
        Not negative; 0 where no class says something else.
    """
    more = _log_odds(removed[:, None], text[:, None], classes, logit_scale)[:, 0]
    cost = nn.functional.softplus(more.clamp_max(MOST))
    return cost * (more < MOST)


def _log_odds(
    embedding: Tensor, text: Tensor, classes: Tensor, logit_scale: float
) -> Tensor:
    """Of each prompt [B, P] against the classes that say something else."""
    own = logit_scale * (embedding * text).sum(-1)
    others = logit_scale * (embedding @ classes.T)
    others = others.masked_fill(text @ classes.T > ALIKE, -torch.inf)
    return own - others.logsumexp(-1)
