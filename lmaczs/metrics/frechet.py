"""Frechet distance between two sets of embeddings (Frechet audio distance, FAD).

Kilgour et al., "Frechet Audio Distance", Interspeech 2019, arXiv 1812.08466; with CLAP
embeddings, as in table 5 of LMAC-ZS: Gui et al., "Adapting Frechet Audio Distance for
Generative Music Evaluation", ICASSP 2024, arXiv 2311.01616.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Embeddings = NDArray[np.floating]


def frechet_distance(first: Embeddings, second: Embeddings) -> float:
    """Frechet distance of Gaussians that are fitted to two sets, squared as FAD is.

    ``|m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2))``, of means and sample
    covariances. The last trace is the sum of the singular values of ``R1 R2^T`` with
    ``C = R^T R``: no square root of a matrix, so covariances may be singular.

    It is biased: of N clips of one distribution it is positive and falls about as 1/N
    (Gui et al., section 2.3), all the more where N is not several times the number of
    dimensions. Compare sets of equal numbers of clips, or see `extrapolated_distance`.

    Parameters
    ----------
    first : array [N, D]
        At least two embeddings.
    second : array [M, D]
        At least two embeddings.

    Returns
    -------
    float
        Not negative; 0 for equal means and covariances.

    Raises
    ------
    ValueError
        If a set has fewer than two embeddings, or the dimensions differ.
    """
    one, other = (np.asarray(x, dtype=np.float64) for x in (first, second))
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1]:
        raise ValueError(f"embeddings are {one.shape} and {other.shape}, not [N, D]")
    if min(len(one), len(other)) < 2:
        raise ValueError("a set of one clip has no covariance: give two at least")
    between = np.sum((one.mean(0) - other.mean(0)) ** 2)
    roots = _root(one), _root(other)
    spread = sum(np.sum(root**2) for root in roots)
    common = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    return max(0.0, float(between + spread - 2 * common))


def _root(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """R [at most D, D] with ``R^T R`` the sample covariance of values [N, D]."""
    centred = (values - values.mean(0)) / np.sqrt(len(values) - 1)
    root: NDArray[np.float64] = np.asarray(np.linalg.qr(centred, mode="r"))
    return root


def extrapolated_distance(
    first: Embeddings, second: Embeddings, seed: int = 0, sizes: int = 15
) -> float:
    """FAD-infinity: the distance extrapolated to sets of unlimited size.

    Intercept of the least-squares line through distances of random parts of both sets
    against 1/N (Gui et al., section 2.3, who take parts of one set and keep a large
    reference). N runs from a quarter of the smaller set to all of it, in steps of equal
    size. With few clips, or fewer than dimensions, the line does not fit: an estimate
    may then be far off, even negative.

    Parameters
    ----------
    first : array [N, D]
        Embeddings.
    second : array [M, D]
        Embeddings.
    seed : int
        Seed of the draw.
    sizes : int
        Numbers N of clips, at least two.

    Returns
    -------
    float
        Not bounded below.
    """
    rng = np.random.default_rng(seed)
    whole = min(len(first), len(second))
    counts = np.unique(np.linspace(max(2, whole // 4), whole, sizes).astype(int))
    if len(counts) < 2:
        return frechet_distance(first, second)
    distances = [
        frechet_distance(
            *(x[rng.choice(len(x), count, replace=False)] for x in (first, second))
        )
        for count in counts
    ]
    _, intercept = np.polyfit(1 / counts, distances, 1)
    return float(intercept)
