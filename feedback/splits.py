"""Divide prompts into train, judge and gate so that none of them shares a person with another.

It sees hashes and pseudonyms only; it does not know rows, texts or events.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from feedback.snapshot_rows import Split

# A division is acceptable if every split gets at least this part of its share of the rankings.
_LEAST_PART_OF_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class PromptUse:
    """One use of a prompt: who wrote it and, for a ranking, who ranked its answers."""

    prompt_hash: str
    author: str
    labeler: str | None = None
    is_demonstration: bool = False


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """The split of every prompt, and whether persons ended up in one split each."""

    split_of: Mapping[str, Split]
    labelers_disjoint: bool
    authors_disjoint: bool


def plan_splits(uses: Collection[PromptUse], shares: Mapping[Split, float], seed: int) -> SplitPlan:
    """Assign every prompt to a split, the same for the same set of uses.

    Prompts joined by a person stay together (union-find). Where that ties too much together to
    meet the shares, first the authors' ties are given up, then the labelers'; the plan says so.
    """
    ladder: tuple[Callable[[PromptUse], tuple[str | None, ...]], ...] = (
        lambda use: (use.author, use.labeler),
        lambda use: (use.labeler,),
        lambda use: (),
    )
    split_of: dict[str, Split] = {}
    for persons_of in ladder:
        links = [(use.prompt_hash, person) for use in uses for person in persons_of(use) if person]
        split_of = _assign(_components(uses, links), uses, shares, seed)
        if _meets_shares(split_of, uses, shares):
            break
    return SplitPlan(
        split_of=split_of,
        labelers_disjoint=_is_disjoint(((use.labeler, use.prompt_hash) for use in uses), split_of),
        authors_disjoint=_is_disjoint(((use.author, use.prompt_hash) for use in uses), split_of),
    )


def _components(
    uses: Iterable[PromptUse], links: Iterable[tuple[str, str]]
) -> list[frozenset[str]]:
    """Return the sets of prompts that persons join, directly or through others."""
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def find(node: tuple[str, str]) -> tuple[str, str]:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]  # path halving
            node = parent[node]
        return node

    for prompt_hash, person in links:
        parent[find(("prompt", prompt_hash))] = find(("person", person))
    members: dict[tuple[str, str], set[str]] = {}
    for prompt_hash in {use.prompt_hash for use in uses}:
        members.setdefault(find(("prompt", prompt_hash)), set()).add(prompt_hash)
    return [frozenset(prompts) for prompts in members.values()]


def _assign(
    components: Iterable[frozenset[str]],
    uses: Collection[PromptUse],
    shares: Mapping[Split, float],
    seed: int,
) -> dict[str, Split]:
    """Give each component, in the order of its keyed hash, to the split that lacks most.

    A split's lack is counted in rankings. Components without rankings follow: with demonstrations
    they go to train, the only split that learns from them, else where the prompts are lacking.
    """
    num_rankings = Counter(use.prompt_hash for use in uses if use.labeler is not None)
    demonstrated = {use.prompt_hash for use in uses if use.is_demonstration}
    ordered = sorted(components, key=lambda prompts: _keyed_hash(min(prompts), seed))
    weight_of = {prompts: sum(num_rankings[name] for name in prompts) for prompts in ordered}
    ranked = [prompts for prompts in ordered if weight_of[prompts]]
    unranked = [prompts for prompts in ordered if not weight_of[prompts]]
    taught = [prompts for prompts in unranked if prompts & demonstrated]
    served = [prompts for prompts in unranked if not prompts & demonstrated]
    split_of: dict[str, Split] = {name: "train" for prompts in taught for name in prompts}
    split_of |= _fill(ranked, [weight_of[prompts] for prompts in ranked], shares)
    return split_of | _fill(served, [len(prompts) for prompts in served], shares)


def _fill(
    components: Sequence[frozenset[str]], weights: Sequence[int], shares: Mapping[Split, float]
) -> dict[str, Split]:
    total = sum(weights)
    lacking = {split: share * total for split, share in shares.items()}
    split_of: dict[str, Split] = {}
    for prompts, weight in zip(components, weights, strict=True):
        split = max(lacking, key=lambda name: lacking[name])
        lacking[split] -= weight
        split_of |= dict.fromkeys(prompts, split)
    return split_of


def _meets_shares(
    split_of: Mapping[str, Split], uses: Iterable[PromptUse], shares: Mapping[Split, float]
) -> bool:
    held = Counter(split_of[use.prompt_hash] for use in uses if use.labeler is not None)
    total = held.total()
    return all(held[name] >= _LEAST_PART_OF_SHARE * share * total for name, share in shares.items())


def _is_disjoint(uses: Iterable[tuple[str | None, str]], split_of: Mapping[str, Split]) -> bool:
    seen: dict[str, Split] = {}
    return all(
        seen.setdefault(person, split_of[prompt_hash]) == split_of[prompt_hash]
        for person, prompt_hash in uses
        if person is not None
    )


def _keyed_hash(text: str, seed: int) -> bytes:
    return hashlib.blake2b(text.encode(), key=str(seed).encode()).digest()
