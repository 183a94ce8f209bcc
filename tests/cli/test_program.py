"""The program as a whole: its options, its exit codes, and commands of plugins."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

import microkit.cli.routes

if TYPE_CHECKING:
    from conftest import Project

_BROKEN = "raise RuntimeError('half installed')\n"
_COMMANDS = """
from microkit.hookspecs import hookimpl
from microkit.cli import CommandError

def greet(args):
    if args.name == "nobody":
        raise CommandError("There is nobody.")
    print(f"hello {args.name}", *args.flags)

@hookimpl
def microkit_commands(cli):
    cli.add_command("greet", greet, help="say hello", configure=lambda parser: parser.add_argument("name"))
"""


@pytest.mark.feature("F003-50")
def test_the_version_is_that_of_the_distribution(project: Project) -> None:
    result = project.run("--version")
    assert (result.code, result.out) == (0, f"microkit {version('microkit')}\n")


@pytest.mark.feature("F003-50")
def test_help_lists_the_commands(project: Project) -> None:
    result = project.run("--help")
    assert result.code == 0
    for command in ("run", "routes", "plugins", "explain", "doctor", "call"):
        assert f"\n    {command} " in result.out


@pytest.mark.parametrize("command", ["run", "routes", "plugins", "explain", "doctor", "call"])
def test_every_command_has_help(project: Project, command: str) -> None:
    result = project.run(command, "--help")
    assert result.code == 0
    assert f"usage: microkit {command}" in result.out
    assert "-p [no:]PLUGIN" in result.out


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["nonsense"],
        ["routes"],
        ["routes", "a:b", "--nope"],
        ["call", "a:b", "c", "--arg", "novalue"],
        ["-p"],
        ["run", "a:b", "--port", "x"],
        ["run", "a:b", "--port", "65536"],
        ["run", "a:b", "--workers", "0"],
        ["run", "a:b", "--reload", "--reload-dir", "nowhere"],
    ],
)
def test_wrong_usage_ends_with_2(project: Project, argv: list[str]) -> None:
    result = project.run(*argv)
    assert result.code == 2
    assert "usage: microkit" in result.err
    assert result.out == ""


@pytest.mark.feature("FX-05")
def test_commands_work_without_any_plugin(project: Project) -> None:
    project.write("shop.py", "from microkit import App\napp = App()\n@app.get('/a')\nasync def a(): return 1")
    for argv in (["routes", "shop:app"], ["plugins"], ["explain", "shop:app", "a"], ["doctor", "shop:app"]):
        assert project.run(*argv).code == 0
    assert project.run("call", "shop:app", "a").json == 1
    assert [each["name"] for each in project.run("plugins", "--json").json] == ["kernel"]


def test_modules_of_other_commands_are_not_imported(project: Project) -> None:
    code = (
        "import sys; from microkit.cli import main; main(['plugins'])\n"
        "print(sorted(name for name in sys.modules if name.startswith('microkit.cli.')))\n"
        "assert 'microkit.cli.run' not in sys.modules and 'microkit.cli.call' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project.folder, env=os.environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "argv",
    [
        ["-p", "no:extra", "plugins", "--json"],
        ["plugins", "--json", "-p", "no:extra"],
        ["-pno:extra", "plugins", "--json"],
    ],
)
def test_a_plugin_is_left_out_by_a_switch_before_or_after_the_command(
    project: Project, monkeypatch: pytest.MonkeyPatch, argv: list[str]
) -> None:
    project.install("extra", _BROKEN)
    monkeypatch.setenv("MICROKIT_PLUGINS", "extra")
    states = {each["name"]: each["state"] for each in project.run(*argv).json}
    assert states == {"kernel": "active", "extra": "blocked"}


def test_a_plugin_adds_a_command(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.install("greeter", _COMMANDS)
    monkeypatch.setenv("MICROKIT_PLUGINS", "greeter")
    assert "say hello" in project.run("--help").out
    result = project.run("-p", "no:other", "greet", "anna", "-p", "no:more")
    assert (result.code, result.out) == (0, "hello anna no:other no:more\n")
    assert project.run("greet", "nobody").paragraph == "microkit: There is nobody."
    assert project.run("greet").code == 2
    assert project.run("-p", "no:greeter", "greet", "anna").code == 2


def test_a_plugin_cannot_take_the_name_of_a_command(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.install("greeter", _COMMANDS.replace('"greet"', '"run"'))
    monkeypatch.setenv("MICROKIT_PLUGINS", "greeter")
    result = project.run("--help")
    assert result.code == 0
    assert "the command 'run' exists already" in " ".join(result.out.split())


@pytest.mark.feature("FC-07")
def test_help_goes_on_with_a_broken_plugin_and_names_it(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.install("broken", _BROKEN)
    monkeypatch.setenv("MICROKIT_PLUGINS", "broken")
    result = project.run("--help")
    assert result.code == 0
    text = " ".join(result.out.split())
    assert "Plugin 'broken' (thing-broken) is failed: RuntimeError: half installed." in text
    assert "-p no:broken" in text


def test_an_unknown_command_names_the_broken_plugin_that_may_have_brought_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.install("broken", _BROKEN)
    monkeypatch.setenv("MICROKIT_PLUGINS", "broken")
    result = project.run("greet", "anna")
    assert result.code == 2
    assert "warning: Plugin 'broken'" in result.err


def test_a_bug_in_a_command_is_one_paragraph_too(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.install("greeter", _COMMANDS.replace('print(f"hello', 'print(1 / 0, f"hello'))
    monkeypatch.setenv("MICROKIT_PLUGINS", "greeter")
    paragraph = project.run("greet", "anna").paragraph
    assert "ZeroDivisionError: division by zero (thing_greeter.py:8 in greet)" in paragraph


def test_an_interruption_ends_with_130(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(microkit.cli.routes, "run", interrupted)
    assert project.run("routes", "shop:app").code == 130


def test_a_reader_that_goes_away_is_no_traceback(project: Project) -> None:
    routes = "\n".join(f"app.get('/path/{number}')(h)" for number in range(2000))
    project.write("shop.py", f"from microkit import App\napp = App()\nasync def h(): pass\n{routes}\n")
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "microkit", "routes", "shop:app"],
        cwd=project.folder,
        stdout=write,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    assert done.returncode == 1
    assert done.stderr == b""


def test_a_plugin_that_is_not_there_is_named_with_one_alike(project: Project) -> None:
    project.install("extra", "")
    project.write("shop.py", "from microkit import App\napp = App()")
    result = project.run("-p", "extar", "-p", "extra", "routes", "shop:app")
    assert result.code == 0
    assert "Did you mean 'extra'? Repair" in result.err
