from __future__ import annotations

import numpy as np
import pytest

import atrous
from annotated import HEIGHT, WIDTH, read_names, save_image, save_mask
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
        f"<annotations>{'<track>' * 5000}{'</track>' * 5000}</annotations>",
    ],
    ids=range(7),
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


def convert_video(folder, *tracks, frames=(0, 1, 2), last=2, filter_text="", names="frame_{:06}.png"):
    for number in frames:
        save_image(folder / "in" / "images" / names.format(number))
    size = f"<original_size><width>{WIDTH}</width><height>{HEIGHT}</height></original_size>"
    meta = f"<meta><task><stop_frame>{last}</stop_frame>{filter_text}{size}</task></meta>"
    text = f"<annotations>{meta}{''.join(tracks)}</annotations>"
    (folder / "in" / "annotations.xml").write_text(text, encoding="utf-8")
    return atrous.convert(folder / "in", folder / "out", progress=False)


def build_track(*frames, label="cat", gone=(), left=1):
    boxes = "".join(
        f'<box frame="{number}" outside="{int(number in gone)}" occluded="0" keyframe="1" '
        f'xtl="{left + number}" ytl="1" xbr="{left + 3 + number}" ybr="4" z_order="0"/>'
        for number in frames
    )
    return f'<track id="5" label="{label}">{boxes}</track>'


def test_a_video_is_read_at_the_frames_that_are_images(tmp_path):
    other = build_track(1, 2, label="dog", gone=(2,), left=6)
    result = convert_video(tmp_path, build_track(0, 1, 2, 3, 4), other, frames=(0, 2, 1), last=4)
    assert (result.format, result.images, result.problems) == ("cvat", 3, ())
    for number in range(3):
        names = read_names(tmp_path / "out", f"frame_{number:06}")
        assert (names[1:4, 1 + number : 4 + number] == "cat").all()
        assert (names == "cat").sum() == 9
        assert (names == "dog").sum() == 9 * (number == 1)


def test_frames_at_which_a_track_is_not_written_are_listed(tmp_path):
    result = convert_video(tmp_path, build_track(0, 2), build_track(0, 2, label="dog", gone=(0,)))
    assert [problem.code for problem in result.problems] == ["broken-annotation"]
    assert "track 5: it is not written at 1 frame, such as 1" in result.problems[0].message
    assert result.images == 3


def test_a_video_of_every_other_frame_has_steps(tmp_path):
    step = "<frame_filter>step = 2</frame_filter>"
    assert convert_video(tmp_path, build_track(0, 2), frames=(0, 2, 4), last=5, filter_text=step).problems == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": "{:06}.png"}, "no image is a frame of the video"),
        ({"frames": (1, 2, 3)}, "frame_000003.png is after the last frame, 2"),
    ],
)
def test_a_video_whose_frames_are_not_clear_is_refused(arguments, message, tmp_path):
    with pytest.raises(DataError, match=message):
        convert_video(tmp_path, build_track(0, 1, 2), **arguments)


def test_the_same_frame_of_two_videos_is_refused(tmp_path):
    save_image(tmp_path / "in" / "other" / "frame_000001.png")
    with pytest.raises(DataError, match="convert each video alone"):
        convert_video(tmp_path, build_track(0, 1, 2))


def test_a_broken_track_is_listed_and_the_others_are_drawn(tmp_path):
    tracks = [
        '<track id="7" label="cat"><points frame="0" points="1,1"/><points frame="1" points="1,1"/></track>',
        '<track id="8" label="cat"><box frame="nan" xtl="1"/></track>',
        '<track id="9"><box frame="0" xtl="1" ytl="1" xbr="4" ybr="4"/></track>',
        '<track id="10" label="cat"><box frame="0" xtl="1" ytl="1"/></track>',
        '<track id="11" label="cat"><box frame="1e300" xtl="1" ytl="1" xbr="4" ybr="4"/></track>',
    ]
    result = convert_video(tmp_path, *tracks, build_track(0, label="dog"), frames=(0,))
    assert [problem.code for problem in result.problems] == [
        "broken-annotation",
        "broken-annotation",
        "unknown-label",
        "broken-annotation",
    ]
    assert result.pixels[max(result.pixels)] == 9


def test_names_that_xml_cannot_hold_are_refused(tmp_path):
    image = save_image(tmp_path / "in" / "images" / "a\x01.png")
    save_mask(tmp_path / "in", image.name, np.eye(10, 12, dtype=np.uint8))
    with pytest.raises(DataError, match=r"image 'a\\x01.png': a character that XML cannot hold"):
        atrous.convert(tmp_path / "in", tmp_path / "out", to_format="cvat", progress=False)
    image.rename(image.with_name("a.png"))
    (tmp_path / "in" / "masks" / image.name).rename(tmp_path / "in" / "masks" / "a.png")
    (tmp_path / "in" / "atrous.yaml").write_text('data: {classes: {0: background, 1: "\\x01"}}', encoding="utf-8")
    with pytest.raises(DataError, match="class"):
        atrous.convert(tmp_path / "in", tmp_path / "again", to_format="cvat", progress=False)
