"""The examples, run as a user runs them."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from microkit_testkit import TestClient

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    """A fresh copy of an example's `app` module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / name / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_example_has_a_readme() -> None:
    folders = [folder for folder in EXAMPLES.iterdir() if folder.is_dir() and folder.name != "__pycache__"]
    assert folders
    for folder in folders:
        assert (folder / "README.md").read_text().startswith(f"# {folder.name}\n")


@pytest.mark.feature("FX-01")
@pytest.mark.feature("FX-06")
def test_the_tour_drives_every_kind_of_call() -> None:
    done = subprocess.run(
        [sys.executable, "demo.py"],
        cwd=EXAMPLES / "tour",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout
    for line in (
        'GET /stock/tea -> 200 \'{"item":"tea","left":12}\'',
        'POST /orders -> 200 \'{"order":1,"item":"tea","left":10}\'',
        "POST /orders -> 422",
        "POST /orders -> 404",
        "GET /countdown?start=3 -> 200 '3\\n2\\n1\\n'",
        "Allow: OPTIONS, POST",
        "GET /nowhere -> 404",
        "/chat -> ['you said: hello', 'you said: bye']",
        "orders.create -> {'order': 2, 'item': 'cup', 'left': 2}",
        "orders.create -> NOT_FOUND: We do not sell gold.",
        "> MESSAGE web/order_wanted",
        'dead letter {"item": "gold"}: NotFound',
        "GET /__endpoints__ -> 200",
        "the shop closes",
    ):
        assert line in said
    assert said.count("> TICK") >= 2
    assert said.index("transaction: committed") < said.index("POST /orders -> 200")
    assert "Traceback" not in done.stderr


@pytest.fixture(params=["asyncio", "trio"])
def users(request: pytest.FixtureRequest):
    module = load("users_api")
    with TestClient(module.app, backend=request.param) as client:
        yield client, module.log
    assert module.log[-1] == "shutdown"


@pytest.mark.feature("F001-03")
@pytest.mark.feature("F001-31")
def test_the_users_api_answers_as_its_readme_says(users) -> None:
    client, log = users
    assert log == ["startup"]
    assert client.get("/users/me").json() == {"user_id": "me"}
    assert client.get("/users/7").json() == {"user_id": "7"}
    assert log[-1] == "accessed /users/7"
    assert log[-3:-1] == ["before GET /users/7", "after 200"]


@pytest.mark.feature("F001-24")
def test_the_users_api_commits_and_rolls_back(users) -> None:
    client, log = users
    assert client.get("/names/7").json() == {"name": "grace"}
    assert "commit" in log
    renamed = client.put("/names/7", params={"name": "hopper"})
    assert (renamed.status_code, renamed.json()) == (201, {"name": "hopper"})
    assert client.get("/names/7").json() == {"name": "hopper"}
    log.clear()
    missing = client.get("/names/9")
    assert missing.status_code == 404
    assert missing.json()["detail"] == "There is no user 9."
    assert "rollback" in log
    assert "commit" not in log


@pytest.mark.feature("F001-35")
def test_the_users_api_lists_its_endpoints(users) -> None:
    client, _ = users
    page = client.get("/__endpoints__", headers={"accept": "text/html"})
    assert page.status_code == 200
    assert "/users/{id}" in page.text
    assert client.get("/__endpoints__", params={"format": "json"}).json()["bindings"]


@pytest.fixture(params=["asyncio", "trio"])
def site(request: pytest.FixtureRequest):
    module = load("auto")
    with TestClient(module.app, backend=request.param) as client:
        yield client, module.log


@pytest.mark.feature("F004-51")
def test_the_pages_of_the_site_answer_as_the_seed_s_do(site) -> None:
    client, _ = site
    for path, text in {
        "/": "Welcome to microkit.",
        "/greet": "Hello, Guest!",
        "/greet/Alice": "Hello, Alice!",
        "/greet?name=Alice": "Hello, Alice!",
        "/hello?name=Alice": "Hello Alice!",
        "/hello": "Hello nobody!",
        "/total/1/2/3": '{"total":6}',
        "/stream": "".join(f"Chunk {i}\n" for i in range(1, 6)),
    }.items():
        response = client.get(path)
        assert (response.status_code, response.text) == (200, text)
    assert client.get("/leave").headers["location"] == "/"
    assert client.get("/_hidden").status_code == 404


@pytest.mark.feature("F004-51")
def test_the_site_takes_forms_and_json(site) -> None:
    client, _ = site
    for sent in ({"data": {"username": "Alice"}}, {"json": {"username": "Alice"}}):
        assert client.post("/submit", **sent).text == "Form submitted by: Alice"
    assert client.post("/submit").text == "Form submitted by: Anonymous"
    assert client.post("/submit_catch_all", data={"username": "Alice"}).text == "Submitted by: Alice"
    assert client.post("/submit_catch_all").text == "Submitted by: Anonymous"


@pytest.mark.feature("F004-51")
def test_the_site_echoes_and_is_watched(site) -> None:
    client, log = site
    with client.websocket("/echo") as ws:
        ws.send_text("hello")
        assert ws.receive_text() == "Echo: hello"
    assert log == []  # the middleware is for pages
    assert client.get("/nowhere").headers["x-frame-options"] == "DENY"
    assert log == ["before /nowhere", "after 404"]
