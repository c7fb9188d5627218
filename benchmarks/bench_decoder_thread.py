"""A decoding step in a thread, by where the model was built: in the main thread or one that ended.

Launch: make bench, or python benchmarks/bench_decoder_thread.py [NUM_CHOICES]. Each measurement has
a process of its own, since a thread's OpenMP team stays as long as the thread; rounds alternate.
"""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import results

from policy.decoder import Decoder, Sample
from policy.language_model import LoraSettings
from policy.pretrained import load_language_model

NUM_ROUNDS = 3
NUM_STEPS = 24
PROMPT = "Explain how a rainbow is made to a child who has just seen one, in one sentence."
WAYS = ("main", "ended")


def build(num_choices: int) -> Decoder:
    """Load the base with an adapter on its upper layers and queue the choices."""
    base = load_language_model("smollm2", "auto")
    base.model.add_adapter("policy", LoraSettings(first_layer=base.model.num_layers // 2))
    decoder = Decoder(base.model, num_choices, max_positions=128)
    for seed in range(num_choices):
        decoder.add(Sample(tuple(base.encode(PROMPT)), "policy", NUM_STEPS + 8, seed=seed))
    return decoder


def step_ms(decoder: Decoder) -> float:
    """Return the median milliseconds of a step with every choice running."""
    for _ in range(4):
        decoder.step()
    times = []
    for _ in range(NUM_STEPS):
        started = time.perf_counter()
        decoder.step()
        times.append(1000 * (time.perf_counter() - started))
    return median(times)


def measure(way: str, num_choices: int) -> float:
    """Build where `way` says and decode in another thread."""
    if way == "main":
        decoder = build(num_choices)
    else:
        with ThreadPoolExecutor(1) as builder:
            decoder = builder.submit(build, num_choices).result()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(step_ms, decoder).result()


def main(num_choices: int) -> None:
    """Measure both ways in turn and report the medians and their ratio."""
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(NUM_ROUNDS):
        for way in WAYS:
            command = [sys.executable, __file__, str(num_choices), way]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[way].append(float(output))
    rows = [
        {"built in": f"the {way} thread", "step_ms": median(found[way]), "lowest": min(found[way])}
        for way in WAYS
    ]
    spread = results.ratio(*found.values())
    results.save("decoder_thread", rows, f"{num_choices} choices, {NUM_ROUNDS} rounds, {spread}")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(measure(sys.argv[2], int(sys.argv[1])))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 64)
