from __future__ import annotations

import pytest

from atrous.core.errors import DataError
from atrous.data.class_tables import read_class_table

EXPECTED = ({0: "background", 1: "large crack"}, {(0, 0, 0): 0, (250, 50, 5): 1})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\nlarge crack:250, 50, 5:a,b:c\n\n"),
        ("class_dict.csv", "name,r,g,b\nbackground,0,0,0\nlarge crack,250,50,5\n"),
        ("classes.csv", "\ufeffRed, Green, Blue, Class\n0, 0, 0, background\n250, 50, 5, large crack\n,,,\n"),
    ],
)
def test_tables_of_annotation_tools(name, text, tmp_path):
    (tmp_path / name).write_text(text, encoding="utf-8")
    table = read_class_table(tmp_path / name)
    assert (table.names, table.colours) == EXPECTED


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("labelmap.txt", "a:0,0,0::\nb:0,0::\n", "labelmap.txt:2: '0,0' is no colour"),
        ("labelmap.txt", "a\n", "labelmap.txt:1: '' is no colour"),
        ("labelmap.txt", "a:0,0,0::\nb:0,0,0::\n", r"the colour \(0, 0, 0\) occurs twice"),
        ("labelmap.txt", "a:0,0,0::\na:0,0,1::\n", "the name a occurs twice"),
        ("labelmap.txt", "# nothing\n", "no class in it"),
        ("_classes.csv", "Pixel Value, Class\n0, background\n", "its columns are Pixel Value, Class"),
        ("a.csv", "", "its columns are none"),
        ("a.csv", "name,r,g,b\nroad,1,2\n", "a.csv:2: '1,2,' is no colour"),
        ("a.csv", "name,r,g,b\nroad,1,2,300\n", "a.csv:2: '1,2,300' is no colour"),
    ],
)
def test_other_forms_are_refused_with_their_line(name, text, words, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=words):
        read_class_table(tmp_path / name)


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"labelmap\.txt: cannot be read: No such file"):
        read_class_table(tmp_path / "labelmap.txt")
