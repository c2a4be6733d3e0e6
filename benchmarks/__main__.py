"""`python -m benchmarks [NAME …] [--json FILE]`: a table, and the same as JSON. Exit status 1: a bound was missed."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from benchmarks import decorator, drain, growth, ingest, partials, queries, stripe

BENCHMARKS = {
    "decorator": decorator.run,
    "drain": drain.run,
    "growth": growth.run,
    "ingest": ingest.run,
    "partials": partials.run,
    "queries": queries.run,
    "stripe": stripe.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *BENCHMARKS], help="only these")
    parser.add_argument("--json", type=Path, default=None, help="write the results there as well")
    chosen = parser.parse_args()
    results = []
    for name in chosen.names or BENCHMARKS:
        print(f"== {name}", file=sys.stderr, flush=True)
        results += BENCHMARKS[name]()
    for result in results:
        sign = "at least" if result.at_least else "at most"
        print(f"{'ok  ' if result.holds else 'MISS'}  {result.value:6.2f} ({sign} {result.bound})  {result.question}")
        print(f"              ours {result.ours}, peer {result.peer}")
    report = [dataclasses.asdict(result) | {"holds": result.holds} for result in results]
    print(json.dumps(report))
    if chosen.json:
        chosen.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if all(result.holds for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
