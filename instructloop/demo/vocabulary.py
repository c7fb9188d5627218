"""Split text into the words that the simulated preference counts; knows no model and no score."""

from __future__ import annotations

import re

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?|\d+")


def _listed(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTION_WORDS = _listed(
    """a about above after again against all also always am an and another any anyone are as at away
    be because been before being below between both but by can could did do does doing done down
    during each either else enough even ever every few for from further get gets got had has have
    having he her here hers herself him himself his how however i if in into is it its itself just
    let like made make makes many may maybe me might mine more most much must my myself neither no
    nor not now of off often on once one only or other others our ours ourselves out over own per
    quite rather same shall she should since so some someone something such than that the their
    theirs them themselves then there these they this those though through to too two under until
    up upon us very was we were what when where whether which while who whom whose why will with
    within without would yes yet you your yours yourself
    i'm i've i'll i'd you're you've you'll you'd he's she's it's we're we've we'll they're they've
    they'll that's there's what's let's don't doesn't didn't isn't aren't wasn't weren't can't
    couldn't won't wouldn't shouldn't haven't hasn't hadn't"""
)

# Words of the order itself, not of its topic: an answer gains nothing by repeating them.
REQUEST_WORDS = _listed(
    """answer answers asked asking asks brainstorm brief briefly caption change clear come compose
    condense correct create decide describe description draft easy explain explains explanation
    express find finish fix friendly give ideas imagine introduction invent key kind lines line list
    little main mention message name need note notice offer opening paragraph phrase pick plain
    please point polite polish pretend produce propose pull put question read reason rephrase
    request retell reword rewrite say says sentence sentences share short shorten shorter simple
    simplify simply small story suggest sum summarize summary tale tell text think three tiny turn
    use using want warm way ways word words write"""
)


def words(text: str) -> list[str]:
    """List the lower-case words of `text` in order; numbers count, punctuation does not."""
    return [match.replace("’", "'") for match in _WORD.findall(text.lower())]


def stem(word: str) -> str:
    """Cut the commonest English endings, so that `trees` covers `tree` and `baking` covers `bake`.

    Crude on purpose: it is only ever compared with itself.
    """
    for ending in ("'s", "ing", "ies", "ied", "ed", "es", "ly", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)] + ("y" if ending in ("ies", "ied") else "")
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiou":
        word = word[:-1]
    return word[:-1] if len(word) > 3 and word[-1] == "e" else word


def content_words(text: str) -> list[str]:
    """List the words of `text` that carry meaning, in order, unstemmed."""
    return [word for word in words(text) if word not in FUNCTION_WORDS]


def topic_stems(request: str) -> frozenset[str]:
    """Return the stems a request is about: its content words without the words of the order."""
    return frozenset(stem(word) for word in content_words(request) if word not in REQUEST_WORDS)


def ngrams(tokens: list[str], size: int) -> list[tuple[str, ...]]:
    """List every run of `size` neighbouring tokens, in order; empty where the text is shorter."""
    return [tuple(tokens[i : i + size]) for i in range(len(tokens) - size + 1)]
