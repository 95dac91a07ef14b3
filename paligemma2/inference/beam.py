"""Beam search: the best few answers of every row side by side.

Answers are compared by the sum of their tokens' log-probabilities, divided by `length ** length_penalty`.
The probabilities are the model's own: a grammar only takes answers away, so the search is for the most likely
of those allowed.

Which answers count as ended is a rule with a name. "hf" is that of Hugging Face's `generate` with
`early_stopping="never"`: the end token is among the best `beams` continuations of its row; one beam is then
greedy decoding. "big_vision" (its `beam_decode`) lets every beam end at every step. By either rule, what has
ended goes before what was cut.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from paligemma2.inference.constraints import Constraint, Progress
from paligemma2.model.cache import KVCache
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.types import Decoding


@dataclass(frozen=True)
class Hypothesis:
    """A beginning of an answer, or a whole one: its token ids and their log-probabilities.

    `location_log_probs` are those of all location tokens together at the place of each token.
    """

    ids: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()
    location_log_probs: tuple[float, ...] = ()

    def extended(self, token: int, log_prob: float, location_log_prob: float) -> "Hypothesis":
        """With one more token."""
        return Hypothesis(
            (*self.ids, token),
            (*self.log_probs, log_prob),
            (*self.location_log_probs, location_log_prob),
        )


def beam_search(
    model: PaliGemma2Model,
    logits: Tensor,
    cache: KVCache,
    decoding: Decoding,
    constraints: Sequence[Constraint | None],
) -> list[Hypothesis]:
    """The best answer of each row: the best that ended, or the best beginning if `max_new_tokens` cut all.

    Args:
        model: in evaluation mode.
        logits: float32 [batch, vocab] of the first token.
        cache: holds the prompts, with room for `max_new_tokens`.
        decoding: `beams`, `length_penalty` and `max_new_tokens` count.
        constraints: for each row its grammar or None.

    Raises:
        InputError: no answer of a grammar fits into `max_new_tokens`.
    """
    end, beams, prompt_length = model.config.eos_token_id, decoding.beams, cache.longest
    rows = [_Row(decoding, end) for _ in constraints]
    progress = Progress([each for each in constraints for _ in range(beams)], decoding.max_new_tokens, end)
    logits, cache = logits.repeat_interleave(beams, dim=0), cache.repeated(beams)
    for count in range(1, decoding.max_new_tokens + 1):
        free = logits[:, : model.config.num_text_rows].log_softmax(dim=-1)
        locations = free[:, model.config.location_rows].logsumexp(dim=-1)
        log_probs = progress.restrict(free)
        scores = torch.tensor([row.scores for row in rows], device=log_probs.device)
        best = _best_continuations(scores, log_probs, locations)
        if decoding.beam_rule == "big_vision":
            ends = _ends(scores, log_probs, locations, end)
        else:
            ends = [[each for each in row[:beams] if each.token == end] for row in best]
        for row, candidates, ended in zip(rows, best, ends, strict=True):
            row.take(candidates, ended)
        if count == decoding.max_new_tokens or all(row.is_done for row in rows):
            break
        sources = [index * beams + beam for index, row in enumerate(rows) for beam in row.sources]
        tokens = [hypothesis.ids[-1] for row in rows for hypothesis in row.live]
        is_dead = [score == -math.inf for row in rows for score in row.scores]
        progress.advance([None if dead else t for t, dead in zip(tokens, is_dead, strict=True)], sources)
        cache.reorder(sources, start=prompt_length)
        logits = model.step(torch.tensor(tokens, device=log_probs.device), cache)
    return [row.best for row in rows]


class _Candidate(NamedTuple):
    score: float
    beam: int
    token: int
    log_prob: float
    location_log_prob: float


def _best_continuations(scores: Tensor, log_probs: Tensor, locations: Tensor) -> list[list[_Candidate]]:
    """For each row its best `2 * beams` continuations, best first: at least `beams` of them do not end.

    Args:
        scores: float32 [batch, beams], -inf for a place that holds no hypothesis.
        log_probs: float32 [batch * beams, vocab].
        locations: float32 [batch * beams], the log-probabilities of all location tokens together.
    """
    batch, beams = scores.shape
    vocab = log_probs.shape[1]
    added = log_probs.view(batch, beams * vocab)
    best = (scores[:, :, None] + log_probs.view(batch, beams, vocab)).flatten(1).topk(2 * beams, dim=1)
    sources, tokens = best.indices // vocab, best.indices % vocab
    log_prob, location = added.gather(1, best.indices), locations.view(batch, beams).gather(1, sources)
    columns = (best.values, sources, tokens, log_prob, location)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [[_Candidate(*each) for each in zip(*row, strict=True)] for row in rows]


def _ends(scores: Tensor, log_probs: Tensor, locations: Tensor, end: int) -> list[list[_Candidate]]:
    """For each row what ending now would give each of its beams; see `_best_continuations`."""
    batch, beams = scores.shape
    log_prob = log_probs[:, end].view(batch, beams)
    columns = (scores + log_prob, log_prob, locations.view(batch, beams))
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [
        [
            _Candidate(score, beam, end, added, location)
            for beam, (score, added, location) in enumerate(zip(*row, strict=True))
        ]
        for row in rows
    ]


class _Row:
    """The beams of one row, best first, and the best answer that has ended."""

    def __init__(self, decoding: Decoding, end: int) -> None:
        self.live = [Hypothesis()] * decoding.beams
        self.scores = [0.0] + [-math.inf] * (decoding.beams - 1)
        self.sources = list(range(decoding.beams))
        self._decoding = decoding
        self._end = end
        self._ended: Hypothesis | None = None
        self._ended_score = -math.inf

    @property
    def best(self) -> Hypothesis:
        """The best answer that has ended, or else the best beginning."""
        return self.live[0] if self._ended is None else self._ended

    @property
    def is_done(self) -> bool:
        """Whether no beam can become better than the best answer, however probable its rest."""
        longest = self._decoding.max_new_tokens**self._decoding.length_penalty
        return self._ended is not None and self.scores[0] / longest <= self._ended_score

    def take(self, candidates: Sequence[_Candidate], ends: Sequence[_Candidate]) -> None:
        """One step on, from the best continuations and those that count as ended."""
        before, beams = self.live, self._decoding.beams
        for each in ends:
            if each.score > -math.inf:
                self._finish(_extended(before, each), each.score)
        going_on = [each for each in candidates if each.token != self._end][:beams]
        self.live = [_extended(before, each) for each in going_on]
        self.scores = [each.score for each in going_on]
        self.sources = [each.beam for each in going_on]

    def _finish(self, hypothesis: Hypothesis, score: float) -> None:
        score /= len(hypothesis.ids) ** self._decoding.length_penalty
        if score > self._ended_score:
            self._ended, self._ended_score = hypothesis, score


def _extended(live: Sequence[Hypothesis], candidate: _Candidate) -> Hypothesis:
    token = candidate.token, candidate.log_prob, candidate.location_log_prob
    return live[candidate.beam].extended(*token)
