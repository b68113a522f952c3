"""The program itself: help, version, errors as one line, speed of the help."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

import ttame
from ttame.cli.guard import GuardedGroup
from ttame.errors import InputError

COMMANDS = (
    *("explain", "train", "evaluate", "layers", "info", "methods", "metrics"),
    "import-checkpoint",
)


def program(error):
    """A one-command program that raises ``error``."""
    app = typer.Typer(cls=GuardedGroup, pretty_exceptions_enable=False)

    @app.callback()
    def main(debug: bool = False) -> None:
        pass

    @app.command()
    def fail() -> None:
        raise error

    return app


def test_version(call):
    result = call("--version")
    assert (result.exit_code, result.stdout) == (0, f"ttame {ttame.__version__}\n")


def test_help_names_every_command(call):
    result = call("--help")
    assert result.exit_code == 0
    assert all(command in result.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(call, command):
    result = call(command, "--help")
    assert result.exit_code == 0
    assert "Usage: ttame" in result.stdout.replace("root", "ttame")


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["explain", "--help"], ["train", "--help"], ["info", "/nowhere"], ["--version"]],
)
def test_what_needs_no_torch_does_not_import_it(arguments):
    code = (
        "import sys; import ttame.cli.main as m; sys.argv[0] = 'ttame'\n"
        "try: m.run()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'lightning', 'timm', 'pandas', 'matplotlib', 'numpy'}\n"
        "print('loaded:', heavy & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stderr.endswith("loaded: set()\n")


def test_the_module_is_the_program():
    done = subprocess.run(
        [sys.executable, "-m", "ttame", "explain", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Usage: python -m ttame explain" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [["nonsense"], ["explain"], ["train", "--epochs", "x"]])
def test_wrong_usage_exits_with_2(call, arguments):
    result = call(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_our_errors_are_one_line():
    result = CliRunner().invoke(program(InputError("expected [red]this[/],\n  got that")), ["fail"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "error: expected [red]this[/], got that\n"


def test_unexpected_errors_are_one_line_with_a_hint():
    result = CliRunner().invoke(program(ZeroDivisionError("by\nzero")), ["fail"])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: unexpected ZeroDivisionError: by zero (`ttame --debug")
    assert result.stderr.count("\n") == 1


def test_a_full_memory_says_what_to_do():
    result = CliRunner().invoke(program(MemoryError()), ["fail"])
    assert result.stderr == "error: out of memory; choose a smaller --batch-size\n"


@pytest.mark.parametrize("error", [InputError("x"), ZeroDivisionError("x")])
def test_debug_lets_exceptions_through(error):
    result = CliRunner().invoke(program(error), ["--debug", "fail"])
    assert result.exception is error


def test_an_interruption_exits_with_130():
    result = CliRunner().invoke(program(KeyboardInterrupt()), ["fail"])
    assert result.exit_code == 130
    assert result.stderr == "stopped: interrupted from the keyboard\n"


def test_warnings_of_the_library_are_lines(capsys):
    from ttame.cli.console import show_log

    show_log()
    show_log()
    logging.getLogger("ttame.somewhere").warning("a [bold]name[/]")
    assert capsys.readouterr().err == "warning: a [bold]name[/]\n"
