"""`options.json` and docs/options.md say what the commands take: `make options` writes them."""

from __future__ import annotations

import shlex

import pytest

from candor.cli.commands import COMMANDS
from candor.cli.known import OPTIONS_FILE, KnownCommand, known_commands
from candor.cli.reference import options_json, options_page, read_commands
from tests.paths import ROOT
from tests.stack.command_line import command_line, parse


def test_both_files_are_what_the_commands_take() -> None:
    commands = read_commands()
    assert OPTIONS_FILE.read_text("utf-8") == options_json(commands), "run make options"
    page = (ROOT / "docs" / "options.md").read_text("utf-8")
    assert page == options_page(commands), "run make options"


@pytest.mark.parametrize("command", known_commands(), ids=lambda command: command.name)
def test_an_example_is_a_line_that_the_command_takes(command: KnownCommand) -> None:
    words = [word for word in shlex.split(command.example) if word != ">"]
    if command.name == "completion":  # the shell takes the rest
        words = words[:1]
    options = parse(command_line(), [*command.name.split(), *words])
    assert bool(options) is bool(words)


def test_the_files_hold_what_was_read_from_the_commands() -> None:
    assert [command.name for command in known_commands()] == [command.name for command in COMMANDS]
    serve = next(command for command in known_commands() if command.name == "serve")
    by_flag = {option.flags[0]: option for option in serve.options}
    port = by_flag["--port"]
    assert (port.value, port.default, port.required, port.place) == ("N", "8000", False, None)
    assert port.variables == ["CANDOR_SERVE_PORT"]
    assert by_flag["--model"].place == "MODEL"
    assert by_flag["--model"].required
    assert by_flag["--api-key"].variables == ["CANDOR_API_KEY", "CANDOR_SERVE_API_KEY"]
    assert by_flag["--engine"].choices == ["packed", "padded", "vllm"]
    assert by_flag["--probe"].repeat
    assert not by_flag["--port"].repeat
    assert by_flag["--insecure-no-auth"].value == ""
    assert list(by_flag["--openrlhf-extra-logs"].flags) == [
        "--openrlhf-extra-logs",
        "--no-openrlhf-extra-logs",
    ]


def test_no_option_has_a_flag_that_empties_it() -> None:
    flags = {
        flag for command in known_commands() for option in command.options for flag in option.flags
    }
    assert len(flags) > 100
    assert {flag for flag in flags if flag.startswith("--empty-")} == {"--empty-response"}


def test_commands_that_need_the_server_read_its_address_from_the_environment() -> None:
    reading = {
        command.name
        for command in known_commands()
        for option in command.options
        if "CANDOR_REWARD_URL" in option.variables
    }
    assert reading == {"check", "score", "rl", "probe replace"}


def test_the_first_argument_needs_no_flag() -> None:
    places = {command.name: command.places for command in known_commands()}
    assert places["serve"] == ["MODEL"]
    assert places["score"] == ["ROLLOUTS"]
    assert places["probe train"] == ["DATA..."]
    required = {
        command.name
        for command in known_commands()
        if not command.places and any(option.required for option in command.options)
    }
    # What they write is named, and is no input.
    assert required == {"data build", "data questions", "eval sycophancy"}
