"""What starting worker processes needs of the program that does it."""

from __future__ import annotations

import multiprocessing
import sys
from contextlib import suppress
from multiprocessing.process import current_process
from pathlib import Path

from atrous.core.errors import UsageError


def require_guarded_script() -> None:
    """Refuse to start worker processes from a script that each of them would run again from its first line.

    That is so where processes are not forked (macOS, Windows, and Linux from Python 3.14 on) and the script does not
    ask whether it is the main program.

    Raises:
        UsageError: The script has no `if __name__ == "__main__":`, or this is such a process.
    """
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    is_worker = getattr(current_process(), "_inheriting", False)  # it is importing the script
    if is_worker or (method != "fork" and _is_unguarded(getattr(sys.modules["__main__"], "__file__", None))):
        raise UsageError(
            f"each worker process would run this script again, since processes start by {method} here",
            'Put the call below `if __name__ == "__main__":`, or use workers=0.',
        )


def _is_unguarded(script: str | None) -> bool:
    with suppress(OSError):  # such as the "<stdin>" of an interactive session, which is never run again
        return script is not None and b"__main__" not in Path(script).read_bytes()
    return False
