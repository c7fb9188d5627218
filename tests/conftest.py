"""Count what ran: a selection that executed nothing is a failure, skips are explained."""

from collections import Counter

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    stats = terminalreporter.stats
    num_run = sum(len(stats.get(kind, [])) for kind in ("passed", "failed", "xfailed", "xpassed"))
    skipped = [report for report in stats.get("skipped", []) if isinstance(report.longrepr, tuple)]
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    terminalreporter.write_sep("=", "count")
    terminalreporter.write_line(f"tests run: {num_run}, skipped: {len(skipped)}")
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"  {count} skipped: {reason}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    # A marker that was selected and ran nothing must not look like success.
    is_listing = session.config.option.collectonly
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if is_listing or exitstatus != pytest.ExitCode.OK or reporter is None:
        return
    if not reporter.stats.get("passed") and not reporter.stats.get("xfailed"):
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
