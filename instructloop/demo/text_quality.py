"""Guards against a policy that games its judges: plain counts over answers, no preference.

It knows neither the simulated preference nor any model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from instructloop.demo.vocabulary import content_words, ngrams, stem, topic_stems, words

_OPENING_WORDS = 5


def distinct_2(texts: Iterable[str]) -> float:
    """Return the share of different ones among all pairs of neighbouring words (Li et al. 2016).

    It falls as texts are added, so compare only sets of the same number of answers.
    """
    pairs = list(chain.from_iterable(ngrams(words(text), 2) for text in texts))
    return len(set(pairs)) / max(1, len(pairs))


def commonest_opening_share(texts: Iterable[str]) -> float:
    """Return the share of answers that begin with the commonest five words."""
    openings = [tuple(words(text)[:_OPENING_WORDS]) for text in texts]
    return max(Counter(openings).values(), default=0) / max(1, len(openings))


def prompt_match_share(requests: Mapping[str, str], texts: Mapping[str, Sequence[str]]) -> float:
    """Say how often an answer fits its own request better than another one; 0.5 is chance.

    `requests` and `texts` are keyed by prompt id. Fit is the share of a request's topic words in
    the answer. Each answer meets every other request; equal fits count half.
    """
    topics = {prompt_id: topic_stems(requests[prompt_id]) for prompt_id in texts}
    points = 0.0
    num_comparisons = 0
    for prompt_id, answers in texts.items():
        for said in map(_stems, answers):
            own = _fit(topics[prompt_id], said)
            others = [_fit(topic, said) for other, topic in topics.items() if other != prompt_id]
            points += sum((own > fit) + 0.5 * (own == fit) for fit in others)
            num_comparisons += len(others)
    return points / max(1, num_comparisons)


def _stems(text: str) -> frozenset[str]:
    return frozenset(stem(word) for word in content_words(text))


def _fit(topic: frozenset[str], said: frozenset[str]) -> float:
    return len(topic & said) / max(1, len(topic))
