from __future__ import annotations

import threading

import pytest

from atrous.inference.folders.prefetch import iter_ahead


@pytest.mark.parametrize("ahead", [0, 1, 3, 20])
def test_items_come_in_order_and_no_more_are_held_than_asked_for(ahead):
    given: list[int] = []

    def give():
        for number in range(10):
            given.append(number)
            yield number

    for item, reading in iter_ahead(lambda number: number**2, give(), ahead=ahead):
        assert reading.result() == item**2
        assert len(given) == min(item + 1 + ahead, 10)
    assert item == 9


def test_nothing_ahead_is_read_in_the_callers_thread():
    found = [reading.result() for _, reading in iter_ahead(lambda _: threading.get_ident(), range(3), ahead=0)]
    assert set(found) == {threading.get_ident()}


@pytest.mark.parametrize("ahead", [0, 2])
def test_an_error_belongs_to_its_own_item(ahead):
    found = list(iter_ahead(lambda number: 1 / number, [1, 0, 2], ahead=ahead))
    assert found[0][1].result() == 1
    assert found[2][1].result() == 0.5
    with pytest.raises(ZeroDivisionError):
        found[1][1].result()


def test_an_error_between_items_leaves_those_before_it():
    def give():
        yield 1
        yield 2
        raise ValueError("the third")

    ahead = iter_ahead(lambda item: 10 * item, give(), ahead=2)
    assert [next(ahead)[1].result(), next(ahead)[1].result()] == [10, 20]
    with pytest.raises(ValueError, match="the third"):
        next(ahead)
