"""What one choice has said so far, in tokens and in text; knows neither engine nor HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field

from engines.seam import Finish, TokenDelta, TopLogprob


@dataclass(slots=True)
class Transcript:
    """One choice's tokens and text as they arrive.

    Shapes: token_ids, token_texts, logprobs, top_logprobs are [T]. offsets [T]: where each
    token's text begins in the answer, in characters.
    """

    token_ids: list[int] = field(default_factory=list)
    token_texts: list[str] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top_logprobs: list[tuple[TopLogprob, ...]] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    finish: Finish | None = None
    num_chars: int = 0
    _next_offset: int = 0
    _num_shown: int = 0

    def add(self, delta: TokenDelta) -> None:
        """Append a delta."""
        self.token_ids.extend(delta.token_ids)
        self.logprobs.extend(delta.logprobs)
        self.top_logprobs.extend(delta.top_logprobs)
        for text in delta.token_texts:
            self.token_texts.append(text)
            self.offsets.append(self._next_offset)
            self._next_offset += len(text)
        if delta.text:
            self.texts.append(delta.text)
            self.num_chars += len(delta.text)
        self.finish = delta.finish

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self.texts)

    @property
    def num_visible_tokens(self) -> int:
        """How many tokens stand for text of the answer: neither EOS nor the stop string.

        A token that begins before the cut counts, also where its end was cut off.
        """
        num_tokens = len(self.token_texts)
        while num_tokens and self.offsets[num_tokens - 1] >= self.num_chars:
            num_tokens -= 1
        return num_tokens

    def newly_shown(self) -> slice:
        """Return the tokens whose text is now wholly out, each once; all visible ones at the end.

        A held-back token comes with the chunk that releases its text.
        """
        start = self._num_shown
        if self.finish is not None:
            end = max(start, self.num_visible_tokens)
        else:
            end = start
            while end < len(self.offsets) and self._is_wholly_out(end):
                end += 1
        self._num_shown = end
        return slice(start, end)

    def visible_text(self, position: int) -> str:
        """Return the part of a token's text that is in the answer."""
        return self.token_texts[position][: max(0, self.num_chars - self.offsets[position])]

    def _is_wholly_out(self, position: int) -> bool:
        """Say so of text that is out; a token without text waits for what follows it."""
        start, length = self.offsets[position], len(self.token_texts[position])
        return start < self.num_chars and start + length <= self.num_chars
