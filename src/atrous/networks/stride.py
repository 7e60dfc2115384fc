"""Output stride as a property that can be set on a backbone: one probe and one rule for our networks and timm's.

The *native* stride at a module is the one without atrous convolution. The rule keeps the function that the network
computes: features at a smaller output stride, subsampled, equal those at a larger one.

    stride = output stride now / input stride now
    rate   = unit rate * native input stride / input stride now

where the stride now is the native one, but never above the output stride.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from atrous.core.errors import ConfigError
from atrous.core.words import describe_count
from atrous.networks.contracts import Backbone, FeatureLevel, FeatureShapes, FixedStride
from atrous.networks.layers.conv import Conv
from atrous.networks.shape_rules import ShapeRules

OUTPUT_STRIDES = (4, 8, 16, 32, 64, 128, 256)
"""Those above 32 are for backbones with extra blocks."""
PROBE_SIZE_PX = 512
"""A multiple of every native stride, so that strides are read off as ratios."""

Windowed = nn.Conv2d | nn.MaxPool2d


@dataclass
class Site:
    """A convolution or pooling whose stride and rate the rule sets, and how it was built.

    Args:
        name: Its dotted name in the backbone.
        module: The module itself.
        native_in, native_out: Input resolution / resolution before and after it, without atrous convolution.
        built_rate: Distance between taps as built, such as multi-grid's, in cells.
        built_padding: Padding as built, in cells; 0 if the padding is computed in forward.
        unit_rate: The rate that the rule scales; `built_rate` unless re-labelled.
    """

    name: str
    module: Windowed
    native_in: int
    native_out: int
    built_rate: int
    built_padding: tuple[int, int]
    unit_rate: int

    @property
    def kernel(self) -> tuple[int, int]:
        """Height and width of the window."""
        return _pair(self.module.kernel_size)

    @property
    def stride(self) -> int:
        """The current stride."""
        return _pair(self.module.stride)[0]

    @property
    def rate(self) -> int:
        """The current distance between taps, in cells."""
        return _pair(self.module.dilation)[0]


@dataclass(frozen=True)
class Probe:
    """What one forward pass on the meta device reveals about a backbone.

    Args:
        sites: Convolutions and poolings in the order of the forward pass.
        shrinking: Other modules that lower the resolution, with their native output strides.
        shapes: Channels and native strides of the levels.
        twin: A copy of the backbone on the meta device, where plans are tried first.
    """

    sites: tuple[Site, ...]
    shrinking: tuple[tuple[str, nn.Module, int], ...]
    shapes: FeatureShapes
    twin: Backbone


def probe_backbone(backbone: Backbone) -> Probe:
    """Read the native strides of a backbone as it was built, without computing anything.

    Raises:
        ConfigError: The network is not convolutional, or its levels are not maps of (B, C, h, w).
    """
    sites: list[Site] = []
    shrinking: list[tuple[str, nn.Module, int]] = []
    modules = dict(backbone.named_modules())
    twin = copy.deepcopy(backbone).to("meta").eval()

    def observe(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if not inputs or not isinstance(inputs[0], Tensor) or not isinstance(output, Tensor):
                return
            if inputs[0].dim() == 3 and isinstance(module, nn.LayerNorm | nn.Linear):
                raise _NotConvolutional(name, module)
            if inputs[0].dim() != 4 or output.dim() != 4 or output.shape[2:] == (1, 1):
                return
            before, after = (PROBE_SIZE_PX // max(t.shape[2], 1) for t in (inputs[0], output))
            if isinstance(module, nn.Conv2d | nn.MaxPool2d):
                if PROBE_SIZE_PX % output.shape[2]:
                    raise ValueError("its output is not a whole number of times smaller")
                if max(_pair(module.kernel_size)) > 1 or after > before:
                    rate = _pair(module.dilation)[0]
                    own = cast(Windowed, modules[name])
                    sites.append(Site(name, own, before, after, rate, _pair(module.padding), rate))
            elif output.shape[2] < inputs[0].shape[2] and output.shape[3] < inputs[0].shape[3]:
                shrinking.append((name, module, after))

        return hook

    handles = [m.register_forward_hook(observe(n)) for n, m in twin.named_modules() if not list(m.children())]
    try:
        levels = _run(twin, PROBE_SIZE_PX)
    except _NotConvolutional as error:
        raise ConfigError(
            f"not a convolutional network: {error.name} ({type(error.module).__name__}) takes tokens, not a map",
            "Output stride needs convolutions; choose another backbone, see `atrous models`.",
        ) from None
    finally:
        for handle in handles:
            handle.remove()
    return Probe(tuple(sites), tuple(shrinking), _read_shapes(levels, sites, shrinking), twin)


def _run(twin: Backbone, size: int) -> Sequence[Tensor]:
    """Run a network on the meta device, where only shapes are computed.

    Raises:
        ConfigError: The network cannot take the image; the message names the innermost module.
    """
    entered: list[str] = []

    def enter(name: str) -> Any:
        return lambda *_: entered.append(name)

    def leave(*_: Any) -> None:
        entered.pop()

    hooks = [m.register_forward_pre_hook(enter(n)) for n, m in twin.named_modules()]
    hooks += [m.register_forward_hook(leave) for m in twin.modules()]
    channels = twin.input_spec.channels
    values = itertools.chain(twin.parameters(), twin.buffers())
    dtype = next((v.dtype for v in values if v.is_floating_point()), torch.float32)
    try:
        with torch.no_grad(), ShapeRules():
            levels: Sequence[Tensor] = twin(torch.zeros(1, channels, size, size, device="meta", dtype=dtype))
            return levels
    except (RuntimeError, AssertionError, ValueError) as error:
        name = entered[-1]
        raise ConfigError(
            f"module {name} ({type(twin.get_submodule(name)).__name__}) does not take a {size}x{size} image: {error}",
            "Output stride needs convolutions that take any size; choose another backbone, see `atrous models`.",
        ) from error
    finally:
        for hook in hooks:
            hook.remove()


class _NotConvolutional(Exception):  # noqa: N818 - a signal within this file, not an error that callers see
    def __init__(self, name: str, module: nn.Module) -> None:
        super().__init__(name)
        self.name, self.module = name, module


def _read_shapes(
    levels: Sequence[Tensor], sites: Sequence[Site], shrinking: Sequence[tuple[str, nn.Module, int]]
) -> FeatureShapes:
    if any(level.dim() != 4 or level.shape[2] != level.shape[3] or PROBE_SIZE_PX % level.shape[2] for level in levels):
        raise ConfigError("the network's levels are not maps (B, C, h, w) at whole strides", "Choose another backbone.")
    shapes = tuple(FeatureLevel(level.shape[1], PROBE_SIZE_PX // level.shape[2]) for level in levels)
    averaged = (size for _, module, _ in shrinking for size in _pair(getattr(module, "kernel_size", 1)))
    centred = all(_is_centred(site) for site in sites) and all(size % 2 for size in averaged)
    return FeatureShapes(shapes, centred=centred)


def _is_centred(site: Site) -> bool:
    """Return whether output cells lie on input cells: an odd window, padded evenly (as built or in forward)."""
    even_padding = all(
        padding == site.built_rate * (size // 2) for padding, size in zip(site.built_padding, site.kernel, strict=True)
    )
    return all(size % 2 for size in site.kernel) and (even_padding or not getattr(site.module, "ceil_mode", False))


class FixedPlanner:
    """The plan of a backbone whose stride is fixed; it refuses every other one.

    Args:
        backbone: A network with `FixedStride`.
        build_stride: The output stride that is asked for.
    Raises:
        ConfigError: `build_stride` is not the backbone's stride.
    """

    sites: tuple[Site, ...] = ()

    def __init__(self, backbone: Backbone, strides: FixedStride, *, build_stride: int) -> None:
        self.shapes = backbone.feature_shapes
        self.native_stride = strides.stride
        self.set_output_stride(build_stride)

    def require(self, output_stride: int) -> None:
        """Raise if this is not the backbone's stride.

        Raises:
            ConfigError: Another stride.
        """
        if output_stride != self.native_stride:
            raise ConfigError(
                f"output stride {output_stride}: this backbone has one fixed stride, {self.native_stride}",
                "Choose another backbone for others, see `atrous models`.",
            )

    def set_output_stride(self, output_stride: int) -> None:
        """Accept the backbone's stride.

        Raises:
            ConfigError: Another stride.
        """
        self.require(output_stride)


def plan_strides(
    backbone: Backbone, *, build_stride: int, first_unit_rate: Literal["exact", "uniform"] = "exact"
) -> Planner:
    """Return the planner that a backbone's `strides` ask for.

    Args:
        backbone: A network at its native strides.
        build_stride: The output stride to build it for.
        first_unit_rate: See `StridePlanner`.
    Raises:
        ConfigError: The network cannot have `build_stride`.
    """
    if isinstance(backbone.strides, FixedStride):
        return FixedPlanner(backbone, backbone.strides, build_stride=build_stride)
    return StridePlanner(backbone, build_stride=build_stride, first_unit_rate=first_unit_rate)


class StridePlanner:
    """Sets the output stride of one backbone, as often as wanted; weights are never changed.

    Args:
        backbone: A network at its native strides.
        build_stride: The output stride to build it for.
        first_unit_rate: "exact" keeps the function. "uniform" gives the convolution that would stride the rate of the
            units after it, as many ports and papers print it: it re-labels the convolutions that are atrous at
            `build_stride`, and later switches scale from there.
    Raises:
        ConfigError: The network cannot have `build_stride`; the message names the module.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        build_stride: int,
        first_unit_rate: Literal["exact", "uniform"] = "exact",
    ) -> None:
        self._probe = probe_backbone(backbone)
        self.shapes = self._probe.shapes
        self.sites = self._probe.sites
        self.native_stride = self.shapes.deepest.native_stride
        self._rehearsed: set[int] = set()
        for site in self.sites:
            # One of timm or torchvision keeps its parameters, and becomes as fast as our own.
            if type(site.module) is nn.Conv2d and _is_centred(site):
                site.module.__class__ = Conv
        if first_unit_rate == "uniform":
            for site in self.sites:
                if site.native_out > site.native_in and site.native_out > build_stride and max(site.kernel) > 1:
                    site.unit_rate *= site.native_out // site.native_in
        self.set_output_stride(build_stride)

    def require(self, output_stride: int) -> None:
        """Raise if the network cannot have this output stride.

        Raises:
            ConfigError: A stride that is not offered, or a module that the rule cannot change.
        """
        if output_stride not in OUTPUT_STRIDES or output_stride > self.native_stride:
            raise ConfigError(f"output stride {output_stride} is not offered by this network")
        for name, module, native_out in self._probe.shrinking:
            if native_out > output_stride:
                raise _refuse(name, module, output_stride, "lowers the resolution in a way that has no atrous form")
        for site in self.sites:
            if site.native_out > output_stride and not _is_centred(site):
                raise _refuse(site.name, site.module, output_stride, "has an even kernel or padding: cells would shift")
        if output_stride not in self._rehearsed:
            self._rehearse(output_stride)
            self._rehearsed.add(output_stride)

    def _rehearse(self, output_stride: int) -> None:
        """Try the plan on the twin: code between modules may resize too, which only the result shows."""
        for site in self.sites:
            twin = cast(Windowed, self._probe.twin.get_submodule(site.name))
            _apply_rule(replace(site, module=twin), output_stride)
        for size in (PROBE_SIZE_PX, PROBE_SIZE_PX + 1):
            try:
                levels = _run(self._probe.twin, size)
            except ConfigError as error:
                raise ConfigError(f"output stride {output_stride}: {error.message}", error.hint) from error
            for number, (level, shape) in enumerate(zip(levels, self.shapes.levels, strict=True)):
                cells = -(-size // min(shape.native_stride, output_stride))
                known = self.shapes.centred or size == PROBE_SIZE_PX  # even kernels may drop the odd pixel
                if known and tuple(level.shape[2:]) != (cells, cells):
                    raise ConfigError(
                        f"output stride {output_stride}: level {number} has {describe_count(level.shape[2], 'cell')} "
                        f"for {size} pixels, "
                        f"not {cells}: the network resizes between its modules",
                        "Keep a larger output stride, or choose another backbone, see `atrous models`.",
                    )

    def set_output_stride(self, output_stride: int) -> None:
        """Set stride, rate and padding of every convolution and pooling.

        Raises:
            ConfigError: See `require`; nothing has changed.
        """
        self.require(output_stride)
        for site in self.sites:
            _apply_rule(site, output_stride)


Planner = StridePlanner | FixedPlanner
"""What `plan_strides` returns."""


def _apply_rule(site: Site, output_stride: int) -> None:
    in_now, out_now = min(site.native_in, output_stride), min(site.native_out, output_stride)
    rate = site.unit_rate * site.native_in // in_now if max(site.kernel) > 1 else site.built_rate
    vertical, horizontal = (padding * rate // site.built_rate for padding in site.built_padding)
    module = site.module
    module.stride = _like(module.stride, (out_now // in_now, out_now // in_now))
    module.dilation = _like(module.dilation, (rate, rate))
    module.padding = _like(module.padding, (vertical, horizontal))


def _refuse(name: str, module: nn.Module, output_stride: int, why: str) -> ConfigError:
    return ConfigError(
        f"output stride {output_stride}: module {name} ({type(module).__name__}) {why}",
        "Keep a larger output stride, or choose another backbone, see `atrous models`.",
    )


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _like(old: Any, pair: tuple[int, int]) -> Any:
    """Return a pair in the form that the module uses: poolings hold one number."""
    return pair[0] if isinstance(old, int) else pair
