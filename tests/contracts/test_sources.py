"""Rules that every source file keeps: size, what the kernel imports, ``__init__`` files, no trace of a machine."""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

LINES_OF_A_FILE = 450

# Without the command line. For comparison, counted in the same way: starlette 5,400, lihil 8,000, dishka 10,100.
CODE_LINES_OF_THE_KERNEL = 9_450

# Where the kernel may name a backend: the bridge runs an asyncio loop for trio, the deadlines read the loop's clock.
BACKEND_MODULES = {"_bridge.py", "_deadline.py"}

# Taken where they are installed: a faster encoder, a watcher of files, and a module of the library from Python 3.14.
OPTIONAL_OF_THE_KERNEL = {"orjson", "watchfiles", "annotationlib"}

_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING}

# Put together here, so that this file does not hold what it looks for.
_REGISTRIES = [
    r"py" + r"pi\.org",
    r"python" + r"hosted\.org",
    r"npm" + r"js\.(?:org|com)",
    r"deb\.debian" + r"\.org",
    r"security\.debian" + r"\.org",
    r"yarn" + r"pkg\.com",
]
_MACHINE_PATHS = [rf"(?<![\w.:/]){'/' + top}\b" for top in (r"work/(?:main|shared|\.\w+)", r"root/\.\w+", r"opt/pypi")]
_TRACES = re.compile("|".join([*_REGISTRIES, *_MACHINE_PATHS]))


def test_no_python_file_is_over_450_lines(tracked: list[Path], repository: Path) -> None:
    counted = {path.relative_to(repository): _lines(path) for path in tracked if path.suffix == ".py"}
    assert {path: count for path, count in counted.items() if count > LINES_OF_A_FILE} == {}


def test_the_kernel_stays_small(repository: Path) -> None:
    files = _kernel_files(repository, with_cli=False)
    counted = {str(path.relative_to(repository)): _code_lines(path.read_text()) for path in files}
    assert sum(counted.values()) <= CODE_LINES_OF_THE_KERNEL, counted


def test_code_lines_leave_out_docstrings_comments_and_blanks() -> None:
    source = '"""Doc\n\nmore."""\n\n# why\nx = 1  # one\n\n\ndef f():\n    """Doc."""\n    return """a\nb"""\n'
    assert _code_lines(source) == 4


@pytest.mark.feature("FC-01")
def test_the_kernel_names_a_backend_only_in_its_bridge_and_deadlines(repository: Path) -> None:
    found = {
        f"{path.relative_to(repository)}:{line}: {name}"
        for path in _kernel_files(repository)
        if path.name not in BACKEND_MODULES
        for line, name in _imports(path)
        if name.partition(".")[0] in {"asyncio", "trio"}
    }
    assert found == set()


@pytest.mark.feature("FC-01")
def test_the_kernel_imports_pluggy_anyio_and_the_standard_library_only(repository: Path) -> None:
    allowed = {*sys.stdlib_module_names, "microkit", "pluggy", "anyio", "trio", *OPTIONAL_OF_THE_KERNEL}
    found = {
        f"{path.relative_to(repository)}:{line}: {name}"
        for path in _kernel_files(repository)
        for line, name in _imports(path)
        if name.partition(".")[0] not in allowed
    }
    assert found == set()


def test_init_files_only_re_export(repository: Path, distribution_folders: list[Path]) -> None:
    """``__getattr__`` and ``__dir__`` are let pass: with them a module re-exports lazily."""
    found = {
        f"{path.relative_to(repository)}:{node.lineno}"
        for folder in distribution_folders
        for path in _package(folder).rglob("__init__.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        and node.name not in {"__getattr__", "__dir__"}
    }
    assert found == set()


def test_tests_are_no_packages(repository: Path, tracked: list[Path]) -> None:
    """With ``--import-mode=importlib`` tests of different distributions may share names, unless they are packages."""
    inits = [path for path in tracked if path.name == "__init__.py" and "tests" in path.relative_to(repository).parts]
    assert inits == []


@pytest.mark.guarantee("G12")
def test_wide_async_fixtures_take_the_backend(tracked: list[Path], repository: Path) -> None:
    """Without the argument pytest keeps the fixture over the change of the backend, and trio's tests run on asyncio."""
    found = {
        f"{path.relative_to(repository)}:{node.lineno}: {node.name}"
        for path in tracked
        if path.suffix == ".py" and (path.name == "conftest.py" or path.name.startswith("test_"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.AsyncFunctionDef)
        and any("fixture(" in (text := ast.unparse(mark)) and "scope=" in text for mark in node.decorator_list)
        and "anyio_backend" not in {argument.arg for argument in node.args.args}
    }
    assert found == set()


def test_no_file_names_a_registry_or_a_folder_of_one_machine(tracked: list[Path], repository: Path) -> None:
    found = [
        f"{path.relative_to(repository)}:{number}: {line.strip()[:100]}"
        for path in tracked
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if _TRACES.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    ["https://py" + "pi.org/simple", "cd /" + "work/main", '"/' + 'root/.cache"', "files.python" + "hosted.org"],
)
def test_the_search_for_traces_finds_them(text: str) -> None:
    assert _TRACES.search(text)


@pytest.mark.parametrize(
    "text", ["see pypi for it", "/users/{id}", "a/work/b", "GET /homework", "https://a.example/work/1"]
)
def test_the_search_for_traces_lets_routes_and_words_pass(text: str) -> None:
    assert not _TRACES.search(text)


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def _package(folder: Path) -> Path:
    kernel = folder / "microkit"
    return kernel if kernel.is_dir() else folder / folder.name.replace("-", "_")


def _kernel_files(repository: Path, *, with_cli: bool = True) -> list[Path]:
    kernel = repository / "microkit"
    files = sorted(kernel.rglob("*.py"))
    assert files, "the kernel is missing"
    return [path for path in files if with_cli or "cli" not in path.relative_to(kernel).parts]


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module


def _code_lines(source: str) -> int:
    """Lines with code on them: no docstrings, comments or blank lines."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE and token.type != tokenize.ENDMARKER:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - _docstring_lines(source))


def _docstring_lines(source: str) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            assert first.end_lineno is not None
            lines.update(range(first.lineno, first.end_lineno + 1))
    return lines
