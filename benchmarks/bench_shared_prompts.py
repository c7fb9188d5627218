"""Training steps on four answers to a prompt: in one row that shares the prompt, or one row each.

Launch: make bench, or python benchmarks/bench_shared_prompts.py [NUM_VOTES]. The second way gives
every answer a first token of its own, so that no prompt is shared; lengths are the same. Rounds
alternate in one process: read the ratio. Random ids on the real base: time does not depend on them.
"""

import random
import sys
import time
from statistics import median

import results

from policy.language_model import LanguageModel, LoraSettings
from policy.pretrained import load_language_model
from trainer.packing import Transcript
from trainer.presets import preset
from trainer.progress import silent
from trainer.reward import RankedAnswers, RewardModel, new_head, train_reward

NUM_ROUNDS = 3
NUM_ANSWERS = 4
WAYS = ("one row each", "one row together")


def votes(count: int, *, is_shared: bool) -> list[RankedAnswers]:
    """Draw prompts of 20 to 34 tokens and answers of 16 to 30, as in the demo."""
    source = random.Random(0)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(source.randrange(100, 40_000) for _ in range(source.randint(low, high)))

    drawn = []
    for _ in range(count):
        prompt = ids(20, 34)
        answers = [
            Transcript(prompt if is_shared else (k, *prompt[1:]), ids(16, 30))
            for k in range(NUM_ANSWERS)
        ]
        drawn.append(RankedAnswers.from_tie_groups(answers, [[k] for k in range(NUM_ANSWERS)]))
    return drawn


def epoch_s(model: LanguageModel, drawn: list[RankedAnswers]) -> float:
    """Train a new reward model for one epoch and return the seconds."""
    settings = preset("demo")
    shape, one_epoch = settings.shape, settings.reward.model_copy(update={"epochs": 1})
    lora = LoraSettings(shape.rank, shape.alpha, shape.first_layer(model.num_layers))
    model.add_adapter("rm", lora)
    head = new_head(model.config.hidden_size, one_epoch.read_out)
    reward = RewardModel(model, "rm", head)
    started = time.perf_counter()
    train_reward(reward, drawn, one_epoch, 0, silent)
    seconds = time.perf_counter() - started
    model.remove_adapter("rm")
    return seconds


def main(num_votes: int) -> None:
    """Measure both ways in turn and report the medians and their ratio."""
    model = load_language_model("smollm2", "auto").model
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(NUM_ROUNDS):
        for way in WAYS:
            drawn = votes(num_votes, is_shared=way == "one row together")
            found[way].append(1000 * epoch_s(model, drawn) / num_votes)
    rows = [
        {"answers lie in": way, "ms_per_vote": median(found[way]), "lowest": min(found[way])}
        for way in WAYS
    ]
    spread = results.ratio(*found.values())
    results.save("shared_prompts", rows, f"{num_votes} votes, {NUM_ROUNDS} rounds, {spread}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 24)
