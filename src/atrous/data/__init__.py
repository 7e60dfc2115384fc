"""Images and their masks: data sets, their facts and checks, augmentation, the endless stream of training samples.

Each entry of `DATASETS` is a function
`build(root, *, classes, ignore, val_fraction, split_seed, train_split, val_split, **options) -> Splits`.
"""

from __future__ import annotations

from atrous.core.data_source import DATASETS as DATASETS
