"""One filled example of every event type, shown in the exported schemas; nobody's real data."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from feedback.events.ballot import BallotChoice, BallotClaims, BallotRevealed, BallotSkipped
from feedback.events.completion import (
    BaseIdentity,
    Choice,
    CompletionServed,
    Consent,
    EngineIdentity,
    Latency,
    SamplingParameters,
    Usage,
)
from feedback.events.demonstration import DemonstrationSubmitted
from feedback.events.envelope import Event, EventData, new_event
from feedback.events.erasure import SubjectErased
from feedback.events.prompt import Prompt, hash_prompt
from feedback.events.ranking import (
    OutputFlags,
    OutputRating,
    PromptAnnotations,
    RankingRetracted,
    RankingSubmitted,
)
from feedback.events.rating import RatingSubmitted
from feedback.identifiers import vote_id

_SERVED_AT = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
_RESPONSE = "cmpl-0193a1b2c3d47e5f8a6b7c8d9e0f1a2b"
_BALLOT = "ballot-5f0c2a91d3b84e67a1c0f2e4"
_USER = "f3a9c1d27b604e85a90d1c2b3e4f5a6b"
_VOTER = "0b1c2d3e4f5a69788796a5b4c3d2e1f0"
_TEXTS = (" Leaves look green because chlorophyll reflects green light.", " They just are.")
_CHOICE_IDS = ("choice-a1b2c3d4e5f60718293a4b5c", "choice-0c1d2e3f405162738495a6b7")
_ADAPTER = "sft-4f1d2c3b5a697887"
_PROMPT = Prompt(
    text="Explain why leaves are green.",
    token_ids=(13213, 2012, 5621, 359, 4433, 30),
    prompt_hash=hash_prompt("Explain why leaves are green."),
    use_case="open_qa",
    kind="plain",
)


def example_events() -> dict[str, Event]:
    """Return an example per event type; together they tell one story."""
    claims = _claims()
    vote = vote_id(_BALLOT, _VOTER)
    story: dict[str, EventData] = {
        "completion.served": _completion(),
        "ranking.submitted": _ranking(claims, vote),
        "ballot.revealed": BallotRevealed(
            ballot_id=_BALLOT, voter=_VOTER, voter_role="labeler", response_ids=(_RESPONSE,)
        ),
        "ballot.skipped": BallotSkipped(
            ballot=claims, voter=_VOTER, voter_role="labeler", reason="missing_expertise"
        ),
        "ranking.retracted": RankingRetracted(
            vote_id=vote, ballot_id=_BALLOT, voter=_VOTER, reason="clicked the wrong answer"
        ),
        "rating.submitted": RatingSubmitted(
            response_id=_RESPONSE, choice_id=_CHOICE_IDS[0], thumb="up", voter=_VOTER
        ),
        "demonstration.submitted": _demonstration(),
        "subject.erased": SubjectErased(pseudonym=_USER, reason="asked by e-mail"),
    }
    return {
        event_type: new_event(
            data,
            source="instructloop/service",
            key=f"0193a1b2-c3d4-7e5f-8a6b-00000000000{number}",
            time=_SERVED_AT + timedelta(minutes=number),
        )
        for number, (event_type, data) in enumerate(story.items())
    }


def _completion() -> CompletionServed:
    return CompletionServed(
        response_id=_RESPONSE,
        user=_USER,
        org="77665544332211009988aabbccddeeff",
        split_group="9c8b7a69584736251403f2e1d0c9b8a7",
        source="api",
        prompt=_PROMPT,
        sampling=SamplingParameters(temperature=1.0, seed=7, max_tokens=48, n=2),
        base=BaseIdentity(
            base_id="smollm2-135m-instruct",
            weights_hash="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            tokenizer_hash="2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
        ),
        choices=tuple(_choice(index) for index in range(2)),
        usage=Usage(prompt_tokens=6, completion_tokens=15),
        engine=EngineIdentity(name="embedded", version="0.1.0", dtype="float32"),
        latency=Latency(first_token_s=0.08, total_s=0.61),
        consent=Consent(log=True, train=True),
    )


def _choice(index: int) -> Choice:
    token_ids = ((26478, 1493, 4433, 975, 33058, 8532, 4433, 1420, 30, 2), (1069, 915, 359, 30, 2))
    return Choice(
        choice_id=_CHOICE_IDS[index],
        index=index,
        adapter_id=_ADAPTER,
        text=_TEXTS[index],
        token_ids=token_ids[index],
        num_visible_tokens=len(token_ids[index]) - 1,
        token_logprobs=tuple(-0.25 for _ in token_ids[index]),
        stop_reason="eos",
    )


def _claims() -> BallotClaims:
    return BallotClaims(
        ballot_id=_BALLOT,
        response_ids=(_RESPONSE,),
        prompt_hash=_PROMPT.prompt_hash,
        choices=tuple(
            BallotChoice(
                choice_id=choice_id, adapter_id=_ADAPTER, index=index, response_id=_RESPONSE
            )
            for index, choice_id in enumerate(_CHOICE_IDS)
        ),
        shown_order=tuple(reversed(_CHOICE_IDS)),
        voter=_VOTER,
        voter_role="labeler",
        issued_at=_SERVED_AT,
        expires_at=_SERVED_AT + timedelta(days=7),
    )


def _ranking(claims: BallotClaims, vote: str) -> RankingSubmitted:
    return RankingSubmitted(
        vote_id=vote,
        ballot=claims,
        voter=_VOTER,
        voter_role="labeler",
        tie_groups=((_CHOICE_IDS[0],), (_CHOICE_IDS[1],)),
        ratings=(
            OutputRating(
                choice_id=_CHOICE_IDS[0], likert=6, flags=OutputFlags(hallucination=False)
            ),
            OutputRating(
                choice_id=_CHOICE_IDS[1], likert=2, flags=OutputFlags(fails_instruction=True)
            ),
        ),
        prompt_annotations=PromptAnnotations(ambiguous=False, closed_domain=False),
        rationale="The first one gives the reason.",
        duration_ms=21_400,
        guideline_version="2026-11",
    )


def _rating(choice_id: str, likert: int, flags: OutputFlags) -> OutputRating:
    return OutputRating(choice_id=choice_id, likert=likert, flags=flags)


def _demonstration() -> DemonstrationSubmitted:
    return DemonstrationSubmitted(
        demonstration_id="demonstration-3c2b1a0f9e8d7c6b5a493827",
        prompt=_PROMPT.model_copy(update={"token_ids": ()}),
        completion=" Leaves hold a green pigment, chlorophyll, that catches the sun's light.",
        kind="correction",
        corrects=_CHOICE_IDS[1],
        response_id=_RESPONSE,
        author=_VOTER,
        author_role="labeler",
        source="labeler",
        consent=Consent(log=True, train=True),
    )
