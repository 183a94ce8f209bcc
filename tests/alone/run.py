"""Proves that every distribution can be installed on its own: ``make alone``.

Builds the wheels of all distributions. Then, for the kernel, for each plugin and for all together: a fresh environment
with these wheels, the testkit's and the test tools, where the requirements are consistent, the installed files are
those of the wheels, and the entry points are exactly the expected ones. The distribution's tests, copied to an empty
folder, run there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from environment import Environment, StepError, build_wheels, run
from workspace import (
    KERNEL,
    ROOT,
    TESTKIT,
    Distribution,
    closure,
    read_workspace,
    requirement_name,
    write_pytest_config,
)

# What the kernel may bring along: its two dependencies and theirs; pip is there if venv made the environment.
BARE = {"microkit", "pluggy", "anyio", "idna", "typing-extensions", "pip", "setuptools"}

_SCRATCH = shutil.ignore_patterns("__pycache__", "node_modules")


@dataclass(frozen=True)
class Case:
    """One environment.

    Args:
        name: What ``--only`` selects it by.
        install: First-party distributions that are installed by name, besides the testkit.
        tested: Distributions whose tests run.
    """

    name: str
    install: tuple[str, ...]
    tested: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """How a case ended; ``problem`` is empty if all is well."""

    name: str
    seconds: float
    passed: int
    problem: str


def main() -> int:
    parser = argparse.ArgumentParser(description="Tests each distribution in a fresh environment.")
    parser.add_argument("--only", metavar="NAME", help="kernel, all, or a plugin: trie or microkit-trie")
    parser.add_argument("--keep", action="store_true", help="keep the environments and print where they are")
    options = parser.parse_args()
    workspace = read_workspace()
    cases = [
        case for case in _cases(workspace) if options.only in (None, case.name, case.name.removeprefix("microkit-"))
    ]
    if not cases:
        parser.error(f"no such case; there are: {', '.join(case.name for case in _cases(workspace))}")
    scratch = Path(tempfile.mkdtemp(prefix="microkit-alone-"))
    try:
        build_wheels(workspace, scratch / "dist")
        # Side by side: each has folders and servers of its own, and much of the time is waiting.
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            outcomes = list(pool.map(lambda case: _attempt(case, workspace, scratch, scratch / "dist"), cases))
    finally:
        if options.keep:
            print(f"kept: {scratch}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    return _report(outcomes)


def _cases(workspace: dict[str, Distribution]) -> list[Case]:
    plugins = tuple(name for name in workspace if name != KERNEL)
    alone = [Case(name, (name,), (name,)) for name in plugins]
    # All tests with all distributions installed are what `make test` runs already.
    return [Case("kernel", (KERNEL,), (KERNEL,)), *alone, Case("all", (f"{KERNEL}[all]", *plugins), (KERNEL,))]


def _attempt(case: Case, workspace: dict[str, Distribution], scratch: Path, wheels: Path) -> Outcome:
    start = time.monotonic()
    passed, problem = 0, ""
    folder = scratch / case.name
    folder.mkdir()
    try:
        passed = _run_case(case, workspace, folder, wheels)
    except StepError as error:
        problem = str(error)
    return Outcome(case.name, time.monotonic() - start, passed, problem)


def _run_case(case: Case, workspace: dict[str, Distribution], folder: Path, wheels: Path) -> int:
    environment = Environment(folder / "venv", wheels)
    if case.name == "kernel":
        _try_bare_kernel(environment, workspace[KERNEL], folder)
    requirements = [_pinned(name, workspace) for name in dict.fromkeys((*case.install, TESTKIT))]
    tools = {tool for name in (*case.tested, TESTKIT) if name != KERNEL for tool in workspace[name].test_tools}
    environment.install([*requirements, *sorted(tools)])
    environment.check()
    _verify(case, environment, workspace)
    return sum(_run_tests(workspace[name], environment, folder) for name in case.tested)


def _try_bare_kernel(environment: Environment, kernel: Distribution, folder: Path) -> None:
    environment.install([f"{KERNEL}=={kernel.version}"])
    extra = {requirement_name(name) for name in environment.probe()["installed"]} - BARE
    if extra:
        raise StepError(f"the kernel alone brings {', '.join(sorted(extra))}")
    script = Path(shutil.copy(Path(__file__).parent / "bare.py", folder))
    run([environment.python, "-I", "-W", "error", script], folder)


def _verify(case: Case, environment: Environment, workspace: dict[str, Distribution]) -> None:
    named = tuple(requirement_name(name) for name in (*case.install, TESTKIT, KERNEL))
    expected = closure(named, workspace)
    found = environment.probe()
    if not Path(found["kernel"] or "nowhere").is_relative_to(environment.folder):
        raise StepError(f"the kernel is imported from {found['kernel']}")
    ours = {requirement_name(name) for name in found["installed"]} & workspace.keys()
    if ours != expected:
        raise StepError(f"installed are {sorted(ours)}, expected {sorted(expected)}")
    for name in expected:
        environment.verify_origin(workspace[name])
    points = sorted(point for name in expected for point in workspace[name].entry_points)
    if found["entry_points"] != points:
        raise StepError(f"the entry points are {found['entry_points']}, expected {points}")


def _run_tests(dist: Distribution, environment: Environment, folder: Path) -> int:
    """Run one distribution's tests outside the checkout and return how many passed; none at all is a failure."""
    if not any(dist.tests.rglob("test_*.py")):
        raise StepError(f"{dist.name}: no tests")
    here = folder / f"of-{dist.name}"
    shutil.copytree(dist.tests, here / "tests", ignore=_SCRATCH)
    # What tests with real servers stand on.
    shutil.copy(ROOT / "tests" / "servers.py", here / "tests")
    shutil.copytree(ROOT / "tests" / "rabbitmq", here / "tests" / "rabbitmq", ignore=_SCRATCH)
    write_pytest_config(here)
    report = here / "report.xml"
    pytest = [
        environment.python,
        "-P",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--junit-xml={report}",
        "tests",
    ]
    run(pytest, here)
    suite = ET.parse(report).getroot().find("testsuite")
    assert suite is not None
    passed = int(suite.get("tests", 0)) - int(suite.get("skipped", 0))
    if passed < 1:
        raise StepError(f"{dist.name}: no test passed, all were skipped")
    return passed


def _pinned(name: str, workspace: dict[str, Distribution]) -> str:
    return f"{name}=={workspace[requirement_name(name)].version}"


def _report(outcomes: list[Outcome]) -> int:
    failed = [outcome for outcome in outcomes if outcome.problem]
    for outcome in failed:
        print(f"=== {outcome.name}\n{outcome.problem}\n")
    width = max(len(outcome.name) for outcome in outcomes)
    print(f"{'name':<{width}}  seconds  passed  ok")
    for outcome in outcomes:
        ok = "no" if outcome.problem else "yes"
        print(f"{outcome.name:<{width}}  {outcome.seconds:7.1f}  {outcome.passed:6}  {ok}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
