from __future__ import annotations

import os
import signal
import threading

import pytest

from atrous.core import interruption
from atrous.core.interruption import STOP_SIGNALS, StopRequest


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_asks_and_does_not_interrupt(number):
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested
    assert signal.getsignal(number) is before


def test_a_second_signal_interrupts_at_once(monkeypatch):
    monkeypatch.setattr(interruption, "ECHO_S", 0.0)
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_request_is_answered_once_and_each_repetition_is(monkeypatch):
    monkeypatch.setattr(interruption, "ECHO_S", 0.0)
    said = []
    with StopRequest(lambda: said.append("stopping"), lambda: said.append("ended")):
        for number in STOP_SIGNALS[:3]:
            os.kill(os.getpid(), number)
    assert said == ["stopping", "ended", "ended"]


def test_nohup_keeps_what_it_started_running():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_same_signal_sent_to_process_and_group_counts_once():
    with StopRequest() as stop:  # `timeout` sends its signal to the command, and then to the group with it
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        os.kill(os.getpid(), signal.SIGTERM)


def test_the_former_handlers_come_back_after_an_error():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError, match="step"), StopRequest():
        raise RuntimeError("a step failed")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_in_another_thread_nothing_is_asked_and_nothing_fails():
    found = []

    def work():
        with StopRequest() as stop:
            found.append(stop.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
