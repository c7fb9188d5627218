"""From the rows of a snapshot to token ids to train on; it does not know models or losses.

What was sampled keeps its logged ids: text decoded from them may encode to others (CASES D13).
Human text (demonstrations, imports) is tokenized here, once: prompt ids + answer ids + EOS.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from feedback.snapshot_rows import DemonstrationRow, PromptRow, RankedChoice, RankingRow
from policy.pretrained import LoadedBase
from trainer.packing import Transcript
from trainer.reward import RankedAnswers

RowT = TypeVar("RowT")
ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Limits:
    """The longest prompt and answer in tokens; prompts lose their start, answers their end."""

    max_prompt_tokens: int = 512
    max_answer_tokens: int = 256


@dataclass(frozen=True, slots=True)
class Accounts:
    """What became of the rows: none is dropped and nothing is cut without a count.

    num_rows: rows given. excluded: rows left out, by reason. cut: of the prompts and answers that
    were kept, how many were cut and by how many tokens in all.
    """

    num_rows: int
    excluded: dict[str, int]
    cut: dict[str, int]


@dataclass(frozen=True, slots=True)
class Examples(Generic[RowT, ItemT]):
    """Token-level examples beside the rows that they were made of, in the order of the rows."""

    rows: tuple[RowT, ...]
    items: tuple[ItemT, ...]
    accounts: Accounts


class Unusable(ValueError):
    """A row cannot become an example; `reason` is a stable name, for the counts."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Tokenizing:
    """How text and logged ids become examples; its hashes belong into a manifest."""

    tokenizer: Any
    eos_id: int
    vocab_size: int
    tokenizer_hash: str
    template_hash: str
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def of(cls, base: LoadedBase, limits: Limits | None = None) -> Tokenizing:
        """Tokenize for a loaded base.

        Raises:
            ValueError: if the longest prompt and answer together pass the base's context.
        """
        limits, description = limits or Limits(), base.description
        longest = limits.max_prompt_tokens + limits.max_answer_tokens
        if longest > description.context_length:
            raise ValueError(
                f"max_prompt_tokens + max_answer_tokens is {longest}, but {description.base_id} "
                f"reads {description.context_length} tokens: lower one of them"
            )
        return cls(
            tokenizer=base.model.tokenizer,
            eos_id=base.eos_id,
            vocab_size=description.vocab_size,
            tokenizer_hash=description.tokenizer_hash,
            template_hash=description.template_hash,
            limits=limits,
        )

    def rankings(self, rows: Sequence[RankingRow]) -> Examples[RankingRow, RankedAnswers]:
        """Turn votes into ranked answers; a vote without a comparison is left out (appendix C.2).

        Reasons: all_tied, empty_answer, foreign_token_id, no_prompt, no_prompt_ids.
        """
        return _collect(rows, self._ranking)

    def demonstrations(
        self, rows: Sequence[DemonstrationRow]
    ) -> Examples[DemonstrationRow, Transcript]:
        """Turn ideal answers into transcripts that end with EOS, which is part of the answer.

        Reasons: empty_answer, no_prompt.
        """
        return _collect(rows, self._demonstration)

    def prompts(self, rows: Sequence[PromptRow]) -> Examples[PromptRow, tuple[int, ...]]:
        """Turn prompts into ids to sample from.

        Reasons: foreign_token_id, no_prompt.
        """
        return _collect(rows, self._prompt)

    def _ranking(self, row: RankingRow, cut: Counter[str]) -> RankedAnswers:
        if any(choice.token_ids for choice in row.choices) and not row.prompt_token_ids:
            # The answers were sampled after ids that we do not have; any others would be a guess.
            raise Unusable("no_prompt_ids")
        prompt = self._prompt(row, cut)
        answers = [Transcript(prompt, self._choice(choice, cut)) for choice in row.choices]
        ranked = RankedAnswers.from_tie_groups(answers, row.tie_groups)
        if not ranked.pairs:
            raise Unusable("all_tied")
        return ranked

    def _demonstration(self, row: DemonstrationRow, cut: Counter[str]) -> Transcript:
        prompt = self._logged_or_encoded((), row.prompt_text, row.prompt_messages, cut)
        return Transcript(prompt, self._answer(row.completion_text, cut))

    def _prompt(self, row: PromptRow | RankingRow, cut: Counter[str]) -> tuple[int, ...]:
        return self._logged_or_encoded(
            row.prompt_token_ids, row.prompt_text, row.prompt_messages, cut
        )

    def _choice(self, choice: RankedChoice, cut: Counter[str]) -> tuple[int, ...]:
        if choice.token_ids:
            return self._cut_answer(self._known(choice.token_ids), cut)
        return self._answer(choice.text, cut)

    def _answer(self, text: str, cut: Counter[str]) -> tuple[int, ...]:
        if not text:
            raise Unusable("empty_answer")
        # A person who writes the name of a special token means its letters.
        encoded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        return self._cut_answer((*encoded.input_ids, self.eos_id), cut)

    def _logged_or_encoded(
        self,
        logged: tuple[int, ...],
        text: str,
        messages: tuple[tuple[str, str], ...] | None,
        cut: Counter[str],
    ) -> tuple[int, ...]:
        ids = self._known(logged) if logged else self._encode_prompt(text, messages)
        if not ids:
            raise Unusable("no_prompt")
        _count(cut, "prompt", len(ids) - self.limits.max_prompt_tokens)
        return ids[-self.limits.max_prompt_tokens :]

    def _encode_prompt(
        self, text: str, messages: tuple[tuple[str, str], ...] | None
    ) -> tuple[int, ...]:
        if messages is None or not getattr(self.tokenizer, "chat_template", None):
            # Without a template the plain transcript in `text` is all there is.
            return tuple(self.tokenizer(text).input_ids)
        turns = [{"role": role, "content": content} for role, content in messages]
        # The template writes the special tokens itself.
        rendered = self.tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )
        return tuple(self.tokenizer(rendered, add_special_tokens=False).input_ids)

    def _cut_answer(self, ids: tuple[int, ...], cut: Counter[str]) -> tuple[int, ...]:
        """Keep the start; an answer that loses its EOS no longer says that it ends."""
        _count(cut, "answer", len(ids) - self.limits.max_answer_tokens)
        return ids[: self.limits.max_answer_tokens]

    def _known(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        if min(ids) < 0 or max(ids) >= self.vocab_size:
            raise Unusable("foreign_token_id")
        return ids


def _collect(
    rows: Iterable[RowT], convert: Callable[[RowT, Counter[str]], ItemT]
) -> Examples[RowT, ItemT]:
    """Convert every row, counting those that cannot be; a row left out adds no cuts."""
    kept: list[tuple[RowT, ItemT]] = []
    excluded: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for row in rows:
        cut: Counter[str] = Counter()
        try:
            kept.append((row, convert(row, cut)))
            total.update(cut)
        except Unusable as unusable:
            excluded[unusable.reason] += 1
    accounts = Accounts(
        num_rows=len(kept) + excluded.total(),
        excluded=dict(sorted(excluded.items())),
        cut=dict(sorted(total.items())),
    )
    return Examples(tuple(row for row, _ in kept), tuple(item for _, item in kept), accounts)


def _count(cut: Counter[str], what: str, excess: int) -> None:
    if excess > 0:
        cut[f"{what}s"] += 1
        cut[f"{what}_tokens"] += excess
