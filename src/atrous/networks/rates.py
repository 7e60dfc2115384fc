"""Rates as they are written, in cells at output stride 16, and as they are at another stride."""

from __future__ import annotations

from atrous.core.errors import ConfigError

RATE_STRIDE = 16
"""The output stride that rates are written for."""


def require_rates(rates: tuple[int, ...]) -> None:
    """Refuse what is no list of rates.

    Raises:
        ConfigError: `rates` is empty or holds a number below 1.
    """
    if not rates or min(rates) < 1:
        raise ConfigError(
            f"model.head.rates: {list(rates)} is not a list of rates", "Each rate is a whole number from 1 up."
        )


def scale_rates(rates: tuple[int, ...], output_stride: int) -> tuple[int, ...]:
    """Return rates in cells of a map at `output_stride`, which see the same part of the image.

    Args:
        rates: Distance between taps in stride-16 cells.
        output_stride: Stride of the map.
    Raises:
        ConfigError: A rate would not be whole.
    """
    for rate in rates:
        if rate * RATE_STRIDE % output_stride:
            raise ConfigError(
                f"output stride {output_stride}: rate {rate} at stride {RATE_STRIDE} becomes "
                f"{rate * RATE_STRIDE / output_stride:g}, which is not whole",
                f"Choose rates that are multiples of {output_stride // RATE_STRIDE}, or a smaller output stride.",
            )
    return tuple(rate * RATE_STRIDE // output_stride for rate in rates)
