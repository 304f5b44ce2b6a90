"""`--help` of every command: what it holds, and that it comes at once."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from candor.cli.commands import COMMANDS
from candor.cli.help import asks_for_help, help_text
from candor.cli.known import find_command, known_commands
from candor.jobs.running.processes import candor
from tests.cpu_time import cost
from tests.paths import ROOT

each = pytest.mark.parametrize("name", [command.name for command in COMMANDS])


@each
def test_help_has_usage_an_example_a_page_and_every_option(name: str) -> None:
    text = help_text([*name.split(), "--help"])
    assert text is not None
    command = find_command(name.split())
    assert command is not None
    assert text.startswith(f"Usage: candor {name}")
    assert command.help in text
    assert f"candor {name}" in text.partition("Example\n")[2].splitlines()[0]
    assert (ROOT / command.page).exists()
    assert text.splitlines()[-1] == f"More: {command.page}, docs/options.md"
    for option in command.options:
        for flag in option.flags:
            assert flag in text
    assert "--empty-" not in text.replace("--empty-response", "")
    assert max(map(len, text.splitlines())) <= 100


@each
def test_the_example_is_one_that_the_command_takes(name: str) -> None:
    command = find_command(name.split())
    assert command is not None
    words = command.example.split()
    flags = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert flags <= {flag for option in command.options for flag in option.flags}
    for option in command.options:
        if option.required and option.place is None:
            assert option.flags[0] in flags
        if option.required and option.place is not None:
            assert words, f"{name} needs {option.place}"


def test_every_option_has_a_meaning() -> None:
    without = [
        f"{command.name} {option.flags}"
        for command in known_commands()
        for option in command.options
        if not option.help.endswith((".", ")", '"'))
    ]
    assert without == []


def test_the_first_groups_are_those_a_first_user_needs() -> None:
    def groups(name: str) -> list[str]:
        found = find_command(name.split())
        assert found is not None
        return list(dict.fromkeys(option.group for option in found.options))

    assert groups("serve")[:2] == ["Model and probes", "Network"]
    assert groups("serve")[-1] == "With --engine vllm"
    assert groups("score") == ["Input and output", "Servers", "Penalty", "Options"]
    overview = help_text(["--help"]) or ""
    assert overview.index("  serve ") < overview.index("  score ") < overview.index("  probe train")


def test_a_command_line_asks_for_help_where_it_says_so_or_says_no_command() -> None:
    assert asks_for_help([])
    assert asks_for_help(["serve", "m", "-h"])
    assert asks_for_help(["probe"])
    assert not asks_for_help(["serve", "m"])
    assert not asks_for_help(["data", "kinds"])
    assert not asks_for_help(["score", "x", "--", "--help"])
    assert help_text(["serv", "--help"]) is None


def test_help_answers_within_half_a_second() -> None:
    command = candor("probe", "train", "--help")
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    assert cost(command, ROOT) < 0.5


def test_a_reader_who_stops_reading_sees_no_stack_trace() -> None:
    command = f"{' '.join(candor('serve', '--help'))} | head -1"
    ended = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ended.stdout.startswith("Usage: candor serve MODEL")
    assert ended.stderr == ""


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal")
@pytest.mark.parametrize(("variables", "bold"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_headings_are_bold_on_a_terminal_alone(variables: dict[str, str], bold: bool) -> None:
    ours, theirs = pty.openpty()
    environ = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        candor("check", "--help"), cwd=ROOT, stdout=theirs, env=environ | variables
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65_536)
        except OSError:
            break
        if not part:
            break
        shown += part
    process.wait(60)
    os.close(ours)
    assert (b"\x1b[1mExample\x1b[0m" in shown) is bold
    piped = subprocess.run(candor("check", "--help"), cwd=ROOT, capture_output=True, timeout=60)
    assert b"\x1b" not in piped.stdout
