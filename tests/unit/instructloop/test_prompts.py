"""The demo's prompts: what must be true of the data itself."""

import re
from collections import Counter
from itertools import product
from pathlib import Path

import pytest

from instructloop.demo.prompts import (
    USE_CASES,
    DemoPrompt,
    held_out,
    load_demonstrations,
    load_guideline,
    load_prompts,
    prompt_text,
    training,
)

PROMPTS = load_prompts()
# InstructGPT Table 1, in percent.
PAPER_SHARES = dict(
    zip(USE_CASES, (45.6, 12.4, 11.2, 8.4, 6.6, 4.2, 3.5, 3.5, 2.6, 1.9), strict=True)
)


def tokens(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def six_grams(text: str) -> set[tuple[str, ...]]:
    said = tokens(text)
    return {tuple(said[i : i + 6]) for i in range(len(said) - 5)}


def jaccard(one: str, other: str) -> float:
    a, b = set(tokens(one)), set(tokens(other))
    return len(a & b) / len(a | b)


def test_there_are_432_prompts_and_112_of_them_are_held_out():
    assert len(PROMPTS) == 432
    assert len(held_out(PROMPTS)) == 112
    assert len(training(PROMPTS)) == 320


def test_every_prompt_has_its_own_id_and_its_own_text():
    assert len({prompt.id for prompt in PROMPTS}) == 432
    assert len({prompt.text.lower() for prompt in PROMPTS}) == 432


def test_use_cases_follow_the_paper_and_none_has_fewer_than_twelve():
    counts = Counter(prompt.use_case for prompt in PROMPTS)
    assert set(counts) == set(USE_CASES)
    assert min(counts.values()) >= 12
    for use_case, percent in PAPER_SHARES.items():
        assert abs(100 * counts[use_case] / 432 - percent) < 1.0, use_case


def test_the_held_out_prompts_are_stratified_by_use_case():
    counts = Counter(prompt.use_case for prompt in PROMPTS)
    for use_case, num_held_out in Counter(p.use_case for p in held_out(PROMPTS)).items():
        assert abs(num_held_out - counts[use_case] * 112 / 432) < 1, use_case


def test_prompts_are_short():
    lengths = [len(prompt.text.split()) for prompt in PROMPTS]
    assert min(lengths) >= 5
    assert max(lengths) <= 40
    assert sum(7 <= length <= 30 for length in lengths) >= 0.95 * len(lengths)


def test_no_training_text_shares_a_six_gram_with_a_held_out_prompt():
    seen = set().union(*(six_grams(p.text) for p in training(PROMPTS)))
    seen |= set().union(*(six_grams(d.text) for d in load_demonstrations()))
    assert {p.id: shared for p in held_out(PROMPTS) if (shared := six_grams(p.text) & seen)} == {}


def test_no_training_text_is_a_near_duplicate_of_a_held_out_prompt():
    seen = [p.text for p in training(PROMPTS)] + [d.text for d in load_demonstrations()]
    pairs = product(seen, (p.text for p in held_out(PROMPTS)))
    assert [pair for pair in pairs if jaccard(*pair) > 0.45] == []


def test_the_template_keeps_the_request_as_written_and_ends_where_the_answer_begins():
    wrapped = prompt_text(DemoPrompt("x-001", "other", "Say {this} twice.", is_held_out=False))
    assert "Say {this} twice." in wrapped
    assert wrapped.endswith("Answer:\n")


def test_demonstrations_are_plain_short_and_spread_over_all_use_cases():
    demonstrations = load_demonstrations()
    assert len(demonstrations) == 72
    assert {d.use_case for d in demonstrations} == set(USE_CASES)
    for demonstration in demonstrations:
        assert 15 <= len(demonstration.completion.split()) <= 45, demonstration.id
        assert demonstration.completion.endswith((".", "!", "?", '"')), demonstration.id
        assert "\n" not in demonstration.completion, demonstration.id


def test_the_demonstrations_use_requests_of_their_own():
    ranked = {prompt.text.lower() for prompt in PROMPTS}
    written = {demonstration.text.lower() for demonstration in load_demonstrations()}
    assert len(written) == 72
    assert written & ranked == set()


def test_the_guideline_is_prose_and_names_no_measure():
    guideline = load_guideline().lower()
    assert len(guideline.split()) > 100
    assert [name for name in ("vader", "zipf", "reward", "score") if name in guideline] == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"id": "a", "use_case": "other", "text": "Hi."}', "line 1"),
        ('{"id": "a", "use_case": "poem", "text": "Hi.", "is_held_out": false}', "poem"),
    ],
)
def test_a_bad_prompt_file_is_refused_with_its_line(tmp_path: Path, line: str, reason: str):
    path = tmp_path / "prompts.jsonl"
    path.write_text(line)
    with pytest.raises(ValueError, match=reason):
        load_prompts(path)
