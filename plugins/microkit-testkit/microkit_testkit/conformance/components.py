"""The rules for providers, executors, triggers and validators."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from typing import Any, ClassVar

import anyio
import pytest

from microkit import App, ConfigurationError, Depends, Kind, Procedure, Trigger
from microkit.codecs import json_dumps
from microkit.di import Scope
from microkit.executor import ExecutorSpec
from microkit.testing import DriverSpec
from microkit.triggers import TriggerSpec
from microkit.validation import Invalid, Shape, Source, ValidatorSpec
from microkit_testkit.client import TestClient

from .suite import ConformanceSuite


class ProviderSuite(ConformanceSuite):
    """What a provider must do.

    Attributes:
        plugins: what the provider needs in an application, the plugin that contributes it included.
        key: what asks for the service.
        scope: how long it lives.
    """

    plugins: ClassVar[Sequence[Any]] = ()
    key: ClassVar[Any]
    scope: ClassVar[Scope] = Scope.APP

    def app(self) -> tuple[App, list[Any]]:
        """An application whose procedure `suite.pair` keeps the service that it gets, twice per call."""
        app, seen = App(plugins=self.plugins, discover=False), list[Any]()

        async def pair(first: Any, second: Any) -> None:
            seen.extend([first, second])

        pair.__defaults__ = (Depends(self.key), Depends(self.key))
        app.on(Procedure("suite.pair"))(pair)
        return app, seen

    @pytest.mark.anyio
    async def test_one_call_shares_one_instance(self) -> None:
        app, seen = self.app()
        async with TestClient(app) as client:
            await client.rpc.suite.pair()
        assert seen[0] is seen[1]

    @pytest.mark.anyio
    async def test_its_scope_is_what_it_declares(self) -> None:
        app, seen = self.app()
        async with TestClient(app) as client:
            await client.rpc.suite.pair()
            await client.rpc.suite.pair()
        assert (seen[0] is seen[2]) is (self.scope is Scope.APP)

    @pytest.mark.anyio
    async def test_a_second_start_makes_new_instances(self) -> None:
        app, seen = self.app()
        for _ in range(2):
            async with TestClient(app) as client:
                await client.rpc.suite.pair()
        assert seen[0] is not seen[2]

    @pytest.mark.anyio
    async def test_it_can_be_overridden(self) -> None:
        app, seen = self.app()
        fake = object()
        async with TestClient(app) as client:
            with client.override(self.key, lambda: fake):
                await client.rpc.suite.pair()
        assert seen == [fake, fake]


class ExecutorSuite(ConformanceSuite):
    """What an executor must do.

    Attributes:
        spec: the executor.
        plugins: the plugin that contributes it, unless the kernel does.
        concurrent: whether it runs handlers beside the event loop and each other.
    """

    plugins: ClassVar[Sequence[Any]] = ()
    spec: ClassVar[ExecutorSpec]
    concurrent: ClassVar[bool] = True

    @pytest.mark.anyio
    async def test_arguments_go_in_and_the_result_comes_out(self) -> None:
        assert await self.spec.wrap(divmod)(17, 5) == (3, 2)

    @pytest.mark.anyio
    async def test_an_exception_comes_out_as_it_is(self) -> None:
        with pytest.raises(ZeroDivisionError):
            await self.spec.wrap(divmod)(1, 0)

    @pytest.mark.anyio
    async def test_it_wraps_again_and_again(self) -> None:
        run = self.spec.wrap(len)
        assert [await run("a" * i) for i in range(10)] == list(range(10))

    @pytest.mark.anyio
    async def test_calls_run_beside_each_other(self) -> None:
        if not self.concurrent:
            pytest.skip("runs one call at a time, as it declares")
        barrier = threading.Barrier(2)
        wait: Any = self.spec.wrap(barrier.wait)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, 30)
            tasks.start_soon(wait, 30)

    @pytest.mark.anyio
    async def test_a_binding_selects_it_by_name(self) -> None:
        app = App(plugins=self.plugins, discover=False)

        @app.get("/", executor=self.spec.name)
        def handler(a: int) -> int:
            return a + 1

        async with TestClient(app) as client:
            assert (await client.get("/?a=1")).json() == 2


class TriggerSuite(ConformanceSuite):
    """What a trigger must be.

    Attributes:
        plugins: the plugin that contributes it, unless the kernel does.
        spec: how it is contributed.
    """

    plugins: ClassVar[Sequence[Any]] = ()
    spec: ClassVar[TriggerSpec]

    def make(self) -> Trigger:
        """A new trigger, equal at each call."""
        raise NotImplementedError

    def handler(self) -> Any:
        """A handler that it can start."""

        async def handler() -> None: ...

        return handler

    def test_it_is_of_the_type_that_is_contributed(self) -> None:
        assert isinstance(self.make(), self.spec.type)

    def test_it_starts_calls_of_one_kind(self) -> None:
        assert self.make().kind in list(Kind)

    def test_it_has_a_text_for_people_and_a_stable_key(self) -> None:
        assert str(self.make()).strip()
        assert "object at 0x" not in str(self.make())
        assert self.make().key == self.make().key
        assert hash(self.make().key) == hash(self.make().key)

    def test_it_names_the_ingress_that_serves_it(self) -> None:
        assert self.spec.ingress

    def test_an_application_binds_it(self) -> None:
        app = App(plugins=self.plugins, discover=False)
        app.on(self.make())(self.handler())
        assert [str(plan.binding.trigger) for plan in app.build().plans].count(str(self.make())) >= 1

    def test_unknown_options_are_refused(self) -> None:
        app = App(plugins=self.plugins, discover=False)
        app.on(self.make(), no_such_option=1)(self.handler())
        with pytest.raises(ConfigurationError, match="no_such_option"):
            app.build()

    def test_a_timer_always_has_a_next_time(self) -> None:
        trigger: Any = self.make()
        if trigger.kind is not Kind.TICK:
            pytest.skip("no timer")
        moment = start = 1_767_225_600.0
        for _ in range(1000):
            later = trigger.next_after(moment, start)
            assert later > moment
            assert trigger.next_after((moment + later) / 2, start) == later
            moment = later


class ValidatorSuite(ConformanceSuite):
    """What a validator must do.

    Attributes:
        spec: the validator.
        valid: type, plain value, and what it becomes.
        invalid: type, and a plain value that does not fit.
        foreign: types that it leaves to others.
    """

    spec: ClassVar[ValidatorSpec]
    valid: ClassVar[Sequence[tuple[Any, Any, Any]]]
    invalid: ClassVar[Sequence[tuple[Any, Any]]]
    foreign: ClassVar[Sequence[Any]] = ()

    def test_it_claims_its_types_and_no_others(self) -> None:
        for tp, *_ in [*self.valid, *self.invalid]:
            assert isinstance(self.spec.claims(tp), Shape), tp
        for tp in self.foreign:
            assert self.spec.claims(tp) is None, tp

    def test_valid_values_are_converted_from_python_and_from_json(self) -> None:
        for tp, value, expected in self.valid:
            assert self.spec.build(tp, Source.PYTHON)(copy.deepcopy(value)) == expected
            assert self.spec.build(tp, Source.JSON)(json_dumps(value)) == expected

    def test_input_is_left_alone(self) -> None:
        for tp, value, _ in self.valid:
            given = copy.deepcopy(value)
            self.spec.build(tp, Source.PYTHON)(given)
            assert given == value

    def test_invalid_values_raise_invalid_with_a_place_a_message_and_a_type(self) -> None:
        for tp, value in self.invalid:
            for source, raw in ((Source.PYTHON, copy.deepcopy(value)), (Source.JSON, json_dumps(value))):
                with pytest.raises(Invalid) as caught:
                    self.spec.build(tp, source)(raw)
                assert caught.value.problems
                for place, message, kind in caught.value.problems:
                    assert isinstance(place, tuple)
                    assert message
                    assert kind

    def test_messages_do_not_repeat_the_input(self) -> None:
        for tp, _ in self.invalid:
            with pytest.raises(Invalid) as caught:
                self.spec.build(tp, Source.PYTHON)("s3cret-input")
            assert "s3cret-input" not in str(caught.value)

    def test_what_is_no_json_is_a_value_error(self) -> None:
        for tp, *_ in self.valid:
            with pytest.raises(ValueError):  # noqa: PT011
                self.spec.build(tp, Source.JSON)(b'{"half')


class DriverSuite(ConformanceSuite):
    """What a driver of the test client must do.

    Attributes:
        plugins: the plugin that contributes it.
        spec: the driver.
    """

    plugins: ClassVar[Sequence[Any]]
    spec: ClassVar[DriverSpec]

    @pytest.mark.anyio
    async def test_it_is_an_attribute_of_the_client(self) -> None:
        async with TestClient(App(plugins=self.plugins, discover=False)) as client:
            assert getattr(client, self.spec.name) is getattr(client, self.spec.name)

    def test_its_name_is_not_one_of_the_client(self) -> None:
        assert self.spec.name.isidentifier()
        assert not hasattr(TestClient, self.spec.name)
