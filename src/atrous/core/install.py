"""What installs a package that is missing. The only place that writes such commands."""

from __future__ import annotations

import re
import shlex
import sys

DISTRIBUTION = "atrous"
"""Name under which this package is installed. It is on no index, so its extras cannot be installed by that name."""


def describe_install(package: str, extra: str | None = None) -> str:
    """Return the command that installs a package, or all packages of an extra, where this program runs.

    Args:
        package: Name of the package on the index.
        extra: Optional dependency group that holds the package and others that are needed beside it.
    """
    packages = _list_requirements(extra) if extra else []
    return f"{shlex.quote(sys.executable)} -m pip install {shlex.join(packages or [package])}"


def _list_requirements(extra: str) -> list[str]:
    """Return the packages of an extra, with versions; none if it is unknown or this package is not installed."""
    from importlib.metadata import PackageNotFoundError, requires  # not at the top: it would slow every start

    try:
        lines = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return []
    marked = re.compile(rf"""extra\s*==\s*['"]{re.escape(extra)}['"]""")
    return [line.partition(";")[0].strip() for line in lines if marked.search(line.partition(";")[2])]
