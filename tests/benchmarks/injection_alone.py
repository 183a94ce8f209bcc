"""Dependency injection alone, without requests: the same graph, three deep, with one async generator, in each library.

A setting is made, then a session from it (the async generator, finished at the end), then a repository from that, and
given to a function. microkit runs its plan, which renders the function's result too; fastapi and dishka do not.
"""

# Annotations are values here: the functions below are made inside of others.
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Annotated, Any

from microkit import App, Depends, Request
from tests.benchmarks.cases import CASES, scope_of
from tests.benchmarks.options import Options, save
from tests.benchmarks.tables import Table, duration, ratio
from tests.benchmarks.turns import best_of_async

Call = Callable[[], Awaitable[object]]


class Setting:
    url = "memory://"


class Session:
    def __init__(self, setting: Setting) -> None:
        self.setting: Setting | None = setting


class Repository:
    def __init__(self, session: Session) -> None:
        self.session = session


async def setting() -> Setting:
    return Setting()


async def session(setting: Setting) -> AsyncIterator[Session]:
    made = Session(setting)
    try:
        yield made
    finally:
        made.setting = None


async def repository(session: Session) -> Repository:
    return Repository(session)


def use(repository: Repository) -> bool:
    """What the dependencies are for."""
    return repository.session.setting is not None


async def by_hand() -> bool:
    """What the libraries do, written out."""
    generator = session(await setting())
    made = await anext(generator)
    try:
        used = use(await repository(made))
    except BaseException as exc:
        await generator.athrow(exc)
        raise
    await anext(generator, None)
    return used


async def _microkit(stack: AsyncExitStack) -> Call:
    async def session_of(setting: Annotated[Setting, Depends(setting)]) -> AsyncIterator[Session]:
        made = Session(setting)
        try:
            yield made
        finally:
            made.setting = None

    async def repository_of(session: Annotated[Session, Depends(session_of)]) -> Repository:
        return Repository(session)

    app = App(discover=False)

    @app.get("/hello")
    async def handler(repository: Annotated[Repository, Depends(repository_of)]) -> bool:
        return use(repository)

    await stack.enter_async_context(app.started())
    scope = scope_of(CASES["hello"], "/hello")
    plan = next(plan for plan in app.table.plans if plan.endpoint.handler is handler)

    async def call() -> object:
        request = Request.__new__(Request)  # as the kernel does
        request.scope, request.app, request.plan = scope, app, plan
        assert app.runtime.innermost_scope() is None  # the kernel looks too: where a scope is, it shields the teardown
        return await plan.answer(request)

    reply: Any = await call()
    assert reply.body == b"true", reply.body
    return call


async def _fastapi(stack: AsyncExitStack) -> Call:
    from fastapi import Depends as FastDepends
    from fastapi import Request as FastRequest
    from fastapi.dependencies.utils import get_dependant, solve_dependencies

    async def session_of(setting: Annotated[Setting, FastDepends(setting)]) -> AsyncIterator[Session]:
        made = Session(setting)
        try:
            yield made
        finally:
            made.setting = None

    async def repository_of(session: Annotated[Session, FastDepends(session_of)]) -> Repository:
        return Repository(session)

    async def handler(repository: Annotated[Repository, FastDepends(repository_of)]) -> bool:
        return use(repository)

    dependant = get_dependant(path="/hello", call=handler)
    scope = scope_of(CASES["hello"], "/hello")

    async def call() -> object:
        async with AsyncExitStack() as exits:
            request = FastRequest(scope | {"fastapi_inner_astack": exits, "fastapi_function_astack": exits})
            solved = await solve_dependencies(
                request=request, dependant=dependant, async_exit_stack=exits, embed_body_fields=False
            )
            assert not solved.errors
            return await handler(**solved.values)

    assert await call() is True
    return call


async def _dishka(stack: AsyncExitStack) -> Call:
    from dishka import Provider, Scope, make_async_container

    provider: Any = Provider(scope=Scope.REQUEST)
    for factory in (setting, session, repository):
        provider.provide(factory)
    container = make_async_container(provider)
    stack.push_async_callback(container.close)

    async def call() -> object:
        async with container() as scoped:
            return use(await scoped.get(Repository))

    assert await call() is True
    return call


async def _run(options: Options) -> dict[str, Any]:
    notes: list[str] = []
    async with AsyncExitStack() as stack:
        ways: dict[str, Call] = {"by hand": by_hand}
        for name, make in (("microkit", _microkit), ("dishka", _dishka), ("fastapi", _fastapi)):
            try:
                ways[name] = await make(stack)
            except ImportError as exc:
                notes.append(f"{name} is not there: {exc}")
        best = await best_of_async(ways, 8 if options.quick else 60)
    rows = [[name, duration(taken), ratio(taken / best["by hand"])] for name, taken in best.items()]
    title = "Dependency injection alone: three deep, one async generator, uvloop"
    table = Table(title, ["by", "CPU per call", "to by hand"], rows, [*notes, _NOT_ALIKE])
    return {"figures": best, "versions": {}, "tables": [table]}


_NOT_ALIKE = (
    "microkit also makes its request object, bounds the teardown and renders the result; "
    "fastapi also makes its request object; by hand and dishka do none of these"
)


def measure(options: Options) -> dict[str, Any]:
    """Run all libraries; see `save` for what is returned."""
    import uvloop

    return uvloop.run(_run(options))


if __name__ == "__main__":
    save("injection_alone", measure, sys.argv[1:])
