"""A made-up evidence record in which the candidate is somewhat better, as the gate would see it."""

import random

from trainer.evidence_record import (
    EvidenceDesign,
    EvidenceNames,
    EvidenceRecord,
    GatePrompt,
    JudgedAnswer,
    JudgedRanking,
)
from trainer.gate import TrainingFacts

NAMES = EvidenceNames(
    candidate="ppo-00000000000000aa",
    incumbent="init-00000000000000bb",
    proxy="rm-00000000000000cc",
    judge="rm-00000000000000dd",
)
TRAINING = TrainingFacts(
    relative_change=0.3, ref_hash_before="f" * 64, ref_hash_after="f" * 64, num_policy_steps=96
)
EOS = 0


def record_of(seed: int, num_prompts: int = 20, text: str = "An answer") -> EvidenceRecord:
    """Make up a record; `text` begins every answer and prompt."""
    generator = random.Random(seed)
    prompts = tuple(
        GatePrompt(f"p{i}", f"{text} to question {i}?", (7, 8, 9 + i)) for i in range(num_prompts)
    )
    return EvidenceRecord(
        names=NAMES,
        design=EvidenceDesign(seed, samples_per_prompt=4, temperature=1.0, max_tokens=40),
        prompts=prompts,
        candidate=_answers(generator, prompts, 0.6, text, has_kl=True),
        incumbent=_answers(generator, prompts, 0.0, text, has_kl=False),
        rankings=tuple(_ranking(generator, prompt.prompt_hash) for prompt in prompts),
        training=TRAINING,
    )


def _answers(
    generator: random.Random,
    prompts: tuple[GatePrompt, ...],
    shift: float,
    text: str,
    has_kl: bool,
) -> tuple[JudgedAnswer, ...]:
    answers = []
    for prompt in prompts:
        for sample in range(4):
            ids = [generator.randrange(1, 500) for _ in range(generator.randrange(20, 40))]
            is_finished = generator.random() < 0.9
            quality = generator.gauss(shift, 1)
            answers.append(
                JudgedAnswer(
                    prompt_hash=prompt.prompt_hash,
                    sample_index=sample,
                    text=f"{text} number {sample} to {prompt.prompt_hash}.",
                    ids=(*ids, EOS) if is_finished else tuple(ids),
                    is_finished=is_finished,
                    proxy_score=quality + generator.gauss(0, 0.5),
                    judge_score=quality + generator.gauss(0, 0.5),
                    kl_nats=generator.uniform(2, 9) if has_kl and sample == 0 else None,
                )
            )
    return tuple(answers)


def _ranking(generator: random.Random, prompt_hash: str) -> JudgedRanking:
    """Four answers, the best first; both models are right more often than not."""
    quality = (1.5, 1.0, 0.5, 0.0)
    return JudgedRanking(
        prompt_hash=prompt_hash,
        pairs=((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)),
        lengths=tuple(generator.randrange(15, 40) for _ in quality),
        proxy_scores=tuple(q + generator.gauss(0, 1) for q in quality),
        judge_scores=tuple(q + generator.gauss(0, 1) for q in quality),
    )
