"""The SIMULATED preference of the demo: what its invented labelers like about an answer.

It stands in for people so that the demo needs none; it is not a claim about what people like. It
knows no model, no adapter and no training, and the trainer cannot import it: what the reward model
learns of it, it learns from rankings.

Four terms, each in [0, 1], and their usual weights:

* tone 0.3: kind words (VADER). Full marks at a compound of 0.85, three or four kind words, so that
  more of them buys nothing. Exclamation marks and capitals are removed first.
* plain words 0.3: the mean frequency (wordfreq, Zipf scale) of the distinct content words, from
  4.2 (a newspaper's words) to 5.4 (the words of every day). Function words do not count, nor does
  repeating an easy word; an invented word counts 0.
* finished 0.2: the model ended the answer itself, and the last sentence is closed.
* coverage 0.2: the share of the request's own topic words that come back, full at half of them.
  Words of the order ("write", "short") do not count.

Penalties, for what an optimiser would find (each at most 0.4, taken from the weighted sum):

* repetition: the share of 3-grams that were already said;
* length: none from 15 to 45 tokens, so length itself earns nothing; the sum falls outside;
* word salad: function words outside 30% to 70% of all words (a list of nice easy words has few);
* sweetness: more than a fifth of the words are kind ones;
* off topic: fewer than a quarter of the request's topic words come back, so that one stock answer
  for everything stays below an ordinary answer to the point;
* copying: more than half of the answer's 4-grams stand in the request;
* layout: line breaks, list marks, headings, emoji (the guideline asks for plain sentences).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from instructloop.demo.vocabulary import (
    FUNCTION_WORDS,
    content_words,
    ngrams,
    stem,
    topic_stems,
    words,
)

FLAT_LENGTH_TOKENS = (15, 45)
_FULL_TONE_COMPOUND = 0.85
_PLAIN_ZIPF = (4.2, 5.4)
_COVERAGE_FULL_AT = 0.5
_MAX_PENALTY = 0.4
_CLOSED_SENTENCE = re.compile(r"[.!?][\"'”’)]?\s*$")
_LAYOUT = re.compile(r"\S\s*\n\s*\S|^\s*(?:[-*•#>]|\d+[.)])|[*_#`|<>{}\[\]~]|[\u2600-\U0001faff]")


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each term counts; they sum to 1."""

    tone: float = 0.3
    plain: float = 0.3
    finished: float = 0.2
    coverage: float = 0.2


@dataclass(frozen=True, slots=True)
class Terms:
    """What one answer earns per term, each in [0, 1], and what it loses in all."""

    tone: float
    plain: float
    finished: float
    coverage: float
    penalty: float


def utility(
    prompt_text: str, answer_text: str, is_finished: bool, num_tokens: int, weights: Weights
) -> float:
    """Score an answer in [0, 1]; `prompt_text` is the request without any template.

    `is_finished` says that the model ended the answer itself (finish_reason "stop"), `num_tokens`
    counts the tokens of the text, not its end.
    """
    return weigh(terms_of(prompt_text, answer_text, is_finished, num_tokens), weights)


def weigh(terms: Terms, weights: Weights) -> float:
    """Combine terms into a utility in [0, 1]."""
    total = (
        weights.tone * terms.tone
        + weights.plain * terms.plain
        + weights.finished * terms.finished
        + weights.coverage * terms.coverage
    )
    return _clip(total - terms.penalty)


@lru_cache(maxsize=65_536)
def terms_of(prompt_text: str, answer_text: str, is_finished: bool, num_tokens: int) -> Terms:
    """Measure every term of an answer; an answer without words earns nothing at all."""
    if not words(answer_text):
        return Terms(0.0, 0.0, 0.0, 0.0, _MAX_PENALTY)
    covered = coverage(prompt_text, answer_text)
    return Terms(
        tone=tone(answer_text),
        plain=plainness(answer_text),
        finished=float(is_finished and _CLOSED_SENTENCE.search(answer_text) is not None),
        coverage=covered,
        penalty=sum(
            (
                repetition_penalty(answer_text),
                length_penalty(num_tokens),
                salad_penalty(answer_text),
                sweetness_penalty(answer_text),
                off_topic_penalty(covered),
                copying_penalty(prompt_text, answer_text),
                layout_penalty(answer_text),
            )
        ),
    )


def tone(answer: str) -> float:
    """Measure kindness in [0, 1] by VADER's compound; neutral or unkind text earns 0."""
    calm = answer.lower().replace("!", ".")
    return _clip(_vader().polarity_scores(calm)["compound"] / _FULL_TONE_COMPOUND)


def plainness(answer: str) -> float:
    """Measure how common the distinct content words are, in [0, 1]; none at all earns 0."""
    distinct = set(content_words(answer))
    if not distinct:
        return 0.0
    low, high = _PLAIN_ZIPF
    mean_zipf = sum(_zipf(word) for word in distinct) / len(distinct)
    return _clip((mean_zipf - low) / (high - low))


def coverage(request: str, answer: str) -> float:
    """Measure the share of the request's topic words in the answer, full at half of them.

    A request without topic words is covered by any answer.
    """
    topic = topic_stems(request)
    if not topic:
        return 1.0
    said = {stem(word) for word in content_words(answer)}
    return _clip(len(topic & said) / len(topic) / _COVERAGE_FULL_AT)


def repetition_penalty(answer: str) -> float:
    """Charge the share of 3-grams that already occurred."""
    trigrams = ngrams(words(answer), 3)
    return _charge(1 - len(set(trigrams)) / len(trigrams)) if trigrams else 0.0


def length_penalty(num_tokens: int) -> float:
    """Charge nothing from 15 to 45 tokens, and steadily more outside."""
    low, high = FLAT_LENGTH_TOKENS
    if num_tokens < low:
        return _charge((low - num_tokens) / low)
    return _charge(0.02 * max(0, num_tokens - high))


def salad_penalty(answer: str) -> float:
    """Charge text that is not made like sentences: too few or too many function words."""
    said = words(answer)
    share = sum(word in FUNCTION_WORDS for word in said) / max(1, len(said))
    return _charge(3 * max(0.0, 0.3 - share, share - 0.7))


def sweetness_penalty(answer: str) -> float:
    """Charge kind words beyond a fifth of all words."""
    said = words(answer)
    lexicon = _vader().lexicon
    share = sum(lexicon.get(word, 0.0) > 0 for word in said) / max(1, len(said))
    return _charge(3 * max(0.0, share - 0.2))


def off_topic_penalty(covered: float) -> float:
    """Charge an answer whose coverage term lies below a half."""
    return _charge(0.5 * max(0.0, 0.5 - covered))


def copying_penalty(request: str, answer: str) -> float:
    """Charge an answer of which more than half the 4-grams stand in the request."""
    said = ngrams(words(answer), 4)
    asked = set(ngrams(words(request), 4))
    share = sum(gram in asked for gram in said) / max(1, len(said))
    return _charge(max(0.0, share - 0.5))


def layout_penalty(answer: str) -> float:
    """Charge lists, headings, markup and line breaks between sentences."""
    return 0.15 if _LAYOUT.search(answer.strip()) else 0.0


def _charge(amount: float) -> float:
    return min(_MAX_PENALTY, amount)


def _clip(value: float) -> float:
    return min(1.0, max(0.0, value))


@cache
def _vader() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


@cache
def _zipf_frequency() -> Callable[[str, str], float]:
    from wordfreq import zipf_frequency

    return zipf_frequency


@lru_cache(maxsize=65_536)
def _zipf(word: str) -> float:
    return _zipf_frequency()(word, "en")
