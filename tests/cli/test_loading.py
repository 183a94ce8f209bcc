"""How commands find an application, and what they say when they do not."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from microkit.cli import CommandError, load_app

if TYPE_CHECKING:
    from conftest import Project


def test_an_application_is_named_by_module_and_attribute(project: Project) -> None:
    project.write(
        "shop.py", "from microkit import App\nclass space:\n    app = App(name='nested')\napp = App(name='shop')"
    )
    assert load_app("shop:app").name == "shop"
    assert load_app("shop:space.app").name == "nested"


def test_a_factory_is_called(project: Project) -> None:
    project.write("shop.py", "from microkit import App\ndef create_app(name='made'):\n    return App(name=name)")
    assert load_app("shop:create_app").name == "made"


def test_configuration_comes_from_the_project_unless_the_code_has_its_own(project: Project) -> None:
    project.write("pyproject.toml", '[tool.microkit]\ndisable = ["x"]\n[tool.microkit.app]\nlog_level = "ERROR"\n')
    project.write(
        "shop.py",
        """
        from microkit import App
        app = App()
        own = App()
        own.configuration = {"app": {"log_level": "DEBUG"}}
        """,
    )
    app = load_app("shop:app", ["no:y"])
    assert app.configuration["app"] == {"log_level": "ERROR"}
    assert app.plugin_flags == ("no:y",)
    assert not app.tolerant
    assert load_app("shop:own", tolerant=True).configuration == {"app": {"log_level": "DEBUG"}}
    assert load_app("shop:own", tolerant=True).tolerant


def test_configuration_that_comes_too_late_is_refused(project: Project) -> None:
    project.write("shop.py", "from microkit import App\napp = App()\napp.build()")
    assert load_app("shop:app").name == "app"
    with pytest.raises(CommandError, match="neither -p nor"):
        load_app("shop:app", ["no:trie"])


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("shop", ["'shop' names no application", "module:attribute"]),
        (":app", ["names no application"]),
        ("nowhere:app", ["no module 'nowhere'", "on sys.path"]),
        ("shop.inner:app", ["no module 'shop.inner'"]),
        ("shop:ap", ["shop.py", "no attribute 'ap'", "the application app"]),
        ("helper:answr", ["no attribute 'answr'", "Did you mean 'answer'?"]),
        ("helper:answer", ["of type int", "not a microkit application"]),
        ("helper:Thing", ["the class Thing"]),
        ("helper:needy", ["helper.py:3", "without arguments", "'size'"]),
        ("helper:wrong", ["helper.py:5", "returned str"]),
        ("helper:late", ["returned coroutine"]),
        ("helper:fails", ["factory helper:fails failed", "LookupError: no config", "helper.py:9 in fails"]),
        ("helper:quits", ["factory helper:quits failed", "SystemExit: 3"]),
    ],
)
def test_a_wrong_name_is_told_in_one_paragraph(project: Project, spec: str, said: list[str]) -> None:
    project.write("shop.py", "from microkit import App\napp = App()")
    project.write(
        "helper.py",
        """\
        answer = 42
        class Thing: pass
        def needy(size):
            return size
        def wrong():
            return "no app"
        async def late(): pass
        def fails():
            raise LookupError("no config")
        def quits():
            raise SystemExit(3)
        """,
    )
    paragraph = project.run("routes", spec).paragraph
    for words in said:
        assert words in paragraph


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import os\nprint(undefined)", ["NameError: name 'undefined' is not defined", "shop.py:2 in <module>"]),
        ("from middle import x", ["ZeroDivisionError", "shop.py:1 in <module>", "middle.py:2 in <module>"]),
        ("def broken(:\n    pass", ["SyntaxError", "shop.py:1"]),
        ("import not_installed_here", ["No module named 'not_installed_here'", "shop.py:1"]),
        ("import sys\nsys.exit('bye')", ["SystemExit: bye", "shop.py:2"]),
        ("import json\njson.loads('{')", ["JSONDecodeError", "shop.py:2 in <module>)"]),
        ("from microkit import App\nApp().get('/x')(3)", ["must be bound to something callable", "shop.py:2"]),
    ],
)
def test_an_import_error_shows_the_lines_of_the_user_only(project: Project, source: str, said: list[str]) -> None:
    project.write("shop.py", source)
    project.write("middle.py", "\nx = 1 / 0\n")
    paragraph = project.run("routes", "shop:app").paragraph
    assert "Importing 'shop' failed" in paragraph
    for words in said:
        assert words in paragraph
    assert "importlib" not in paragraph
    assert "site-packages" not in paragraph
    assert "microkit/" not in paragraph


def test_a_broken_configuration_file_is_told(project: Project) -> None:
    project.write("shop.py", "from microkit import App\napp = App()")
    project.write("microkit.toml", "plugins = [")
    assert "microkit.toml cannot be read" in project.run("routes", "shop:app").paragraph


def test_the_program_runs_as_a_module_from_the_directory_of_the_project(project: Project) -> None:
    project.write(
        "shop.py", "from microkit import App\napp = App()\n@app.get('/hello')\nasync def hello(): return 'hi'"
    )
    environment = {**os.environ, "PYTHONWARNINGS": "error"}

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "microkit", *argv],
            cwd=project.folder,
            env=environment,
            capture_output=True,
            text=True,
        )

    done = run("call", "shop:app", "hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, '"hi"\n', "")
    done = run("routes", "shop:nothing")
    assert done.returncode == 1
    assert done.stderr.startswith("microkit: The module 'shop' (shop.py)")
    assert run("nonsense").returncode == 2


def test_the_installed_program_finds_modules_in_the_working_directory(project: Project) -> None:
    project.write("shop.py", "from microkit import App\napp = App(name='found')")
    code = "import sys; from microkit.cli import main; sys.path.remove(''); sys.exit(main(['doctor', 'shop:app']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=project.folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'found'" in done.stdout


@pytest.mark.parametrize(
    ("spec", "remedy"),
    [("shop.py:app", "such as shop:app"), ("./shop:app", "such as shop:app"), ("a/b:app", "a.b:app")],
)
def test_a_path_in_place_of_a_module_is_told_what_to_write(project: Project, spec: str, remedy: str) -> None:
    said = project.run("routes", spec).paragraph
    assert "is no name of a module" in said
    assert remedy in said


def test_what_is_no_middleware_is_shown(project: Project) -> None:
    project.write("shop.py", "from microkit import App\napp = App()\napp.add_middleware(3)")
    said = project.run("routes", "shop:app").paragraph
    assert "`async def f(request, call_next)`, not 3." in said
    assert "shop.py:3" in said
