"""What the trainer's command prints, and what its card says, as the demo reads it."""

import json

import pytest

from instructloop.demo.trainer_process import Accuracy, last_json, read_refreshed


@pytest.mark.parametrize("indent", [None, 2])
def test_the_last_object_of_the_output_is_read_on_one_line_or_several(indent):
    value = {"adapters": {"sft": "sft-1"}, "passed": True}
    assert last_json("training\n{not json\n" + json.dumps(value, indent=indent) + "\n") == value


def test_an_output_without_an_object_is_refused():
    with pytest.raises(ValueError, match="no JSON object"):
        last_json("done\n")


def test_figures_are_those_of_the_card(tmp_path):
    accuracy = {"estimate": 0.7, "low": 0.6, "high": 0.8, "judge": "held-out votes"}
    card = {"headline": {"kl_nats": 2.5}, "reward_models": {"rm_accuracy": accuracy}}
    (tmp_path / "card.json").write_text(json.dumps(card))
    refreshed = read_refreshed(
        {
            "snapshot_id": "snapshot-1",
            "adapters": {"ppo": "ppo-1"},
            "passed": False,
            "reasons": ["its win rate is 0.4"],
            "card_dir": str(tmp_path),
            "metrics": {},
        }
    )
    assert refreshed.rm_accuracy == Accuracy(0.7, 0.6, 0.8)
    assert refreshed.kl_nats == 2.5
    assert refreshed.reasons == ("its win rate is 0.4",)
