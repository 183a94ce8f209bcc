"""Annotations in every form, and what start-up says when it cannot use one."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import pytest

from microkit import App, Depends, Procedure, Provider, Query, Request, ResolutionError, inject

if TYPE_CHECKING:
    from elsewhere import Secret

pytestmark = [pytest.mark.anyio, pytest.mark.guarantee("G4")]


def one() -> int:
    return 1


One = Annotated[int, Depends(one)]
MaybeOne = Annotated[int | None, Depends(one)]


class Service:
    def __init__(self, later: Later | None = None) -> None:
        self.later = later


async def test_aliases_optionals_and_names_defined_later(app: App, get: Any) -> None:
    app.registry.add_services([Service, Later])

    @app.get("/")
    async def handler(
        a: One,
        b: MaybeOne,
        c: One | None,
        d: Annotated[Service | None, "note"],
        e: Annotated[Later, "text within"],
        q: Annotated[Annotated[int, Query()] | None, "outer"] = None,
    ) -> list[Any]:
        return [a, b, c, d.later is e, q]

    async with app.started():
        assert await get(app) == [1, 1, 1, True, None]
        assert await get(app, "/?q=3") == [1, 1, 1, True, 3]


class Later: ...


async def test_names_local_to_a_function_resolve_for_what_is_defined_in_it(app: App, get: Any) -> None:
    class Local: ...

    class Holder:
        def __init__(self, local: Local) -> None:
            self.local = local

        async def method(self, local: Local) -> bool:
            return self.local is local

    def dependency(holder: Holder, local: Local) -> bool:
        return holder.local is local

    Foreign = int  # means something else where `foreign` was defined
    app.registry.add_services([Local, Holder])

    @app.get("/")
    async def handler(same: Annotated[bool, Depends(dependency)], f: Annotated[Any, Depends(foreign)]) -> list[Any]:
        return [same, f, Foreign.__name__]

    async with app.started():
        assert await get(app) == [True, "Foreign", "int"]


class Foreign:
    pass


def foreign(value: Annotated[Foreign, Depends()]) -> str:
    return type(value).__name__


@pytest.mark.feature("F000-05")
@pytest.mark.feature("F001-26")
async def test_a_name_for_the_type_checker_alone_is_told_apart(app: App) -> None:
    @app.get("/")
    async def handler(secret: Secret | None = None) -> None: ...

    with pytest.raises(ResolutionError, match=r"'Secret \| None' cannot be resolved \(.*TYPE_CHECKING"):
        app.build()


async def test_a_constructor_with_such_a_name_keeps_its_default(app: App, get: Any) -> None:
    class Client:
        def __init__(self, secret: Secret | None = None) -> None:
            self.secret = secret

    app.registry.add(Provider(Client))

    @app.get("/")
    async def handler(client: Client) -> bool:
        return client.secret is None

    async with app.started():
        assert await get(app) is True


async def test_unhashable_annotations_are_no_services(app: App, get: Any) -> None:
    note: Any = Annotated[int, ["unhashable"]]

    async def handler(q: Any = 3) -> int:
        return q

    handler.__annotations__["q"] = note

    class Tool(dict[str, int]):
        def __call__(self) -> int:
            self["calls"] = self.get("calls", 0) + 1
            return self["calls"]

    tool = Tool()
    app.get("/")(handler)

    async def tools(a: int = Depends(tool), b: int = Depends(tool)) -> list[int]:
        return [a, b]

    app.get("/tools")(tools)
    async with app.started():
        assert await get(app, "/?q=4") == 4
        assert await get(app, "/tools") == [1, 1]


# -- errors ------------------------------------------------------------------------------------------------------------


class Missing: ...


class Needs:
    def __init__(self, missing: Missing) -> None: ...


@pytest.mark.feature("F000-05")
@pytest.mark.feature("F001-26")
async def test_what_nothing_fills_is_named_with_its_place_and_what_was_tried(app: App) -> None:
    app.registry.add(Provider(Needs))

    @app.get("/{id}")
    async def handler(id: str, needs: Needs) -> None: ...

    with pytest.raises(ResolutionError) as caught:
        app.build()
    text = str(caught.value)
    assert re.search(r"'missing: .*Missing' of .*Needs at .*test_annotations.py:\d+", text)
    assert re.search(r"needed by .*handler -> .*Needs for binding GET /\{id\}", text)
    assert "Tried: markers, special types and names, services by type and name, its default" in text

    other = App(plugins=[], discover=False)

    @other.get("/{id}")
    async def direct(id: str, missing: Missing) -> None: ...

    with pytest.raises(ResolutionError, match=r"direct at .*\.py:\d+.*path parameters \(id\).*plain values in HTTP"):
        other.build()


class Chicken:
    def __init__(self, egg: Egg) -> None: ...


class Egg:
    def __init__(self, chicken: Chicken | None) -> None: ...


@pytest.mark.feature("F000-06")
async def test_a_cycle_is_printed(app: App) -> None:
    app.registry.add_services([Chicken, Egg])

    @app.get("/")
    async def handler(egg: Egg) -> None: ...

    with pytest.raises(ResolutionError, match=r"cycle: \S*Egg -> \S*Chicken -> \S*Egg \(at .*\.py:\d+\)"):
        app.build()


class Shape(ABC):
    @abstractmethod
    def area(self) -> int: ...


class Square(Shape):
    def area(self) -> int:
        return 4


class Circle(Shape):
    def area(self) -> int:
        return 3


class Loud(Protocol):
    def shout(self) -> str: ...


async def test_several_implementations_are_named(app: App, get: Any) -> None:
    app.registry.add_services([Square, Circle])

    @app.get("/")
    async def handler(shape: Shape) -> int:
        return shape.area()

    with pytest.raises(ResolutionError, match=r"handler at .*several services implement .*Shape.*Square.*Circle"):
        app.build()
    app.registry.add_services([(Shape, Circle)])
    async with app.started():
        assert await get(app) == 3


def fails(handler: Any, pattern: str, *, procedure: bool = False) -> None:
    app = App(plugins=[], discover=False)
    app.registry.register("mailer", object)
    app.on(Procedure("a.b"))(handler) if procedure else app.get("/")(handler)
    with pytest.raises(ResolutionError, match=pattern) as caught:
        app.build()
    assert re.search(r"test_annotations\.py:\d+", str(caught.value))


async def test_what_cannot_be_a_dependency_is_told() -> None:
    async def unknown_name(value: Any = Depends("mailr")) -> None: ...

    fails(unknown_name, r"registered as 'mailr'\. Did you mean 'mailer'\? There are: ")

    async def abstract(value: Annotated[Shape, Depends()]) -> None: ...

    fails(abstract, r"Shape is no registered service, and cannot be called to make one")

    async def protocol(value: Annotated[Loud, Depends()]) -> None: ...

    fails(protocol, r"Loud is no registered service")

    async def generic(value: Annotated[list[int], Depends()]) -> None: ...

    fails(generic, r"list\[int\] is no registered service")

    async def nothing(value=Depends()) -> None: ...  # type: ignore[no-untyped-def]

    fails(nothing, r"needs an annotation to go by")

    @inject(ghost=lambda: 1)
    async def injected() -> None: ...

    fails(injected, r"takes no ghost; it takes nothing")

    async def wrong_kind(request: Request) -> None: ...

    fails(wrong_kind, r"request exists in HTTP calls only, and this is a RPC binding", procedure=True)


async def test_what_exists_in_other_kinds_only_is_absent(app: App, get: Any) -> None:
    class Service:
        def __init__(self, request: Request | None) -> None:
            self.path = request.path if request is not None else None

    app.registry.add(Provider(Service))

    @app.on(Procedure("a.b"))
    @app.get("/here")
    async def handler(service: Service) -> Any:
        return [service.path]

    async with app.started():
        assert await app.call("a.b") == [None]
        assert await get(app, "/here") == ["/here"]
