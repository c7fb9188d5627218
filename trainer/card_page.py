"""The card as a page for people: one self-contained HTML file, drawn from card.json alone.

It does not know where the numbers come from. Every text is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from trainer.plots import curve, interval

CURVES = {
    "objective/score": "Reward score",
    "objective/kl": "KL from init, nats per response",
    "rollout/length": "Response length, tokens",
    "rollout/eos_rate": "Ended by itself, share",
    "objective/entropy": "Entropy, nats per token",
    "policy/clip_fraction": "Clip fraction",
    "value/explained_variance": "Explained variance of the critic",
    "policy/grad_norm": "Gradient norm of the policy",
}


def render_card(card: Mapping[str, Any]) -> str:
    """Return the page; the same card gives the same page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = figure
    environment.filters["words"] = words
    template = environment.get_template("card.html.j2")
    curves = card["ppo"]["curves"]
    drawn = [
        (title, curve(curves[name], title)) for name, title in CURVES.items() if name in curves
    ]
    return template.render(card=card, curves=drawn, interval=interval)


def figure(value: Any) -> str:
    """Write a number shortly: whole ones in full, others with three or four digits."""
    if value is None:
        return "not a number"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}" if 0.001 <= abs(value) < 10 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def words(name: str) -> str:
    """Turn a key into words."""
    return name.replace("_", " ")
