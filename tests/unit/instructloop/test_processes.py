"""Processes end with their block, however it ends; a failure says its own last words."""

import asyncio
import os
import signal

import pytest

from instructloop.demo.processes import ProcessFailed, last_line, processes

LINGERING = (
    "import sys, time\nprint('ready', flush=True)\nsys.stderr.write('busy\\n')\ntime.sleep(60)\n"
)
STUBBORN = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{LINGERING}"
REFUSING = "import sys\nsys.stderr.write('noise\\nerror: no such base\\n')\nsys.exit(1)\n"


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return a function that writes a module and gives its name."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(code, name="spoken"):
        (tmp_path / f"{name}.py").write_text(code)
        return name

    return write


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_process_is_heard_and_ends_with_the_block(tmp_path, module):
    async with processes(tmp_path / "logs") as running:
        process = await running.start("talker", module(LINGERING), [])
        assert await process.next_line() == "ready"
        pid = process.process.pid
        assert is_alive(pid)
    assert not is_alive(pid)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, asyncio.CancelledError])
async def test_an_exception_leaves_no_process_behind(tmp_path, module, error):
    pids = []

    async def break_off():
        async with processes(tmp_path / "logs") as running:
            process = await running.start("talker", module(LINGERING), [])
            await process.next_line()
            pids.append(process.process.pid)
            raise error

    with pytest.raises(error):
        await break_off()
    assert not is_alive(pids[0])


async def test_what_does_not_listen_is_killed(tmp_path, module):
    async with processes(tmp_path / "logs", end_timeout_s=0.2) as running:
        process = await running.start("stubborn", module(STUBBORN), [])
        await process.next_line()
    assert process.process.returncode == -signal.SIGKILL


async def test_a_refusal_is_one_line_with_the_last_words(tmp_path, module):
    async with processes(tmp_path / "logs") as running:
        process = await running.start("train sft", module(REFUSING), [])
        with pytest.raises(ProcessFailed) as failed:
            await process.finish()
    assert str(failed.value) == "train sft ended with status 1: no such base"
    assert process.log.name == "train-sft.log"


async def test_a_process_that_ends_before_it_is_ready_says_why(tmp_path, module):
    async with processes(tmp_path / "logs") as running:
        process = await running.start("serve", module(REFUSING), [])
        with pytest.raises(ProcessFailed, match="serve ended with status 1: no such base"):
            await process.next_line()


async def test_news_are_told_while_it_works_and_the_output_is_whole(tmp_path, module):
    news = []
    code = "import sys, time\nsys.stderr.write('half way\\n')\ntime.sleep(1.2)\nprint('x' * 100000)"
    async with processes(tmp_path / "logs") as running:
        process = await running.start("worker", module(code), [])
        output = await process.finish(news.append)
    assert "half way" in news
    assert output == "x" * 100_000 + "\n"


async def test_settings_of_the_users_own_service_do_not_reach_the_demos(
    tmp_path, module, monkeypatch
):
    monkeypatch.setenv("INSTRUCTLOOP_PORT", "1")
    monkeypatch.setenv("INSTRUCTLOOP_CACHE_DIR", "kept")
    code = "import os\nprint([k for k in sorted(os.environ) if k.startswith('INSTRUCTLOOP_')])"
    async with processes(tmp_path / "logs") as running:
        output = await (await running.start("worker", module(code), [])).finish()
    assert "INSTRUCTLOOP_CACHE_DIR" in output
    assert "INSTRUCTLOOP_PORT" not in output


@pytest.mark.parametrize(
    ("text", "last"), [("", ""), ("a\nb\n\n", "b"), ("10%\r20%\r", "20%"), ("x" * 9000, "x" * 4096)]
)
def test_the_last_line_that_says_something(tmp_path, text, last):
    log = tmp_path / "log"
    log.write_text(text)
    assert last_line(log) == last
