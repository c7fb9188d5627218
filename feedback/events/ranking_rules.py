"""What makes a list of tie groups a ranking of given choices; it does not know any event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence


def require_distinct(field: str, ids: Iterable[str]) -> None:
    """Raise ValueError if an id occurs twice in `field`."""
    doubled = sorted(name for name, count in Counter(ids).items() if count > 1)
    if doubled:
        raise ValueError(f"{field} names {doubled[0]!r} more than once: name each choice once")


def require_ranking(
    field: str, tie_groups: Sequence[Sequence[str]], choice_ids: Iterable[str]
) -> None:
    """Raise ValueError unless `tie_groups` (best first) place each choice exactly once."""
    ranked = [choice_id for group in tie_groups for choice_id in group]
    if any(not group for group in tie_groups):
        raise ValueError(f"{field} holds an empty group: leave it out")
    require_distinct(field, ranked)
    known = set(choice_ids)
    unknown = sorted(set(ranked) - known)
    if unknown:
        raise ValueError(f"{field} names {unknown[0]!r}, which is not on the ballot: remove it")
    missing = sorted(known - set(ranked))
    if missing:
        raise ValueError(f"{field} leaves out {missing[0]!r}: place every choice of the ballot")
