"""The last screen: tables of what was found, and answers side by side; it only shows a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

Report = Mapping[str, Any]


def print_summary(console: Console, report: Report) -> None:
    """Print the whole summary."""
    console.print()
    console.print(_win_rates(report))
    console.print(_arms(report))
    if report["guards"]:
        console.print(_guards(report))
    _print_samples(console, report)
    console.print(_facts(report))


def headline(report: Report) -> str:
    """Return the one sentence that the run comes down to."""
    if report["settings"]["is_placebo"]:
        return _placebo_headline(report)
    rate, low, high = (
        report[name] for name in ("win_rate_ppo_vs_sft", "win_rate_low", "win_rate_high")
    )
    if rate is None:
        return "There is no trained policy to compare."
    return (
        f"{'The promoted' if report['promoted'] else 'The refused'} policy beats SFT in "
        f"{rate:.0%} of comparisons (95% interval {low:.0%} to {high:.0%}), by simulated judges "
        "who never voted."
    )


def _placebo_headline(report: Report) -> str:
    low, high = report["rm_accuracy_low"], report["rm_accuracy_high"]
    return (
        f"Placebo: the gate {'LET IT PASS' if report['gate_passed'] else 'refused, as it must'}; "
        f"the reward model's accuracy lies in {_number(low)} to {_number(high)}, and 0.5 is a coin."
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=None, header_style="dim"
    )
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    return table


def _win_rates(report: Report) -> Table:
    table = _table(
        "Who wins, by held-out SIMULATED judges (ties half, intervals over prompts)",
        "comparison",
        "win rate",
        "95% interval",
        "at equal length",
        "length ratio",
    )
    for rate in report["win_rates"]:
        table.add_row(
            f"{rate['arm']} over {rate['against']}",
            f"{rate['rate']:.3f}",
            f"{rate['low']:.3f} to {rate['high']:.3f}",
            f"{rate['length_controlled']:.3f}",
            f"{rate['length_ratio']:.2f}",
        )
    return table


def _arms(report: Report) -> Table:
    table = _table("The arms", "arm", "utility", "tokens", "finished", "distinct-2", "fits prompt")
    for arm in report["arms"]:
        table.add_row(
            arm["arm"],
            f"{arm['mean_utility']:.3f}",
            f"{arm['mean_tokens']:.1f}",
            f"{arm['finished_share']:.0%}",
            f"{arm['distinct_2']:.3f}",
            f"{arm['prompt_match_share']:.2f}",
        )
    return table


def _guards(report: Report) -> Table:
    table = _table("Guards against a gamed judge", "guard", "found", "allowed", "")
    for guard in report["guards"]:
        mark = Text("kept", "green") if guard["is_kept"] else Text("BROKEN", "bold red")
        table.add_row(guard["name"], f"{guard['value']:.3f}", guard["bound"], mark)
    return table


def _print_samples(console: Console, report: Report) -> None:
    console.print(Text("The first held-out prompts, not selected", "bold"))
    for sample in report["samples"]:
        for name, text in sample.items():
            style = "cyan" if name == "prompt" else ""
            line = Text.assemble((f"  {name:>8}  ", "dim"), (" ".join(text.split()), style))
            console.print(line, soft_wrap=True)
        console.print()


def _facts(report: Report) -> Table:
    table = Table.grid(padding=(0, 2))
    votes = f"{report['votes_sent']} sent, {report['votes_in_dataset']} in the dataset"
    rows = {
        "requests": f"{report['requests_total']} in all, {report['requests_failed']} failed",
        "versions": (
            f"{report['choices_audited']} of {report['choices_served']} answers replayed, "
            f"{report['requests_mixed_versions']} from another version than they name"
        ),
        "votes": f"{votes}, {report['votes_lost']} lost",
        "reward model": (
            f"right in {_number(report['rm_accuracy'])} of held-out comparisons "
            f"({_number(report['rm_accuracy_low'])} to {_number(report['rm_accuracy_high'])})"
        ),
        "promoted": report["promoted"] or "nothing: " + " ".join(report["gate_reasons"]),
        "wall time": f"{report['wall_seconds']:.0f} s after set-up",
    }
    for name, value in rows.items():
        table.add_row(Text(name, "dim"), Text(value))
    return table


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.3f}"
