"""Logits -> next tokens: temperature, then top_k, then top_p, in the order and with the ties of transformers.

A row's token depends on its own logits, its parameters and its own draw only. The candidates are put into one order
(probability down, then id up) before the draw, so that no detail of a partial sort can show.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

_SLACK = 14
_NUCLEUS = 242
_CHUNK = 64


@dataclass(frozen=True, slots=True)
class Filter:
    """What a distribution is cut to. `temperature` 0 takes the best token; `top_k` 0 and `top_p` 1 cut nothing."""

    temperature: float
    top_k: int
    top_p: float


@dataclass(frozen=True, slots=True)
class Candidates:
    """Tokens that may be drawn, best first.

    Attributes:
        ids: Token ids [rows, candidates].
        weights: Their probabilities up to a factor per row; 0 for those cut off [rows, candidates].
    """

    ids: Ids
    weights: Floats

    def pick(self, draws: Floats) -> Ids:
        """Invert the cumulative distribution at `draws`, each in [0, 1) [rows] -> [rows]."""
        cumulative = self.weights.cumsum(1)
        index = (cumulative <= draws[:, None] * cumulative[:, -1:]).sum(1)
        last = self.weights.shape[1] - 1 - (self.weights[:, ::-1] > 0).argmax(1)
        return self.ids[np.arange(len(self.ids)), np.minimum(index, last)]


def uniforms(seed: int, count: int) -> Floats:
    """Draw `count` numbers in [0, 1); the t-th depends on `seed` and t alone.

    Source: Salmon et al. (2011), Philox, doi:10.1145/2063384.2063405, as in numpy.
    """
    return np.random.Generator(np.random.Philox(key=seed)).random(count)


def sample(logits: Tensor, filters: Sequence[Filter], draws: Floats) -> list[int]:
    """Choose each row's next token.

    Args:
        logits: [rows, vocabulary], any float type.
        filters: One for each row.
        draws: One number in [0, 1) for each row.
    """
    chosen = np.zeros(len(filters), dtype=np.int64)
    for group in set(filters):
        rows = np.flatnonzero([one == group for one in filters])
        part = logits if len(rows) == len(logits) else logits[_index(rows, logits.device)]
        if group.temperature == 0:
            chosen[rows] = part.float().argmax(-1).cpu().numpy()
        else:
            chosen[rows] = _draw(part, group, draws[rows])
    return [int(token) for token in chosen]


def _index(array: Ids | Floats, device: torch.device) -> Tensor:
    return torch.as_tensor(array, device=device)


def _draw(logits: Tensor, cut: Filter, draws: Floats) -> Ids:
    if cut.top_k == 0 and cut.top_p >= 1:
        return _draw_any(logits, cut.temperature, draws)
    vocabulary = logits.shape[-1]
    size = (cut.top_k or _NUCLEUS) + _SLACK
    ids, left = np.zeros(len(draws), dtype=np.int64), np.arange(len(draws))
    while len(left):
        size = min(size, vocabulary)
        found, whole = candidates(logits[_index(left, logits.device)], cut, size=size)
        ids[left[whole]] = found.pick(draws[left])[whole]
        left, size = left[~whole], size * 16
    return ids


def _draw_any(logits: Tensor, temperature: float, draws: Floats) -> Ids:
    """Draw from whole distributions, in the order of the ids."""
    weights = (logits.float() / temperature).softmax(-1)
    cumulative = weights.cumsum(-1, dtype=torch.float64)
    goal = _index(draws, logits.device)[:, None] * cumulative[:, -1:]
    chosen = torch.searchsorted(cumulative, goal, right=True)[:, 0]
    last = weights.shape[-1] - 1 - (weights.flip(-1) > 0).float().argmax(-1)
    ids: Ids = torch.minimum(chosen, last).cpu().numpy()
    return ids


def candidates(logits: Tensor, cut: Filter, *, size: int) -> tuple[Candidates, NDArray[np.bool_]]:
    """Cut distributions, looking at the `size` best tokens only.

    Args:
        logits: [rows, vocabulary].
        cut: For all rows; its temperature is above 0.
        size: At least `cut.top_k`, at most the vocabulary.

    Returns:
        The candidates, and for each row whether none beyond the `size` best belongs to them [rows].
    """
    values, ids = (part.cpu().numpy() for part in _best(logits, size))
    order = np.lexsort((ids, -values))
    ids, scores = np.take_along_axis(ids, order, 1), np.take_along_axis(values, order, 1).astype(np.float64)
    scores /= cut.temperature
    # As in transformers, everything that ties with the k-th best stays.
    kept = scores >= scores[:, cut.top_k - 1, None] if 0 < cut.top_k <= size else np.ones_like(scores, dtype=bool)
    weights = np.where(kept, np.exp(scores - scores[:, :1]), 0.0)
    before = weights.cumsum(1) - weights
    if cut.top_p < 1:
        kept &= before < cut.top_p * _total(logits, weights, scores, cut)
        kept[:, 0] = True
    whole = np.full(len(ids), size == logits.shape[-1]) | (~kept[:, -1] & (scores[:, -1] < _last_kept(scores, kept)))
    return Candidates(ids, np.where(kept, weights, 0.0)), whole


def _last_kept(scores: Floats, kept: NDArray[np.bool_]) -> Floats:
    return np.where(kept, scores, np.inf).min(1)


def _total(logits: Tensor, weights: Floats, scores: Floats, cut: Filter) -> Floats:
    """Sum of the weights before top_p: over the candidates, or without top_k over the whole vocabulary [rows, 1]."""
    if cut.top_k or weights.shape[1] == logits.shape[-1]:
        return weights.sum(1, keepdims=True)
    # softmax works row by row; a sum over rows of another batch size may be split otherwise.
    top = (logits.float() / cut.temperature).softmax(-1).amax(-1, keepdim=True)
    return 1.0 / top.cpu().numpy().astype(np.float64)


def _best(logits: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The `size` largest logits of each row and their ids, in any order.

    On a large vocabulary only chunks are sorted whose maximum is among the `size` largest maxima: no other can hold one
    of the `size` largest logits.
    """
    rows, vocabulary = logits.shape
    chunks = vocabulary // _CHUNK
    if vocabulary % _CHUNK or chunks <= 2 * size:
        values, ids = logits.float().topk(size, sorted=False)
        return values, ids
    chunked = logits.view(rows, chunks, _CHUNK)
    which = chunked.amax(-1).topk(size, sorted=False).indices
    inside = chunked.gather(1, which[:, :, None].expand(-1, -1, _CHUNK)).view(rows, -1)
    values, at = inside.float().topk(size, sorted=False)
    return values, which.gather(1, at // _CHUNK) * _CHUNK + at % _CHUNK
