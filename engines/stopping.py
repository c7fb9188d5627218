"""Incremental text: whole characters only, and never any part of a stop string.

Knows no tokenizer and no engine: it is given a decode function and texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

REPLACEMENT = "\ufffd"
# An incomplete UTF-8 character is at most 3 bytes, in at most as many tokens.
MAX_INCOMPLETE = 3
# Bounds the decode window inside a run of bytes that are no text at all.
MAX_HELD_TOKENS = 32


class Utf8Detokenizer:
    """Turns token ids into text as they come, holding back only an unfinished character.

    decode maps any run of token ids to text and shows undecodable bytes as U+FFFD. The pieces
    concatenate to the decoded whole. Each piece is decoded together with the piece before it,
    because tokenizers may treat the first token of a run differently (a stripped space).
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._num_context = 0
        self._context_text = ""
        self._num_emitted = 0

    def push(self, token_id: int) -> str:
        """Add one id and return the characters that it completed, possibly none."""
        self._ids.append(token_id)
        text = self._decode(self._ids)[len(self._context_text) :]
        num_new = len(self._ids) - self._num_context
        num_held = _num_incomplete(text, num_new)
        is_complete = bool(text) and num_held == 0
        if is_complete or num_new > MAX_HELD_TOKENS:
            return self._advance(text)
        piece = text[self._num_emitted : len(text) - num_held]
        self._num_emitted += len(piece)
        return piece

    def flush(self) -> str:
        """Return what is still held: a last character that never completed, as U+FFFD."""
        return self._advance(self._decode(self._ids)[len(self._context_text) :])

    def _advance(self, text: str) -> str:
        """Emit the rest of text and keep only its ids as the context of what follows."""
        piece = text[self._num_emitted :]
        self._ids = self._ids[self._num_context :]
        self._num_context = len(self._ids)
        self._context_text = self._decode(self._ids)
        self._num_emitted = 0
        return piece


def _num_incomplete(text: str, num_tokens: int) -> int:
    """Count the U+FFFD at the end that may still turn into a character.

    Over so few tokens all of them may: a byte-fallback decoder shows every byte of an unfinished
    run as its own U+FFFD, those of finished characters in the context included.
    """
    num_replaced = len(text) - len(text.rstrip(REPLACEMENT))
    return num_replaced if num_tokens <= MAX_INCOMPLETE else min(num_replaced, MAX_INCOMPLETE)


class StopStringFilter:
    """Passes text on up to the first stop string, holding back only what may still become one.

    The stop string that is completed first wins; of several completed by the same character the
    longest. So the result does not depend on how the text was cut into pieces.

    Raises:
        ValueError: a stop string is empty.
    """

    def __init__(self, stop: Iterable[str]) -> None:
        self._stop = tuple(stop)
        if not all(self._stop):
            raise ValueError("stop: a stop string is empty; leave it out or give it a character")
        self._held = ""
        self.matched: str | None = None

    @property
    def is_stopped(self) -> bool:
        """Say whether a stop string has appeared; nothing is passed on after it."""
        return self.matched is not None

    def push(self, text: str) -> str:
        """Add text and return what may be shown now."""
        if self.is_stopped:
            return ""
        seen = self._held + text
        match = self._first_match(seen)
        if match is not None:
            start, self.matched = match
            self._held = ""
            return seen[:start]
        num_held = self._num_undecided(seen)
        self._held = seen[len(seen) - num_held :]
        return seen[: len(seen) - num_held]

    def flush(self) -> str:
        """Return the held tail once: the text has ended, so it cannot become a stop string."""
        held, self._held = self._held, ""
        return held

    def _first_match(self, text: str) -> tuple[int, str] | None:
        """Return (start, stop string) of the match that ends first, the longest of equals."""
        found = [(text.find(stop), stop) for stop in self._stop]
        ends = [(start + len(stop), start, stop) for start, stop in found if start >= 0]
        if not ends:
            return None
        _, start, stop = min(ends)
        return start, stop

    def _num_undecided(self, text: str) -> int:
        """Return the length of the longest end of text that properly begins a stop string."""
        longest = max((len(stop) for stop in self._stop), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stop):
                return length
        return 0
