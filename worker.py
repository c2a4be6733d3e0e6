"""Everything in the background: the drain, the schedule, RQ's worker, and another for checks that take long.

python worker.py                                  all of them, each in a process of its own
python worker.py --only drain|schedule|rq|checks  one of them; several of each may run, on several machines
"""

import gc

gc.disable()  # what is imported stays: to look through it again and again meanwhile is a fifth of a start

import argparse  # noqa: E402
import sys  # noqa: E402

from metering import background  # noqa: E402
from metering.errors import MeteringError  # noqa: E402
from metering.supervisor import Command, supervise  # noqa: E402

gc.enable()


def main() -> int:
    parser = argparse.ArgumentParser(description="The background of the product.")
    parser.add_argument("--only", choices=sorted(background.ROLES), help="run just this one, in this process")
    only = parser.parse_args().only
    if only is None:
        return supervise([Command(role, [sys.executable, __file__, "--only", role]) for role in background.ROLES])
    try:
        background.run(only)
    except MeteringError as error:
        print(error.message, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
