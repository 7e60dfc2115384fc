"""Masks of SBD (Hariharan et al. 2011), which are in MATLAB's files. The only place that uses scipy."""

from __future__ import annotations

import importlib.util
import io

import numpy as np

from atrous.core.errors import DataError, MachineError
from atrous.core.install import describe_install
from atrous.core.system_errors import describe_reason, raise_shortage
from atrous.data.datasets.voc import VOC
from atrous.images.encode import encode_index_png

LARGEST_BYTES = 2**20
"""Size of a file; real ones have a few thousand bytes, and compressed ones can grow a thousandfold."""


def require_mat_reader() -> None:
    """Refuse to go on without scipy.

    Raises:
        MachineError: It is not installed.
    """
    if importlib.util.find_spec("scipy") is None:
        raise MachineError(
            "SBD's masks are MATLAB files, and scipy, which reads them, is not installed",
            f"{describe_install('scipy', 'prepare')}, or leave SBD out.",
        )


def convert_sbd_mask(name: str, content: bytes) -> bytes:
    """Return SBD's mask of an image as a PNG with VOC's ids and colours.

    Args:
        name: The file, for messages.
        content: Its bytes, as in benchmark_RELEASE/dataset/cls/.
    Raises:
        DataError: It is no such file, or has an id that is none of VOC's classes.
        MachineError: The memory is full.
    """
    from scipy.io import loadmat

    hint = "Get SBD's benchmark.tgz again, and give its folder dataset/cls or the archive."
    if len(content) > LARGEST_BYTES:
        raise DataError(f"{name}: {len(content):,} bytes, and a mask of SBD has at most {LARGEST_BYTES:,}", hint)
    try:
        mask = loadmat(io.BytesIO(content), variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0]
    except Exception as error:  # scipy has no kind of error for damaged files
        raise_shortage(error, name)
        raise DataError(f"{name}: no mask of SBD: {describe_reason(error)}", hint) from error
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.dtype.kind not in "uif" or not mask.size:
        raise DataError(f"{name}: no mask of SBD: GTcls.Segmentation is no matrix of numbers", hint)
    odd = sorted(set(np.unique(mask).tolist()) - set(VOC.ids))
    if odd:
        raise DataError(f"{name}: holds {odd[0]}, which is no class of VOC", hint)
    return encode_index_png(np.ascontiguousarray(mask, dtype=np.uint8), VOC)
