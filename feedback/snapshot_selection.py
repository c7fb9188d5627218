"""Choose which live votes, demonstrations and prompts may train, and name why others may not.

It does not know the splits' rule nor how rows are stored.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from feedback.events.completion import Choice, CompletionServed
from feedback.events.demonstration import DemonstrationSubmitted
from feedback.events.prompt import Prompt
from feedback.projection import LiveVote, Projection, Recorded
from feedback.snapshot_rows import DemonstrationRow, PromptRow, RankedChoice, RankingRow
from feedback.splits import PromptUse, SplitPlan

_NEVER_TRAINS = {"eval": "eval_traffic", "canary": "canary_traffic"}

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Eligibility:
    """What the data directory allows: its mark, and the tokenizer of its base where it has one."""

    is_simulated: bool
    tokenizer_hash: str | None

    def reason_against_source(self, source: str) -> str | None:
        """Say why traffic of this source must not train, or None."""
        if source == "simulated" and not self.is_simulated:
            return "simulated_traffic"
        return _NEVER_TRAINS.get(source)

    def reason_against_completion(self, completion: CompletionServed) -> str | None:
        """Say why a served completion must not train, or None."""
        if completion.prompt is None or completion.truncated:
            return "no_text"
        if not completion.consent.train:
            return "no_consent"
        has_ids = completion.prompt.token_ids or any(c.token_ids for c in completion.choices)
        is_foreign = completion.base.tokenizer_hash != self.tokenizer_hash
        if has_ids and self.tokenizer_hash is not None and is_foreign:
            return "tokenizer_mismatch"  # its ids would mean other text (sampled tokens are truth)
        return self.reason_against_source(completion.source)

    def reason_against_vote(self, vote: LiveVote) -> str | None:
        """Say why a live vote must not train, or None."""
        if len(vote.choices) < 2:
            return "single_choice"
        for completion in vote.completions:
            if reason := self.reason_against_completion(completion):
                return reason
        hashes = {
            completion.prompt.prompt_hash for completion in vote.completions if completion.prompt
        }
        return "prompt_mismatch" if hashes != {vote.ranking.ballot.prompt_hash} else None

    def reason_against_demonstration(
        self, recorded: Recorded[DemonstrationSubmitted]
    ) -> str | None:
        """Say why a demonstration must not train, or None."""
        if not recorded.data.consent.train:
            return "no_consent"
        return self.reason_against_source(recorded.data.source)


@dataclass(frozen=True, slots=True)
class Selection:
    """What trains, and the number left out by reason; votes include those the fold left out."""

    votes: list[LiveVote]
    demonstrations: list[Recorded[DemonstrationSubmitted]]
    completions: list[Recorded[CompletionServed]]
    excluded_votes: dict[str, int]
    excluded_demonstrations: dict[str, int]

    def prompt_uses(self) -> list[PromptUse]:
        """Return who wrote and who ranked what, for the splits."""
        ranked = [
            PromptUse(vote.ranking.ballot.prompt_hash, _author(completion), _labeler(vote))
            for vote in self.votes
            for completion in {c.response_id: c for c in vote.completions}.values()
        ]
        shown = [
            PromptUse(
                recorded.data.prompt.prompt_hash,
                recorded.data.split_group or recorded.data.author,
                is_demonstration=True,
            )
            for recorded in self.demonstrations
        ]
        served = [
            PromptUse(recorded.data.prompt.prompt_hash, _author(recorded.data))
            for recorded in self.completions
            if recorded.data.prompt is not None
        ]
        return ranked + shown + served


def select(projection: Projection, eligibility: Eligibility) -> Selection:
    """Divide what the fold holds into what may train and what may not, by reason."""
    votes, excluded = _divide(projection.votes, eligibility.reason_against_vote)
    demonstrations, excluded_demonstrations = _divide(
        projection.demonstrations, eligibility.reason_against_demonstration
    )
    completions, _ = _divide(
        projection.completions.values(),
        lambda recorded: eligibility.reason_against_completion(recorded.data),
    )
    return Selection(
        votes=votes,
        demonstrations=demonstrations,
        completions=_first_of_each_prompt(completions),
        excluded_votes=_tally(excluded, projection.excluded.values()),
        excluded_demonstrations=_tally(
            excluded_demonstrations, projection.excluded_demonstrations.values()
        ),
    )


def ranking_row(vote: LiveVote, plan: SplitPlan) -> RankingRow:
    """Return a vote as a row."""
    first = vote.completions[0]
    assert first.prompt is not None
    sources = {completion.source for completion in vote.completions}
    return RankingRow(
        event_id=vote.event_id,
        vote_id=vote.vote_id,
        ballot_id=vote.ranking.ballot.ballot_id,
        prompt_hash=first.prompt.prompt_hash,
        prompt_text=first.prompt.text,
        prompt_token_ids=first.prompt.token_ids,
        use_case=first.prompt.use_case,
        choices=tuple(_ranked_choice(choice) for choice in vote.choices),
        tie_groups=vote.tie_groups,
        voter=vote.ranking.voter,
        voter_role=vote.ranking.voter_role,
        # A ballot may mix sources; one simulated answer makes the row simulated.
        source="simulated" if "simulated" in sources else first.source,
        split=plan.split_of[first.prompt.prompt_hash],
        prompt_messages=_messages(first.prompt),
        conversation_id=first.conversation_id,
    )


def demonstration_row(
    recorded: Recorded[DemonstrationSubmitted], plan: SplitPlan
) -> DemonstrationRow:
    """Return a demonstration as a row."""
    data = recorded.data
    return DemonstrationRow(
        event_id=recorded.event_id,
        prompt_hash=data.prompt.prompt_hash,
        prompt_text=data.prompt.text,
        prompt_messages=_messages(data.prompt),
        completion_text=data.completion,
        kind=data.kind,
        use_case=data.prompt.use_case,
        source=data.source,
        split=plan.split_of[data.prompt.prompt_hash],
    )


def prompt_row(recorded: Recorded[CompletionServed], plan: SplitPlan) -> PromptRow:
    """Return a served prompt as a row."""
    prompt = recorded.data.prompt
    assert prompt is not None
    return PromptRow(
        event_id=recorded.event_id,
        prompt_hash=prompt.prompt_hash,
        prompt_text=prompt.text,
        prompt_token_ids=prompt.token_ids,
        use_case=prompt.use_case,
        source=recorded.data.source,
        split=plan.split_of[prompt.prompt_hash],
        prompt_messages=_messages(prompt),
    )


def _messages(prompt: Prompt) -> tuple[tuple[str, str], ...] | None:
    if not prompt.messages:
        return None
    return tuple((message.role, message.content) for message in prompt.messages)


def _divide(
    items: Iterable[ItemT], reason_against: Callable[[ItemT], str | None]
) -> tuple[list[ItemT], list[str]]:
    """Return the items nothing speaks against, and the reasons against the others."""
    kept, reasons = [], []
    for item in items:
        reason = reason_against(item)
        if reason is None:
            kept.append(item)
        else:
            reasons.append(reason)
    return kept, reasons


def _tally(*reasons: Iterable[str]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for group in reasons:
        total.update(group)
    return dict(sorted(total.items()))


def _first_of_each_prompt(
    completions: Iterable[Recorded[CompletionServed]],
) -> list[Recorded[CompletionServed]]:
    """Keep the completion with the smallest event id per prompt: arrival plays no part."""
    first: dict[str, Recorded[CompletionServed]] = {}
    for recorded in sorted(completions, key=lambda recorded: recorded.event_id):
        if recorded.data.prompt is not None:
            first.setdefault(recorded.data.prompt.prompt_hash, recorded)
    return list(first.values())


def _ranked_choice(choice: Choice) -> RankedChoice:
    return RankedChoice(
        choice_id=choice.choice_id,
        adapter_id=choice.adapter_id,
        text=choice.text,
        token_ids=choice.token_ids,
        token_logprobs=choice.token_logprobs,
        logprobs_kind=choice.logprobs_kind,
        is_on_policy=choice.is_on_policy,
        stop_reason=choice.stop_reason,
        num_visible_tokens=choice.num_visible_tokens,
    )


def _author(completion: CompletionServed) -> str:
    """Prefer the split group: its key never rotates, so a person stays one person."""
    return completion.split_group or completion.user


def _labeler(vote: LiveVote) -> str:
    return vote.ranking.ballot.split_group or vote.ranking.voter
