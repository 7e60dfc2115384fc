"""A digest of what a network's predictions depend on, so that a change is seen however it was made."""

from __future__ import annotations

import hashlib
import operator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TypeVar

import torch
import xxhash
from torch import Tensor, nn

from atrous.networks.device import count_threads

SMALL_BYTES = 2**14
"""Tensors below this size are gathered in one place: a call for each of them would take longer than its reading."""
ROW_WORDS = 1021
"""64-bit words in a row. A prime, so that no pattern in a tensor falls into step with the rows."""
GROUP_ROWS = 31
"""Rows that are added up first. Odd, because flipping the top bits of an even number of words keeps their sum; and so
few words that PyTorch adds them up in the calling thread."""
WORD_BYTES = 8
BYTES_PER_THREAD = 2**22
"""Bytes of host memory; fewer are not worth another thread."""
UNREAD_BUFFERS = ("num_batches_tracked",)
"""Buffers that no prediction depends on."""

T = TypeVar("T")


class _DeviceMemory:
    """The memory of tensors on a device other than the CPU, read as rows of 64-bit words, added up modulo 2**64.

    First each group of rows of a large tensor becomes one row. Then these rows, and small tensors as they are, are
    added up along both axes. Every sum is exact, so that a change of a single word always changes a sum.

    Args:
        tensors: All on one device. Later changes of their elements are seen, but not of their place.
    """

    def __init__(self, tensors: list[Tensor]) -> None:
        small: list[Tensor] = []
        groups: list[Tensor] = []
        for octets in map(_find_bytes, tensors):
            start = -octets.storage_offset() % WORD_BYTES
            num_rows = (len(octets) - start) // (WORD_BYTES * ROW_WORDS) if len(octets) >= SMALL_BYTES else 0
            stop = start + num_rows * WORD_BYTES * ROW_WORDS if num_rows else start
            rows = octets[start:stop].view(torch.int64).view(num_rows, ROW_WORDS)
            full = num_rows - num_rows % GROUP_ROWS
            small += [octets[:start], octets[stop:]]
            groups += [rows[:full].view(-1, GROUP_ROWS, ROW_WORDS), rows[full:].view(1, -1, ROW_WORDS)]
        small = [part for part in small if part.numel()]
        groups = [group for group in groups if group.numel()]
        num_octets = sum(map(len, small))
        small_rows = -(-num_octets // (WORD_BYTES * ROW_WORDS))
        shape = small_rows + sum(map(len, groups)), ROW_WORDS
        rows = torch.zeros(shape, dtype=torch.int64, device=tensors[0].device)
        places = rows[small_rows:].split([len(group) for group in groups])  # type: ignore[no-untyped-call]
        self._small, self._small_rows = small, rows.view(-1).view(torch.uint8)[:num_octets]
        self._groups = list(zip(groups, places, strict=True))
        self._rows = rows

    def summarise(self) -> bytes:
        """Return the sums along both axes as they are now."""
        if self._small:
            torch.cat(self._small, out=self._small_rows)
        _add_groups(self._groups)
        return torch.cat((self._rows.sum(0), self._rows.sum(1))).cpu().numpy().tobytes()


class _HostMemory:
    """The memory of tensors on the CPU, hashed with XXH3, which is about as fast as the memory itself.

    Each share of the bytes is hashed by a thread that lives for one digest: threads of a pool would be missing in a
    forked process, and PyTorch's own go on spinning for a while on the cores that a runtime needs next.

    Args:
        tensors: All on the CPU. Later changes of their elements are seen, but not of their place.
    """

    def __init__(self, tensors: list[Tensor]) -> None:
        views = [_find_bytes(tensor).numpy().data for tensor in tensors]
        num_shares = max(1, min(count_threads(), sum(map(len, views)) // BYTES_PER_THREAD))
        self._shares = _share_out(views, num_shares)

    def summarise(self) -> bytes:
        """Return the hashes of all shares as they are now."""
        if len(self._shares) == 1:
            return _hash(self._shares[0])
        with ThreadPoolExecutor(len(self._shares) - 1) as pool:
            others = [pool.submit(_hash, share) for share in self._shares[1:]]
            return _hash(self._shares[0]) + b"".join(other.result() for other in others)


def _hash(views: list[memoryview]) -> bytes:
    digest = xxhash.xxh3_128()
    for view in views:
        digest.update(view)
    return digest.digest()


def _share_out(views: list[memoryview], num_shares: int) -> list[list[memoryview]]:
    """Divide views of bytes, in their order, into shares of equal size, without a copy."""
    size = -(-sum(map(len, views)) // num_shares)
    shares: list[list[memoryview]] = [[] for _ in range(num_shares)]
    position = 0
    for view in views:
        start = 0
        while start < len(view):
            number, used = divmod(position, size)
            part = view[start : start + size - used]
            shares[number].append(part)
            start += len(part)
            position += len(part)
    return shares


def _add_groups(groups: list[tuple[Tensor, Tensor]]) -> None:
    """Add up the rows of each group (N, R, W) into rows (N, W)."""
    for group, rows in groups:
        torch.sum(group, 1, out=rows)


def _find_bytes(tensor: Tensor) -> Tensor:
    """Return the memory that a tensor spans, as bytes."""
    span = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)) + 1
    return tensor.detach().as_strided((span if tensor.numel() else 0,), (1,)).view(torch.uint8)


class NetworkDigest:
    """Computes a network's digest again and again, each time at about the cost of reading its weights once.

    PyTorch counts the writes to a tensor, but not those through `.data`, by `vector_to_parameters` or by some
    optimisers. So the weights themselves are read: on the CPU they are hashed with XXH3 (128 bits), on other devices
    large tensors are read as rows of 64-bit words, which are added up in groups, and the results along both axes.

    Args:
        network: The network.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._part_tables: list[dict[str, object]] = []
        self._tensor_tables: list[dict[str, Tensor | None]] = []
        self._parts: list[object] = [None]  # kept, so that nothing new can take an old one's identity
        self._tensors: list[Tensor | None] = []
        self._read: list[Tensor] = []
        self._places: tuple[list[int], list[torch.Size], list[tuple[int, ...]]] = [], [], []
        self._layout = b""
        self._memories: list[_HostMemory | _DeviceMemory] = []
        self.num_structures = 0

    @torch.inference_mode(False)
    @torch.no_grad()
    def compute(self) -> bytes:
        """Return the digest of the network as it is now.

        `num_structures` grows when a module, a hook or a parametrisation has been added, removed or replaced.
        """
        if not _are_same(_list_values(self._part_tables), self._parts):
            self._list_tables()
        tensors = _list_values(self._tensor_tables)
        if not _are_same(tensors, self._tensors):
            self._tensors = tensors
            self._read = [
                tensor
                for table in self._tensor_tables
                for name, tensor in table.items()
                if tensor is not None and name not in UNREAD_BUFFERS
            ]
        read = self._read
        places = [t.data_ptr() for t in read], [t.shape for t in read], [t.stride() for t in read]
        if places != self._places:
            self._places = places
            self._layout = hashlib.sha256(repr((*places[1:], [tensor.dtype for tensor in read])).encode()).digest()
            by_device: dict[torch.device, list[Tensor]] = {}
            for tensor in read:
                by_device.setdefault(tensor.device, []).append(tensor)
            self._memories = [
                _HostMemory(of_one) if device.type == "cpu" else _DeviceMemory(of_one)
                for device, of_one in by_device.items()
            ]
        digest = hashlib.sha256(self._layout + str(self.num_structures).encode())
        for memory in self._memories:
            digest.update(memory.summarise())
        return digest.digest()

    def _list_tables(self) -> None:
        """List where the network's modules keep their parts and tensors: looking there is quicker than walking."""
        modules = list(self._network.modules())
        self._part_tables = [
            table  # type: ignore[misc]
            for module in modules
            for table in (module._modules, module._forward_pre_hooks, module._forward_hooks)
        ]
        self._tensor_tables = [
            table  # type: ignore[misc]
            for module in modules
            for table in (module._parameters, module._buffers)
        ]
        self._parts = _list_values(self._part_tables)
        self.num_structures += 1


def _list_values(tables: list[dict[str, T]]) -> list[T]:
    return list(chain.from_iterable(map(dict.values, tables)))


def _are_same(one: list[T], other: list[T]) -> bool:
    """Return whether two lists hold the same objects, which need not be comparable."""
    return len(one) == len(other) and all(map(operator.is_, one, other))
