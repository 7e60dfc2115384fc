from __future__ import annotations

import pytest
from ruamel.yaml import YAML

from atrous.core.errors import DataError
from atrous.core.findings import Finding, format_settings, list_fixes, merge_settings, require_no_errors, shorten_list

TEXTS = (
    *(
        "true",
        "True",
        "FALSE",
        "null",
        "Null",
        "NULL",
        "yes",
        "1e3",
        "~",
        "a: b",
        "#1",
        "-x",
        "it's",
        '"',
        "new\nline",
        " a",
    ),
    *(
        "\x7f",
        "\x1b[31m",
        "\x85",
        "\u2028",
        "\ufeff",
        "\u202e",
        "ü",
        "u\u0308",
        "\U0001f600",
        "\U000e0001",
        "a\\b",
        "{x}",
    ),
)


def test_a_finding_names_the_first_files_and_is_plain_json():
    finding = Finding("size-mismatch", "error", 5, "5 pairs differ", ("a", "b", "c", "d", "e"), "Export them again.")
    assert finding.files == ("a", "b", "c")
    assert finding.to_json() == {
        "code": "size-mismatch",
        "severity": "error",
        "count": 5,
        "message": "5 pairs differ",
        "files": ["a", "b", "c"],
        "fix": {"text": "Export them again."},
    }


def test_errors_alone_stop_and_all_of_them_in_one_message():
    note, warning = Finding("n", "note", 1, "a note"), Finding("w", "warning", 1, "a warning")
    require_no_errors([note, warning])
    one, other = Finding("e", "error", 1, "one", fix="Mend it."), Finding("f", "error", 1, "other", fix="Mend it.")
    with pytest.raises(DataError) as caught:
        require_no_errors([note, one])
    assert (caught.value.message, caught.value.hint) == ("one", "Mend it.")
    with pytest.raises(DataError) as caught:
        require_no_errors([one, warning, other])
    assert caught.value.message == "the data cannot be used:\n  one\n  other"
    assert caught.value.hint == "Mend it."


def test_settings_of_several_findings_are_one_section_to_paste():
    findings = [
        Finding("a", "error", 1, "one", settings={"exclude": ["b c.jpg", "old/*"], "classes": {0: "road", 1: "true"}}),
        Finding("b", "error", 1, "two", settings={"exclude": ["old/*", "d.png"], "classes": {7: "car"}, "page": 1}),
    ]
    text = format_settings(merge_settings(finding.settings for finding in findings))
    assert YAML(typ="safe", pure=True).load(text) == {
        "data": {
            "exclude": ["b c.jpg", "old/*", "d.png"],
            "classes": {0: "road", 1: "true", 7: "car"},
            "page": 1,
        }
    }
    with pytest.raises(DataError) as caught:
        require_no_errors(findings)
    assert caught.value.hint == f"In atrous.yaml:\n{text}".rstrip()
    assert findings[1].to_json()["fix"]["yaml"].startswith("data:\n  exclude: [")
    assert format_settings({}) == ""


def test_long_lists_are_cut():
    assert shorten_list(list("abcdefg")) == "a, b, c, d, e, and 2 more"
    assert shorten_list(["a"]) == "a"


def test_long_lists_and_tables_are_shortened_for_a_screen_alone():
    settings = {"exclude": [f"{number}.png" for number in range(60)], "label_map": dict.fromkeys(range(50), 1)}
    assert YAML(typ="safe").load(format_settings(settings))["data"] == settings
    shown = format_settings(settings, 40)
    assert "# and 20 more" in shown
    read = YAML(typ="safe").load(shown)["data"]
    assert read["exclude"] == settings["exclude"][:40]
    assert read["label_map"] == dict.fromkeys(range(40), 1)


def test_each_sentence_and_each_line_is_shown_once():
    findings = [
        Finding("a", "warning", 1, "one", fix="Do this.", settings={"value_range": [0, 4095]}),
        Finding("b", "note", 1, "two", fix="Or this.", settings={"value_range": [0, 4095]}),
        Finding("c", "error", 1, "three", fix="Do this."),
        Finding("d", "error", 1, "four", fix="Do it.", command="mv a b"),
        Finding("d", "error", 1, "five", fix="Do it.", command="mv a b"),
    ]
    assert list_fixes(findings) == [
        {"text": "Do this.", "yaml": "data:\n  value_range: [0, 4095]\n"},
        {"text": "Or this. The lines of a above do it."},
        {},
        {"text": "Do it.", "command": "mv a b"},
        {"text": "The command of d above does it."},
    ]


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_is_read_as_it_was_written(text):
    settings = {"classes": {0: text}, "exclude": [text], "images": text}
    written = format_settings(settings)
    assert YAML(typ="safe", pure=True).load(written) == {"data": settings}
    assert all(line.isprintable() for line in written.splitlines())
