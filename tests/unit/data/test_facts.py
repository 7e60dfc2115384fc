from __future__ import annotations

from pathlib import Path

from atrous.data.facts import describe_size_mismatch
from atrous.images.decode import ImageHeader


def test_a_mask_of_the_unrotated_image_is_named_as_such():
    turned = ImageHeader(8, 5, "RGB", is_turned=True)
    line = describe_size_mismatch(Path("a.png"), turned, Path("m.png"), (5, 8))
    assert "EXIF" in line
    assert "drawn on the unrotated image" in line
    assert "8x5" in line
    assert describe_size_mismatch(Path("a.png"), turned, Path("m.png"), (8, 5)) == ""
    assert "EXIF" not in describe_size_mismatch(Path("a.png"), turned, Path("m.png"), (3, 3))
