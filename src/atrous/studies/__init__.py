"""Experiments that consist of whole runs, and the table of those that reproduce the paper."""

from __future__ import annotations

from atrous.core.registry import Registry

STUDIES = Registry(
    "study",
    (
        ("table1", "atrous.studies.table1:build_study"),
        ("table2", "atrous.studies.table2:build_study"),
        ("table3", "atrous.studies.table3:build_study"),
        ("table4", "atrous.studies.table4:build_study"),
        ("table5", "atrous.studies.table5:build_study"),
        ("table6", "atrous.studies.table6:build_study"),
        ("table8", "atrous.studies.table8:build_study"),
        ("table9", "atrous.studies.table9:build_study"),
        ("table10", "atrous.studies.table10:build_study"),
        ("table12", "atrous.studies.table12:build_study"),
        ("v2", "atrous.studies.v2:build_study"),
        ("families", "atrous.studies.families:build_study"),
    ),
)
"""Studies by name. Each is a function that builds a `Study` from a `Base`."""

FIGURES = "figures"
"""Name of the paper's figures, which need no training."""
