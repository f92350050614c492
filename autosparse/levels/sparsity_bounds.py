"""How many zeros a layer's weights may bear, read off the weights alone.

Two measures, both of one-shot magnitude pruning. Neither knows the data: they are for spaces that
are too wide to be measured, and a level that they refuse might still have won.

Sources: the PQ index and its bound on the weights to keep (Diao et al. 2023, "Pruning Deep Neural
Networks from a Sparsity Perspective", SAP, theorem 3); essential sparsity (Jaiswal et al. 2023),
the knee beyond which quality falls fast, here the knee of the layer's own norm, found as the point
farthest from the chord (Satopaa et al. 2011).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]


def pq_index(weights: Floats, p: float = 1.0, q: float = 2.0) -> float:
    """The PQ index of weights of any shape, `1 - d^(1/q - 1/p) |w|_p / |w|_q`.

    Returns:
        0 where all magnitudes are equal, `1 - d^(1/q - 1/p)` where one weight is not zero, and in
        between otherwise: the larger, the more of the norm is in few weights. The same for every
        scale of the weights. Zeros alone count as one weight that is not zero: none is needed.
    """
    magnitudes = np.abs(np.asarray(weights, dtype=np.float64)).ravel()
    count, largest = magnitudes.size, magnitudes.max(initial=0.0)
    flattest = float(count ** (1 / q - 1 / p)) if count else 1.0
    if largest == 0.0:
        return 1.0 - flattest
    scaled = magnitudes / largest  # powers of tiny weights must not vanish
    norms = (scaled**p).sum() ** (1 / p) / (scaled**q).sum() ** (1 / q)
    return float(1.0 - flattest * norms)


def pq_highest_sparsity(
    weights: Floats, slack: float = 1.0, p: float = 1.0, q: float = 2.0
) -> float:
    """The largest fraction of zeros that the PQ index leaves room for.

    Where pruning by magnitude may remove at most `slack` times the p-norm (to the power p) that it
    keeps, at least `d (1 + slack)^(-q / (q - p)) (1 - PQ)^(p q / (q - p))` of `d` weights stay.

    Args:
        weights: of any shape.
        slack: 0 allows only zeros that are there already.
        p: of the smaller norm, above 0 and below q.
        q: of the larger norm.

    Returns:
        In [0, 1]; never less than the zeros that the weights came with.
    """
    if not np.any(weights):
        return 1.0
    share = 1.0 - pq_index(weights, p, q)
    kept = (1.0 + slack) ** (-q / (q - p)) * share ** (p * q / (q - p))
    return float(np.clip(1.0 - kept, 0.0, 1.0))


def knee_sparsity(weights: Floats) -> float:
    """The fraction of zeros at the knee of the norm that pruning by magnitude leaves.

    Returns:
        In [0, 1]: where the kept share of the 2-norm, over the share of zeros, lies farthest above
        the straight line from all weights to none; never less than the zeros they came with.
    """
    magnitudes = np.sort(np.abs(np.asarray(weights, dtype=np.float64)).ravel())
    if not magnitudes.any():
        return 1.0
    kept = np.concatenate([np.cumsum((magnitudes[::-1] / magnitudes[-1]) ** 2)[::-1], [0.0]])
    zeros = np.linspace(0.0, 1.0, magnitudes.size + 1)
    above = np.sqrt(kept / kept[0]) - (1.0 - zeros)
    return float(zeros[int(np.argmax(above))])
