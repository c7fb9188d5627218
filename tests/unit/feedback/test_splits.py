"""No prompt and no person is in two splits, the shares are met, and loss of either is said."""

import random

from hypothesis import given
from hypothesis import strategies as st

from feedback.snapshot_rows import Split
from feedback.splits import PromptUse, plan_splits

SHARES: dict[Split, float] = {"train": 0.55, "judge": 0.25, "gate": 0.20}


def ranked(prompt: int, author: str, labeler: str) -> PromptUse:
    return PromptUse(f"prompt-{prompt}", author, labeler)


def share_of_rankings(uses: list[PromptUse], split: Split, split_of: dict[str, Split]) -> float:
    rankings = [use for use in uses if use.labeler]
    return sum(split_of[use.prompt_hash] == split for use in rankings) / len(rankings)


def test_people_with_prompts_of_their_own_stay_in_one_split_each() -> None:
    uses = [ranked(n, f"person-{n % 16}", f"person-{n % 16}") for n in range(320)]
    plan = plan_splits(uses, SHARES, seed=0)
    assert plan.labelers_disjoint
    assert plan.authors_disjoint
    for split, share in SHARES.items():
        assert abs(share_of_rankings(uses, split, dict(plan.split_of)) - share) < 0.08


def test_one_person_as_author_and_as_labeler_is_one_person() -> None:
    """Bob labels Ann's prompt and writes his own, so both prompts stay together."""
    uses = [ranked(n, f"a{n}", f"b{n}") for n in range(30)]
    uses += [ranked(30 + n, f"b{n}", f"c{n}") for n in range(30)]
    plan = plan_splits(uses, SHARES, seed=0)
    for n in range(30):
        assert plan.split_of[f"prompt-{n}"] == plan.split_of[f"prompt-{30 + n}"]


def test_a_single_author_is_given_up_first_and_labelers_stay_apart() -> None:
    uses = [ranked(n, "the service", f"labeler-{n % 12}") for n in range(120)]
    plan = plan_splits(uses, SHARES, seed=0)
    assert plan.labelers_disjoint
    assert not plan.authors_disjoint
    assert share_of_rankings(uses, "gate", dict(plan.split_of)) > 0.1


def test_a_single_labeler_leaves_a_split_by_prompt_and_the_plan_says_so() -> None:
    uses = [ranked(n, f"author-{n}", "the only labeler") for n in range(100)]
    plan = plan_splits(uses, SHARES, seed=0)
    assert not plan.labelers_disjoint
    for split, share in SHARES.items():
        assert abs(share_of_rankings(uses, split, dict(plan.split_of)) - share) < 0.05


def test_demonstrations_on_prompts_nobody_ranked_go_to_train() -> None:
    uses = [ranked(n, f"p{n}", f"p{n}") for n in range(50)]
    uses += [PromptUse(f"taught-{n}", "dora", is_demonstration=True) for n in range(20)]
    plan = plan_splits(uses, SHARES, seed=0)
    assert {plan.split_of[f"taught-{n}"] for n in range(20)} == {"train"}


def test_prompts_nobody_ranked_are_divided_too() -> None:
    uses = [PromptUse(f"prompt-{n}", f"author-{n}") for n in range(100)]
    plan = plan_splits(uses, SHARES, seed=0)
    assert set(plan.split_of.values()) == set(SHARES)


def test_another_seed_is_another_division() -> None:
    uses = [ranked(n, f"p{n}", f"p{n}") for n in range(50)]
    one, other = (dict(plan_splits(uses, SHARES, seed=seed).split_of) for seed in (0, 1))
    assert one != other


def test_nothing_to_divide_is_no_error() -> None:
    plan = plan_splits([], SHARES, seed=0)
    assert plan.split_of == {}
    assert plan.labelers_disjoint


uses_lists = st.lists(
    st.builds(
        PromptUse,
        prompt_hash=st.integers(0, 15).map(str),
        author=st.integers(0, 7).map(lambda n: f"person-{n}"),
        labeler=st.none() | st.integers(0, 7).map(lambda n: f"person-{n}"),
        is_demonstration=st.booleans(),
    ),
    max_size=40,
)


@given(uses_lists, st.integers(0, 3))
def test_every_prompt_has_one_split_and_what_the_plan_says_of_persons_is_true(
    uses: list[PromptUse], seed: int
) -> None:
    plan = plan_splits(uses, SHARES, seed)
    assert set(plan.split_of) == {use.prompt_hash for use in uses}
    for persons, claim in (
        ([(use.labeler, use) for use in uses if use.labeler], plan.labelers_disjoint),
        ([(use.author, use) for use in uses], plan.authors_disjoint),
    ):
        splits: dict[str, set[Split]] = {}
        for person, use in persons:
            splits.setdefault(person, set()).add(plan.split_of[use.prompt_hash])
        assert claim == all(len(held) == 1 for held in splits.values())


@given(uses_lists, st.integers(0, 99))
def test_the_order_of_uses_does_not_matter(uses: list[PromptUse], shuffle_seed: int) -> None:
    shuffled = random.Random(shuffle_seed).sample(uses, len(uses))
    assert plan_splits(shuffled, SHARES, seed=0) == plan_splits(uses, SHARES, seed=0)
