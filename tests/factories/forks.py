"""Processes forked from one warm parent, a test process's own: it has everything imported and runs no thread, so that a
start takes milliseconds instead of the second or two of the imports.
"""

import multiprocessing
from multiprocessing.context import ForkServerContext

FORKS: ForkServerContext = multiprocessing.get_context("forkserver")
# pytest too: a child of `python -m pytest` begins by looking into its parent's main module.
FORKS.set_forkserver_preload(["pytest", "tests.faults.harness", "metering.stripe_sync.standin.__main__"])
