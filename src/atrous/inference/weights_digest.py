"""A digest of what a network's predictions depend on, so that a change is seen however it was made."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

SMALL_BYTES = 2**14
"""Tensors below this size are hashed together: a call for each of them would take longer than the hashing."""
ROW_WORDS = 1021
"""64-bit words in a row. A prime, so that no pattern in a tensor falls into step with rows or columns."""
BLOCK_ROWS = 129
"""Rows in a block, about 1 MiB, which stays in the cache between the sum of its columns and that of its rows.

Odd, as `ROW_WORDS` is: flipping the top bit of every word does not change the sum of an even number of words.
"""
WORD_BYTES = 8


def compute_weights_digest(network: nn.Module) -> bytes:
    """Return a digest of a network's parameters and buffers, which differs when any element of them does.

    Args:
        network: The network, on any device.
    """
    return NetworkDigest(network).compute()


@dataclass
class _Memory:
    """The memory of a network's tensors on one device: small parts as bytes, the rest as blocks of words."""

    small: list[Tensor] = field(default_factory=list)
    blocks: list[Tensor] = field(default_factory=list)

    def summarise(self) -> bytes:
        """Return the small parts, and the sums of each block's columns and rows."""
        sums = [block.sum(dim) for block in self.blocks for dim in (0, 1)]
        parts = [torch.cat(tensors).cpu() for tensors in (self.small, sums) if tensors]
        return b"".join(part.numpy().tobytes() for part in parts)


class NetworkDigest:
    """Computes a network's digest again and again, each time at about the cost of reading its weights once.

    PyTorch counts the writes to a tensor, but not those through `.data`, by `vector_to_parameters` or by some
    optimisers. So the weights themselves are read: large tensors as blocks of 64-bit words, of which every column and
    every row is summed exactly, modulo 2**64. A change of one or two words always changes a sum, and so does every
    permutation that was not made to keep them all.

    Args:
        network: The network.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._parts: list[object] = []
        self._places: list[tuple[int, torch.Size, tuple[int, ...], torch.dtype]] = []
        self._layout = b""
        self._memories: list[_Memory] = []
        self.num_structures = 0

    @torch.inference_mode(False)
    @torch.no_grad()
    def compute(self) -> bytes:
        """Return the digest of the network as it is now.

        `num_structures` grows when a module, a hook or a parametrisation has been added, removed or replaced.
        """
        parts, tensors = _list_parts(self._network)
        if len(parts) != len(self._parts) or any(map(_differ, parts, self._parts)):
            self._parts = parts  # kept, so that nothing new can take an old one's identity
            self.num_structures += 1
        places = [(tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype) for tensor in tensors]
        if places != self._places:
            self._places = places
            self._layout = repr([place[1:] for place in places]).encode()
            self._memories = _divide(tensors)
        digest = hashlib.blake2b(self._layout + bytes(self.num_structures), digest_size=16)
        for memory in self._memories:
            digest.update(memory.summarise())
        return digest.digest()


def _differ(one: object, other: object) -> bool:
    return one is not other


def _list_parts(network: nn.Module) -> tuple[list[object], list[Tensor]]:
    """Return a network's modules and hooks, and its tensors but the counters of its norms, in a fixed order."""
    parts: list[object] = []
    tensors: list[Tensor] = []
    waiting = [network]
    while waiting:
        module = waiting.pop()
        parts.append(module)
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            parts += hooks.values()
        tensors += [tensor for tensor in module._parameters.values() if tensor is not None]
        for name, buffer in module._buffers.items():
            if buffer is not None and name != "num_batches_tracked":
                tensors.append(buffer)
        waiting += [child for child in module._modules.values() if child is not None]
    return parts, tensors


def _divide(tensors: list[Tensor]) -> list[_Memory]:
    """Divide the memory of tensors, device by device, into small parts and blocks."""
    memories: dict[torch.device, _Memory] = {}
    for tensor in tensors:
        memory = memories.setdefault(tensor.device, _Memory())
        span = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)) + 1
        octets = tensor.detach().as_strided((span * bool(tensor.numel()),), (1,)).view(torch.uint8)
        start = -octets.storage_offset() % WORD_BYTES
        num_rows = (len(octets) - start) // (WORD_BYTES * ROW_WORDS) if len(octets) >= SMALL_BYTES else 0
        stop = start + num_rows * WORD_BYTES * ROW_WORDS
        memory.small += [part for part in (octets[:start], octets[stop if num_rows else start :]) if len(part)]
        if num_rows:
            words = octets[start:stop].view(torch.int64).view(num_rows, ROW_WORDS)
            memory.blocks += [words[row : row + BLOCK_ROWS] for row in range(0, num_rows, BLOCK_ROWS)]
    return list(memories.values())
