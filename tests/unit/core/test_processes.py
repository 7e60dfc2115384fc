from __future__ import annotations

import subprocess
import sys

import pytest

CALL = """
import multiprocessing, sys
from atrous.core.processes import require_guarded_script

def work():
    multiprocessing.set_start_method(sys.argv[1], force=True)
    require_guarded_script()
    process = multiprocessing.Process(target=print, args=("worked",))
    process.start()
    process.join()
    sys.exit(process.exitcode)

"""
UNGUARDED = CALL + "work()\n"
GUARDED = CALL + 'if __name__ == "__main__":\n    work()\n'
GUARD_ELSEWHERE = CALL + "work()  # not in __main__\n"


@pytest.mark.parametrize(
    ("script", "method", "works"),
    [
        (UNGUARDED, "spawn", False),
        (UNGUARDED, "forkserver", False),
        (UNGUARDED, "fork", True),
        (GUARDED, "spawn", True),
        (GUARD_ELSEWHERE, "spawn", False),
    ],
    ids=["unguarded-spawn", "unguarded-forkserver", "unguarded-fork", "guarded-spawn", "guard-elsewhere"],
)
def test_a_script_that_workers_would_run_again_is_refused(tmp_path, script, method, works):
    path = tmp_path / "script.py"
    path.write_text(script)
    done = subprocess.run([sys.executable, path, method], capture_output=True, text=True, check=False)
    assert (done.returncode == 0, "worked" in done.stdout) == (works, works)
    if not works:
        last = [line for line in done.stderr.splitlines() if line.strip()][-2:]
        assert "each worker process would run this script again" in last[0]
        assert last[1] == 'Put the call below `if __name__ == "__main__":`, or use workers=0.'


def test_what_has_no_script_is_not_refused():
    code = "import multiprocessing as m; m.set_start_method('spawn'); " + CALL.splitlines()[2]
    subprocess.run([sys.executable, "-c", f"{code}; require_guarded_script()"], check=True)
    subprocess.run([sys.executable, "-"], input=f"{code}\nrequire_guarded_script()", text=True, check=True)
