"""`python -m atrous`: the command line."""

import sys


def run() -> int:
    """Run the command line and return its exit code, also where Ctrl-C comes before it has been loaded."""
    try:
        from atrous.core.spinning import bound_spinning, bound_threads

        bound_threads()
        bound_spinning()
        from atrous.cli.main import main
    except KeyboardInterrupt:
        return 130
    return main()


if __name__ == "__main__":
    sys.exit(run())
