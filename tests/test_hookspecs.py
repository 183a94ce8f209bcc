"""The hooks as data, their documentation, and the typed facade that mirrors them."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path

import pytest

from microkit import hookspecs
from microkit.hooks import Hooks
from microkit.hookspecs import HOOKS, VERSION, HookInfo

_EACH_HOOK = pytest.mark.parametrize("hook", [pytest.param(hook, id=name) for name, hook in HOOKS.items()])


def test_hooks_exist_for_every_area_of_extension() -> None:
    areas = {"routers", "providers", "middleware", "session_backends", "transports", "triggers", "executors"}
    assert {f"microkit_{area}" for area in areas} <= HOOKS.keys()
    assert len(HOOKS) == 22


@_EACH_HOOK
@pytest.mark.feature("FC-03")
def test_every_hook_says_when_it_is_called_what_it_takes_and_what_it_returns(hook: HookInfo) -> None:
    text = inspect.getdoc(getattr(hookspecs, hook.name))
    assert text is not None
    assert text.partition("\n")[0].endswith(".")
    assert _when(hook).startswith("Called ")
    for argument in hook.arguments:
        assert re.search(rf"^    {argument}: \S", text, re.MULTILINE), f"{argument} is not documented"
    assert ("Returns:" in text) == (hook.returns != "None")


@_EACH_HOOK
def test_contributions_return_specs_and_first_results_may_be_none(hook: HookInfo) -> None:
    assert hook.returns.startswith("Contributed[") == (hook.kind == "contribution")
    if hook.firstresult:
        assert hook.kind == "call"
        assert hook.returns.endswith("| None")


@pytest.mark.parametrize("hook", [pytest.param(HOOKS[name], id=name) for name in HOOKS if name != "microkit_addhooks"])
def test_the_facade_has_each_hook_with_its_arguments_and_type(hook: HookInfo) -> None:
    method = getattr(Hooks, hook.name.removeprefix("microkit_"))
    signature = inspect.signature(method)
    assert tuple(signature.parameters)[1:] == hook.arguments
    specified = inspect.signature(getattr(hookspecs, hook.name))
    for name in hook.arguments:
        assert signature.parameters[name].annotation == specified.parameters[name].annotation
    contributed = re.fullmatch(r"Contributed\[(.+)\]", hook.returns)
    if contributed:
        expected = f"list[Contribution[{contributed[1]}]]"
    elif hook.firstresult or hook.returns == "None":
        expected = hook.returns
    else:
        item = re.fullmatch(r"Iterable\[(.+)\] \| None", hook.returns)
        assert item is not None
        expected = f"list[{item[1]}]"
    assert signature.return_annotation == expected


def test_the_facade_has_nothing_but_hooks() -> None:
    methods = {name for name in vars(Hooks) if not name.startswith("_")}
    # Registration itself calls this one.
    assert {f"microkit_{name}" for name in methods} == HOOKS.keys() - {"microkit_addhooks"}


@pytest.mark.feature("FC-03")
def test_the_table_of_the_readme_is_that_of_the_specifications(repository: Path) -> None:
    text = (repository / "README.md").read_text()
    section = re.search(r"<!-- hooks:start -->\n(.*?)\n?<!-- hooks:end -->", text, re.DOTALL)
    assert section is not None, "the README has no section between hooks:start and hooks:end"
    assert section[1].strip() == _hook_table(), f"paste this into the README:\n{_hook_table()}"


def test_the_table_shows_name_arguments_result_kind_and_moment() -> None:
    row = next(row for row in _hook_table().splitlines() if "microkit_collect" in row)
    assert row == (
        "| `microkit_collect(obj, app)` | `Iterable[Binding] \\| None` | W, first result "
        "| for each `app.include(obj)` |"
    )


def test_hooks_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        HOOKS["microkit_more"] = HOOKS["microkit_settings"]  # type: ignore[index]
    with pytest.raises(AttributeError):
        HOOKS["microkit_settings"].kind = "call"  # type: ignore[misc]


def test_the_kernel_version_is_that_of_its_distribution(repository: Path) -> None:
    assert tomllib.loads((repository / "pyproject.toml").read_text())["project"]["version"] == VERSION


def _when(hook: HookInfo) -> str:
    """The paragraph that says when a hook is called."""
    paragraphs = (" ".join(part.split()) for part in (getattr(hookspecs, hook.name).__doc__ or "").split("\n\n"))
    return next((part for part in paragraphs if part.startswith("Called ")), "")


def _hook_table() -> str:
    """The hooks as a Markdown table, a row each; `C` is a contribution, `W` a call."""
    rows = ["| hook | returns | kind | when |", "|---|---|---|---|"]
    for hook in HOOKS.values():
        # A bar would end the cell, even inside of code.
        returns = hook.returns.replace("|", "\\|")
        kind = "C" if hook.kind == "contribution" else "W, first result" if hook.firstresult else "W"
        when = _when(hook).removeprefix("Called ").removesuffix(".")
        rows.append(f"| `{hook.name}({', '.join(hook.arguments)})` | `{returns}` | {kind} | {when} |")
    return "\n".join(rows)
