"""Finds an answer that tells who wrote it; it does not know votes."""

from __future__ import annotations

import re
from collections.abc import Iterable

_ADAPTER_ID = re.compile(r"(?:sft|init|rm|value|ppo|base)-[0-9a-f]{16}", re.IGNORECASE)


def leaks_identity(texts: Iterable[str], adapter_ids: Iterable[str]) -> bool:
    """Whether any text holds an adapter id, or one of these adapters' names as a word.

    A voter who reads which model wrote an answer is not a blind voter (CASES E1).
    """
    names = "|".join(re.escape(name) for name in sorted(set(adapter_ids)) if name)
    by_name = re.compile(rf"(?<![\w-])(?:{names})(?![\w-])", re.IGNORECASE) if names else None
    return any(
        _ADAPTER_ID.search(text) or (by_name is not None and by_name.search(text)) for text in texts
    )
