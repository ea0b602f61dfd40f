"""Ctrl-C takes effect where nothing is half done."""

from __future__ import annotations

import asyncio
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from dataarch.database.interrupts import interrupts_held


def test_ctrl_c_waits_for_the_end_of_the_block() -> None:
    done = False
    with pytest.raises(KeyboardInterrupt), interrupts_held() as interrupts:
        assert not interrupts.asked
        signal.raise_signal(signal.SIGINT)
        done = interrupts.asked
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_block_that_looks_ends_where_it_looks() -> None:
    with pytest.raises(KeyboardInterrupt), interrupts_held() as interrupts:
        interrupts.check()
        signal.raise_signal(signal.SIGINT)
        interrupts.check()
        pytest.fail("it went on")


def test_pressed_twice_it_takes_effect_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), interrupts_held():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it went on")


def test_whoever_asked_for_an_end_gets_no_error_that_came_of_it() -> None:
    with pytest.raises(KeyboardInterrupt), interrupts_held():
        signal.raise_signal(signal.SIGINT)
        raise ValueError("given up")


def test_without_ctrl_c_errors_are_as_they_were() -> None:
    with pytest.raises(ValueError, match="wrong"), interrupts_held():
        raise ValueError("wrong")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_block_in_a_block_leaves_it_to_the_outer_one() -> None:
    reached: list[str] = []
    with pytest.raises(KeyboardInterrupt), interrupts_held():
        with interrupts_held():
            signal.raise_signal(signal.SIGINT)
            reached.append("inner")
        reached.append("outer")
    assert reached == ["inner", "outer"]


def test_a_thread_holds_nothing() -> None:
    def held() -> bool:
        with interrupts_held():
            return signal.getsignal(signal.SIGINT) is not signal.default_int_handler

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(held).result() is False


def test_what_a_process_does_of_its_own_upon_ctrl_c_stays() -> None:
    async def held() -> bool:
        before = signal.getsignal(signal.SIGINT)
        with interrupts_held():
            return signal.getsignal(signal.SIGINT) is before

    assert asyncio.run(held())
