"""How answers look as token sequences: repetition, variety, openings; it does not know models.

Counts are over sampled ids, EOS left out, so that they mean the same in every language.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain

Ids = Sequence[int]

OPENING_TOKENS = 5


def repetition(answers: Sequence[Ids]) -> float:
    """Return the mean share of an answer's 3-grams that occurred in it before, in [0, 1]."""
    return sum(map(_repeated_share, answers)) / max(1, len(answers))


def distinct_2(answers: Sequence[Ids]) -> float:
    """Return the share of different ones among all pairs of neighbouring tokens (Li et al. 2016).

    It falls as answers are added, so compare only sets of the same number of answers.
    """
    pairs = list(chain.from_iterable(_ngrams(answer, 2) for answer in answers))
    return len(set(pairs)) / max(1, len(pairs))


def commonest_opening_share(answers: Sequence[Ids]) -> float:
    """Return the share of answers that begin with the commonest 5 tokens.

    An answer that is shorter opens like only those that are equal to it.
    """
    openings = Counter(tuple(answer[:OPENING_TOKENS]) for answer in answers)
    return max(openings.values(), default=0) / max(1, len(answers))


def _repeated_share(answer: Ids) -> float:
    triples = list(_ngrams(answer, 3))
    return 1 - len(set(triples)) / len(triples) if triples else 0.0


def _ngrams(answer: Ids, size: int) -> Iterator[tuple[int, ...]]:
    return (tuple(answer[i : i + size]) for i in range(len(answer) - size + 1))
