"""Which problems an operation may answer with: those it declares, and those that follow from its declaration."""

from collections.abc import Iterator, Mapping

from metering.api.operation import Content, Operation
from metering.problems import status_of_code

ANYTHING = "*/*"


def problems_of(declared: Operation, *, has_path_parameters: bool) -> Mapping[int, tuple[str, ...]]:
    """The codes by status, both in order."""
    codes = {*declared.refuses, *_implied(declared, has_path_parameters)}
    by_status: dict[int, list[str]] = {}
    for code in sorted(codes):
        by_status.setdefault(status_of_code(code), []).append(code)
    return {status: tuple(by_status[status]) for status in sorted(by_status)}


def _implied(declared: Operation, has_path_parameters: bool) -> Iterator[str]:
    if has_path_parameters:
        yield from ("not-found", "invalid-request")  # a value that fits no address, or could stand in none
    if declared.scope:
        yield from ("not-authenticated", "not-permitted", "intake-unavailable")
    if declared.query is not None or isinstance(declared.body, type):
        yield "invalid-request"
    if declared.body is not None:
        yield from ("content-too-large", "bad-request")  # the latter for one that broke off
        if not (isinstance(declared.body, Content) and ANYTHING in declared.body.schemas):
            yield "unsupported-media-type"
    if declared.metered:
        yield from ("limit-exceeded", "rate-limited", "invalid-usage")
        yield from ("idempotency-running", "idempotency-replay-unavailable", "idempotency-mismatch")
