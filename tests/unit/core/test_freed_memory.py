"""Freed memory is kept while a block lasts: counted in the pages that the system hands out."""

import mmap
import os
import subprocess
import sys

import pytest

from atrous.core.freed_memory import OWN_SETTINGS, keeping_freed_memory

pytestmark = pytest.mark.skipif(
    "CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", {}), reason="the C library is not glibc"
)
LARGE_BYTES = 100 * 2**20
"""More than glibc keeps by itself."""
COUNT = f"""
import resource
from atrous.core.freed_memory import keeping_freed_memory

def count_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        bytearray({LARGE_BYTES})
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def find_resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * {mmap.PAGESIZE}

try:
    with keeping_freed_memory():
        count_pages()
        inside, resident = count_pages(), find_resident()
        raise KeyError
except KeyError:
    print(inside, resident - find_resident(), count_pages())
"""


def count(**variables: str) -> list[int]:
    """Return the pages handed out within the block, the bytes given back at its end, and the pages after it."""
    environment = {name: value for name, value in os.environ.items() if "MALLOC" not in name} | variables
    environment["GLIBC_TUNABLES"] = variables.get("GLIBC_TUNABLES", "")
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True, env=environment)
    return [int(word) for word in done.stdout.split()]


def test_memory_is_kept_within_the_block_and_given_back_at_its_end_even_after_an_error():
    within, given_back, after = count()
    assert within < 100
    assert given_back > 0.9 * LARGE_BYTES
    assert after > 4 * 0.9 * LARGE_BYTES / mmap.PAGESIZE


@pytest.mark.parametrize("own", [*OWN_SETTINGS, "GLIBC_TUNABLES"])
def test_nothing_is_changed_where_the_environment_chooses(own: str):
    within, given_back, after = count(**{own: "glibc.malloc.top_pad=65536" if own == "GLIBC_TUNABLES" else "65536"})
    assert min(within, after) > 4 * 0.9 * LARGE_BYTES / mmap.PAGESIZE
    assert given_back < 0.1 * LARGE_BYTES


def test_nothing_happens_on_other_systems(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with keeping_freed_memory():
        pass
