"""How well a reward model predicts rankings it has not seen, and whether length alone does as well.

Launch: `instructloop train rm --folds 5 --data-dir DIR`.

Every fold starts from the same fresh adapter and head on the bare base, not from SFT as `train rm`
does: SFT would have read demonstrations of the very conversations that a fold holds out. Prompts of
one conversation stay in one fold; each comparison is judged once, by the model that has not seen
its conversation. It does not know the gate; nothing is published.
"""

from __future__ import annotations

from collections.abc import Sequence

from feedback.snapshot_rows import RankingRow
from policy.language_model import LanguageModel
from trainer.dataset import Examples, Limits, Tokenizing
from trainer.folds import conversations, deal
from trainer.held_out_accuracy import Comparison, CrossValidation, compare, summarise
from trainer.progress import Stages
from trainer.refresh import RefreshRequest, open_snapshot
from trainer.reward import RankedAnswers, RewardModel, VoteSet, new_head, train_on, vote_scores
from trainer.settings import RewardSettings


def run_cross_validation(
    request: RefreshRequest, num_folds: int, stages: Stages
) -> CrossValidation:
    """Cross-validate over every ranking of the record, whatever its split.

    Raises:
        ValueError: there is no record, another base, or too few conversations for the folds.
    """
    settings = request.settings
    workshop, snapshot = open_snapshot(request)
    limits = Limits(settings.max_prompt_tokens, settings.max_answer_tokens)
    examples = Tokenizing.of(workshop.loaded, limits).rankings(snapshot.rankings)
    adapter = workshop.new_adapter("fold", settings.shape, request.seed)
    return cross_validate(
        workshop.model,
        adapter,
        examples,
        settings.reward,
        num_folds=num_folds,
        seed=request.seed,
        stages=stages,
    )


def cross_validate(
    model: LanguageModel,
    adapter: str,
    examples: Examples[RankingRow, RankedAnswers],
    settings: RewardSettings,
    *,
    num_folds: int,
    seed: int,
    stages: Stages,
) -> CrossValidation:
    """Train on all folds but one from the adapter's present weights, judge that one; every fold.

    Raises:
        ValueError: there are fewer conversations than folds, or fewer than two folds.
    """
    group_of = conversations(examples.rows)
    folds = deal(group_of, [len(vote.pairs) for vote in examples.items], num_folds, seed)
    start = {key: p.detach().clone() for key, p in model.adapter_parameters(adapter).items()}
    data = VoteSet.of(_fresh(model, adapter, settings), examples.items)
    assert len(data.votes) == len(group_of)  # votes without a comparison are no examples
    comparisons: list[Comparison] = []
    figures: list[dict[str, float]] = []
    for number, held_out in enumerate(folds, start=1):
        model.set_weights(adapter, start)
        reward = _fresh(model, adapter, settings)
        seen = sorted(set(range(len(group_of))) - set(held_out))
        report = stages.begin(f"fold {number} of {num_folds}")
        trained = train_on(reward, data.subset(seen), settings, seed, report)
        judged = _judge(reward, data, held_out, examples.rows, group_of)
        comparisons += judged
        figures.append(_figures(trained, held_out, judged))
    made_with = {
        "dtype": str(model.dtype).removeprefix("torch."),
        "adapted_layers": model.num_layers - model.shared_depth(adapter),
        "seed": seed,
        **settings.model_dump(),
    }
    return summarise(comparisons, figures, group_of, examples.accounts, made_with)


def _fresh(model: LanguageModel, adapter: str, settings: RewardSettings) -> RewardModel:
    return RewardModel(model, adapter, new_head(model.config.hidden_size, settings.read_out))


def _judge(
    reward: RewardModel,
    data: VoteSet,
    held_out: Sequence[int],
    rows: Sequence[RankingRow],
    group_of: Sequence[int],
) -> list[Comparison]:
    scores = vote_scores(reward, data.subset(held_out))
    return [
        comparison
        for i, of_vote in zip(held_out, scores, strict=True)
        for comparison in compare(data.votes[i], of_vote, rows[i], group_of[i])
    ]


def _figures(
    trained: dict[str, float], held_out: Sequence[int], judged: Sequence[Comparison]
) -> dict[str, float]:
    accuracy = sum(each.by_reward for each in judged) / len(judged)
    return {
        "rankings": len(held_out),
        "comparisons": len(judged),
        "accuracy": accuracy,
        **trained,
    }
