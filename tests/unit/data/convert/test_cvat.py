from __future__ import annotations

import pytest

import atrous
from annotated import HEIGHT, WIDTH, read_names, save_image
from atrous.core.errors import DataError

BOX = '<box label="cat" xtl="1" ytl="1" xbr="4" ybr="4"/>'
IMAGE = f'<image name="photo.png" width="{WIDTH}" height="{HEIGHT}">{{}}</image>'


def convert_xml(folder, *shapes, image=IMAGE, head=""):
    save_image(folder / "in" / "photo.png")
    text = f"<annotations>{head}{image.format(''.join(shapes))}</annotations>"
    (folder / "in" / "annotations.xml").write_text(text, encoding="utf-8")
    return atrous.convert(folder / "in", folder / "out", from_format="cvat", progress=False)


@pytest.mark.parametrize(
    ("shape", "pixels"),
    [
        (BOX, 9),
        ('<box label="cat" xtl="2" ytl="2" xbr="8" ybr="4" rotation="90"/>', 12),
        ('<polygon label="cat" points="1.0,1.0;4.0,1.0;4.0,4.0;1.0,4.0"/>', 9),
        ('<polyline label="cat" points="0,5;12,5"/>', 120),
        ('<ellipse label="cat" cx="5" cy="5" rx="1.2" ry="1.2" rotation="30"/>', 4),
        ('<mask label="cat" rle="1, 1, 2, 2" left="2" top="3" width="3" height="2"/>', 3),
        ('<mask label="cat" rle="0, 6" left="9" top="8" width="3" height="2"/>', 6),
        (f"{BOX}<tag label='blurred'/>", 9),
    ],
)
def test_every_shape_is_drawn(shape, pixels, tmp_path):
    result = convert_xml(tmp_path, shape)
    assert (result.problems, result.pixels[1]) == ((), pixels)


def test_a_turned_box_and_a_mask_are_where_they_should_be(tmp_path):
    shapes = [
        '<box label="cat" xtl="2" ytl="2" xbr="8" ybr="4" rotation="90"/>',
        '<mask label="dog" rle="1, 1, 2, 2" left="9" top="8" width="3" height="2"/>',
    ]
    convert_xml(tmp_path, *shapes)
    names = read_names(tmp_path / "out")
    assert (names[0:6, 4:6] == "cat").all()
    assert names[8:, 9:].tolist() == [["background", "dog", "background"], ["background", "dog", "dog"]]


def test_a_larger_z_order_is_on_top_whatever_the_order_in_the_file(tmp_path):
    top, below = (
        BOX.replace("/>", ' z_order="2"/>'),
        '<box label="dog" xtl="0" ytl="0" xbr="12" ybr="10" z_order="-1"/>',
    )
    result = convert_xml(tmp_path, top, below)
    assert (result.pixels, result.overlapping_px) == ({1: 9, 2: 111}, 9)


def test_classes_are_in_the_order_of_the_labels_of_the_task(tmp_path):
    labels = "".join(f"<label><name>{name}</name></label>" for name in ("zebra", "cat", "ant"))
    result = convert_xml(tmp_path, BOX, head=f"<meta><job><labels>{labels}</labels></job></meta>")
    assert (result.label_space.ids, result.label_space.names) == ((0, 2), ("background", "cat"))


@pytest.mark.parametrize(
    ("shape", "code"),
    [
        ('<box label="cat"/>', "broken-annotation"),
        ('<box label="cat" xtl="nan" ytl="1" xbr="4" ybr="4"/>', "broken-annotation"),
        ('<box label="cat" xtl="1e300" ytl="1" xbr="4" ybr="4"/>', "outside"),
        ('<box xtl="1" ytl="1" xbr="4" ybr="4"/>', "unknown-label"),
        ('<polygon label="cat" points="1,1;2,2"/>', "too-few-points"),
        ('<polygon label="cat" points="1,1;2,2;3"/>', "broken-annotation"),
        ('<polygon label="cat" points="1,1;2,2;a,b"/>', "broken-annotation"),
        ('<polygon label="cat" points="1,1;2,2;nan,1"/>', "broken-annotation"),
        ('<polygon label="cat"/>', "too-few-points"),
        ('<points label="cat" points="1,1"/>', "broken-annotation"),
        ('<mask label="cat" rle="3" left="2" top="3" width="3" height="2"/>', "broken-rle"),
        ('<mask label="cat" rle="a" left="2" top="3" width="3" height="2"/>', "broken-rle"),
        ('<mask label="cat" left="2" top="3" width="3" height="2"/>', "broken-rle"),
        ('<mask label="cat" rle="0, 9" left="10" top="3" width="3" height="3"/>', "outside"),
        (f'<mask label="cat" rle="0, {10**18}" left="0" top="0" width="{10**9}" height="{10**9}"/>', "outside"),
        ('<ellipse label="cat" cx="5" cy="5" rx="0" ry="1"/>', "broken-annotation"),
        ('<box label="cat" xtl="1" ytl="1" xbr="4" ybr="4" z_order="top"/>', "broken-annotation"),
    ],
)
def test_a_broken_shape_is_listed_and_the_others_are_drawn(shape, code, tmp_path):
    result = convert_xml(tmp_path, shape, BOX)
    assert [problem.code for problem in result.problems] == [code]
    assert "image 'photo.png'" in result.problems[0].message
    assert result.pixels[1] == 9


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE a [<!ENTITY x "y"><!ENTITY z "&x;&x;">]><annotations>&z;</annotations>',
        '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotations/>',
        "<annotations><image></annotations>",
        "<a>" * 10_000,
        "<annotations><image name='photo.png'><box label='&amp;undefined;&no;'/></image></annotations>",
        "<annotations><track/></annotations>",
    ],
    ids=range(6),
)
def test_xml_that_is_hostile_or_broken_is_one_error(text, tmp_path):
    save_image(tmp_path / "in" / "photo.png")
    (tmp_path / "in" / "annotations.xml").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="no image can be converted"):
        atrous.convert(tmp_path / "in", tmp_path / "out", from_format="cvat", progress=False)


@pytest.mark.parametrize("size", ['width="10" height="10"', 'width="1" height="99999999999999999999"'])
def test_sizes_are_compared_and_never_allocated(size, tmp_path):
    image = f'<image name="photo.png" {size}>{{}}</image>'
    if "999" in size:
        assert convert_xml(tmp_path, BOX, image=image).images == 1
    else:
        with pytest.raises(DataError, match="10x10"):
            convert_xml(tmp_path, BOX, image=image)
