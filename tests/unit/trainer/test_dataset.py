"""Rows become exactly the ids that were sampled, and every row and token is accounted for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_llama import EOS, byte_tokenizer, tiny_network
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from feedback.snapshot_rows import DemonstrationRow, PromptRow, RankedChoice, RankingRow
from policy.language_model import LanguageModel
from policy.pretrained import LoadedBase, describe
from trainer.dataset import Limits, Tokenizing

CHAT_TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def merging_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE with a few merges, many ids for one text, pad == eos."""
    merges = [("a", "b"), ("ab", "c"), ("Ġ", "t"), ("h", "e"), ("Ġt", "he")]
    words = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    backend = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(EOS, special=True)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=EOS, pad_token=EOS)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


TOKENIZER = merging_tokenizer()
EOS_ID = TOKENIZER.eos_token_id


def tokenizing(**limits: int) -> Tokenizing:
    return Tokenizing(TOKENIZER, EOS_ID, len(TOKENIZER), "t" * 16, "c" * 16, Limits(**limits))


def encode(text: str) -> tuple[int, ...]:
    return tuple(TOKENIZER(text).input_ids)


def choice(text: str, token_ids: tuple[int, ...] = ()) -> RankedChoice:
    return RankedChoice(
        choice_id=f"choice-{text}",
        adapter_id="sft-0123456789abcdef",
        text=text,
        token_ids=token_ids,
        token_logprobs=None,
        logprobs_kind="raw",
        is_on_policy=True,
        stop_reason="eos",
        num_visible_tokens=len(token_ids),
    )


def ranking(*choices: RankedChoice, prompt: str = "a prompt", **changes: Any) -> RankingRow:
    fields: dict[str, Any] = {
        "event_id": "e1",
        "vote_id": "v1",
        "ballot_id": "b1",
        "prompt_hash": "p1",
        "prompt_text": prompt,
        "prompt_token_ids": encode(prompt),
        "use_case": None,
        "choices": choices,
        "tie_groups": tuple((i,) for i in range(len(choices))),
        "voter": "w1",
        "voter_role": "labeler",
        "source": "labeler",
        "split": "train",
    }
    return RankingRow(**fields | changes)


def demonstration(completion: str, prompt: str = "a prompt", **changes: Any) -> DemonstrationRow:
    fields: dict[str, Any] = {
        "event_id": "e1",
        "prompt_hash": "p1",
        "prompt_text": prompt,
        "prompt_messages": None,
        "completion_text": completion,
        "kind": "plain",
        "use_case": None,
        "source": "labeler",
        "split": "train",
    }
    return DemonstrationRow(**fields | changes)


def prompt_row(text: str, token_ids: tuple[int, ...] = (), **changes: Any) -> PromptRow:
    fields: dict[str, Any] = {
        "event_id": "e1",
        "prompt_hash": "p1",
        "prompt_text": text,
        "prompt_token_ids": token_ids,
        "use_case": None,
        "source": "api",
        "split": "train",
    }
    return PromptRow(**fields | changes)


def test_the_sampled_ids_are_trained_on_though_their_text_encodes_to_others() -> None:
    split_apart = (*TOKENIZER.convert_tokens_to_ids(["a", "b", "c", "Ġ", "t", "h", "e"]), EOS_ID)
    text = TOKENIZER.decode(split_apart, skip_special_tokens=True)
    assert encode(text) != split_apart[:-1]  # the trap of CASES D13 is really set
    prompt_ids = tuple(TOKENIZER.convert_tokens_to_ids(["a", "b"]))
    row = ranking(choice(text, split_apart), choice("x", (5, EOS_ID)), prompt_token_ids=prompt_ids)
    (vote,) = tokenizing().rankings([row]).items
    assert vote.answers[0].ids == prompt_ids + split_apart
    assert vote.answers[0].response_ids == split_apart


ids = st.lists(st.integers(0, len(TOKENIZER) - 1), min_size=1, max_size=20).map(tuple)


@given(prompt=ids, answers=st.lists(ids, min_size=2, max_size=4))
def test_no_sequence_of_logged_ids_is_ever_changed(
    prompt: tuple[int, ...], answers: list[tuple[int, ...]]
) -> None:
    row = ranking(*(choice("whatever", a) for a in answers), prompt_token_ids=prompt)
    (vote,) = tokenizing().rankings([row]).items
    assert [a.prompt_ids for a in vote.answers] == [prompt] * len(answers)
    assert [a.response_ids for a in vote.answers] == answers


def test_a_demonstration_ends_with_eos_inside_its_answer_though_pad_is_eos() -> None:
    assert TOKENIZER.pad_token_id == EOS_ID
    (transcript,) = tokenizing().demonstrations([demonstration("abc the")]).items
    assert transcript.prompt_ids == encode("a prompt")
    assert transcript.response_ids == (*encode("abc the"), EOS_ID)


def test_an_imported_answer_is_tokenized_once_and_ends_with_eos() -> None:
    (vote,) = tokenizing().rankings([ranking(choice("abc"), choice("the"))]).items
    assert vote.answers[0].response_ids == (*encode("abc"), EOS_ID)
    assert vote.pairs == ((0, 1),)


def test_a_person_who_writes_the_name_of_eos_does_not_end_the_answer() -> None:
    (transcript,) = tokenizing().demonstrations([demonstration(f"ab{EOS}c")]).items
    assert transcript.response_ids.count(EOS_ID) == 1
    assert TOKENIZER.decode(transcript.response_ids[:-1]) == f"ab{EOS}c"


def test_messages_go_through_the_chat_template() -> None:
    row = demonstration("abc", prompt_messages=(("user", "hi"), ("assistant", "yo"), ("user", "x")))
    (transcript,) = tokenizing().demonstrations([row]).items
    text = TOKENIZER.decode(transcript.prompt_ids)
    assert text == f"[user]hi{EOS}[assistant]yo{EOS}[user]x{EOS}[assistant]"
    assert transcript.prompt_ids.count(EOS_ID) == 3


def test_messages_of_a_vote_and_of_a_prompt_use_the_template_where_no_ids_were_logged() -> None:
    messages = (("user", "hi"),)
    expected = encode(f"[user]hi{EOS}[assistant]")
    row = ranking(choice("a"), choice("b"), prompt_token_ids=(), prompt_messages=messages)
    assert tokenizing().rankings([row]).items[0].answers[0].prompt_ids == expected
    row_of_prompt = prompt_row("plain", prompt_messages=messages)
    assert tokenizing().prompts([row_of_prompt]).items == (expected,)
    assert tokenizing().prompts([prompt_row("plain", (1, 2), prompt_messages=messages)]).items == (
        (1, 2),
    )


def test_without_a_template_messages_fall_back_to_their_plain_text() -> None:
    bare = merging_tokenizer()
    bare.chat_template = None
    row = demonstration("abc", prompt="User: hi", prompt_messages=(("user", "hi"),))
    converter = Tokenizing(bare, EOS_ID, len(bare), "", "", Limits())
    assert converter.demonstrations([row]).items[0].prompt_ids == encode("User: hi")


def test_long_prompts_lose_their_start_long_answers_their_end_and_both_are_counted() -> None:
    row = ranking(
        choice("x", (1, 2, 3, 4, EOS_ID)),
        choice("y", (5, EOS_ID)),
        choice("z", (6, 7, 8, EOS_ID)),
        prompt_token_ids=(1, 2, 3, 4, 5),
    )
    examples = tokenizing(max_prompt_tokens=2, max_answer_tokens=3).rankings([row])
    answers = examples.items[0].answers
    assert [a.prompt_ids for a in answers] == [(4, 5)] * 3
    assert [a.response_ids for a in answers] == [(1, 2, 3), (5, EOS_ID), (6, 7, 8)]
    assert examples.accounts.cut == {
        "answer_tokens": 3,
        "answers": 2,
        "prompt_tokens": 3,
        "prompts": 1,
    }


def test_what_fits_is_not_cut() -> None:
    examples = tokenizing(max_prompt_tokens=8, max_answer_tokens=4).demonstrations(
        [demonstration("xyz")]
    )
    assert examples.accounts.cut == {}
    assert examples.items[0].response_ids[-1] == EOS_ID


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (ranking(choice("x"), choice("y"), tie_groups=((0, 1),)), "all_tied"),
        (ranking(choice("x"), choice("")), "empty_answer"),
        (ranking(choice("x", (1, len(TOKENIZER))), choice("y", (1,))), "foreign_token_id"),
        (ranking(choice("x", (1, -1)), choice("y", (1,))), "foreign_token_id"),
        (ranking(choice("x", (1,)), choice("y", (1,)), prompt_token_ids=()), "no_prompt_ids"),
        (ranking(choice("x"), choice("y"), prompt="", prompt_token_ids=()), "no_prompt"),
    ],
)
def test_a_vote_that_cannot_train_is_left_out_for_a_named_reason(
    row: RankingRow, reason: str
) -> None:
    good = ranking(choice("x"), choice("y"))
    examples = tokenizing().rankings([row, good])
    assert examples.rows == (good,)
    assert examples.accounts.num_rows == 2
    assert examples.accounts.excluded == {reason: 1}


def test_other_rows_are_left_out_for_a_named_reason() -> None:
    assert tokenizing().demonstrations([demonstration("")]).accounts.excluded == {"empty_answer": 1}
    foreign = prompt_row("x", (len(TOKENIZER),))
    assert tokenizing().prompts([foreign]).accounts.excluded == {"foreign_token_id": 1}


def test_a_row_left_out_adds_no_cuts() -> None:
    row = ranking(choice("a long answer"), choice(""), prompt_token_ids=(1, 2, 3))
    examples = tokenizing(max_prompt_tokens=1, max_answer_tokens=2).rankings([row])
    assert examples.accounts.cut == {}


def test_rows_and_items_stay_in_step() -> None:
    rows = [demonstration("a", event_id="1"), demonstration(""), demonstration("b", event_id="3")]
    examples = tokenizing().demonstrations(rows)
    assert [row.event_id for row in examples.rows] == ["1", "3"]
    assert [item.response_ids[0] for item in examples.items] == [encode("a")[0], encode("b")[0]]


def test_limits_beyond_the_context_are_refused() -> None:
    network = tiny_network()
    model = LanguageModel(network, byte_tokenizer())
    description = describe("tiny", "0" * 64, model, network)
    base = LoadedBase(model, description, model.eos_id, frozenset({model.eos_id}))
    assert Tokenizing.of(base, Limits(200, 56)).eos_id == base.eos_id
    with pytest.raises(ValueError, match="max_prompt_tokens \\+ max_answer_tokens is 257"):
        Tokenizing.of(base, Limits(200, 57))
