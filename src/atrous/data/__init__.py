"""Images and their masks: data sets, reading, augmentation, the endless stream of training samples.

Each entry of `DATASETS` is a function
`build(root, *, classes, ignore, val_fraction, split_seed, train_split, val_split, **options) -> Splits`.
"""

from __future__ import annotations

from atrous.core.registry import Registry

DATASETS = Registry(
    "data set",
    (
        ("shapes", "atrous.data.datasets.shapes:build_shapes"),
        ("camvid", "atrous.data.datasets.camvid:build_camvid"),
        ("voc", "atrous.data.datasets.voc:build_voc"),
        ("cityscapes", "atrous.data.datasets.cityscapes:build_cityscapes"),
        ("folder", "atrous.data.datasets.folder:build_folder"),
    ),
)
