"""The example of an operation as lines for a shell in which `$URL`, `$KEY` and `$OPERATORS_KEY` are set.

Always holds: the lines of one operation run by themselves, whatever was run before. What they need is made by the lines
above the last one, and what only the database can tell is asked for.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any
from urllib.parse import quote as percent_encoded
from urllib.parse import urlencode

from metering.accounts.keys import DEFAULT_SCOPES
from metering.api.parameters import flat_query
from metering.api.schemas import Described

UNTIL_DRAINED = "sleep 1"
SETUP = """\
KEY=$(sed -E 's/.*"api_key": "([^"]+).*/\\1/' ${METERING_HOME:-instance}/demo.json)
OPERATORS_KEY=$(.venv/bin/flask --app wsgi metering keys create --operator --name reference)
echo "a long password" | .venv/bin/flask --app wsgi metering users create grace@example.org --password-stdin"""
"""What a shell begins with in which the lines run beside `make run`, after `URL`; the last is for the members alone."""


@dataclass(frozen=True, slots=True)
class Request:
    """An operation of the description, and where it stands."""

    path: str
    method: str
    found: Described


def requests_of(document: Described) -> Mapping[str, Request]:
    """All operations, by their name."""
    return {
        found["operationId"]: Request(path, method.upper(), found)
        for path, methods in document["paths"].items()
        for method, found in methods.items()
    }


def curl_lines(requests: Mapping[str, Request], name: str) -> str:
    """The example of the operation `name`, with what must be there before it."""
    return "\n".join(dict.fromkeys(_lines(requests, name)))


def _lines(requests: Mapping[str, Request], name: str) -> Iterator[str]:
    request = requests[name]
    if before := request.found.get("x-after"):
        yield from _lines(requests, before)
    for parameter in request.found["parameters"]:
        if source := parameter.get("x-answered-by"):
            if source["drained"]:
                yield UNTIL_DRAINED
            asking = curl_line(requests[source["operationId"]]).replace("curl", "curl -s", 1)
            member = f"""sed -E 's/.*"{source["member"]}":"?([^",}}]+).*/\\1/'"""
            yield f"{_variable(parameter)}=$({asking} | {member})"
    yield curl_line(request)


def curl_line(request: Request) -> str:
    """One call. Values of the path that another operation answers with are variables."""
    path, found = request.path, request.found
    for one in found["parameters"]:
        if "x-answered-by" in one:
            path = path.replace(f"{{{one['name']}}}", f"${_variable(one)}")
    examples = {(one["in"], one["name"]): one["example"] for one in found["parameters"] if "example" in one}
    for (place, name), value in examples.items():
        if place == "path":
            path = path.replace(f"{{{name}}}", percent_encoded(str(value), safe=""))
    query = flat_query({name: _said(value) for (place, name), value in examples.items() if place == "query"})
    address = f"$URL{path}" + (f"?{urlencode(query, doseq=True)}" if query else "")
    parts = ["curl"]
    if request.method != ("POST" if "requestBody" in found else "GET"):
        parts.append(f"-X {request.method}")
    if found["security"]:
        parts.append(f'-H "Authorization: Bearer ${_key(found)}"')
    parts += [f"-H {quote(f'{name}: {value}')}" for (place, name), value in examples.items() if place == "header"]
    parts += _body(found.get("requestBody", {}))
    return " ".join([*parts, f'"{address}"' if query else address])


def _key(found: Described) -> str:
    """A customer's own key, as it is made unless somebody says otherwise, wherever it is good enough."""
    own = found.get("x-scope") in DEFAULT_SCOPES and not found.get("x-operators-only")
    return "KEY" if own else "OPERATORS_KEY"


def _variable(parameter: Described) -> str:
    return str(parameter["name"]).upper()


def _said(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _body(found: Described) -> Sequence[str]:
    for media, content in found.get("content", {}).items():
        if "example" in content:
            example: Any = content["example"]
            if isinstance(example, str):
                return [f"--data-binary {quote(example)}"]
            return [f"-H {quote(f'Content-Type: {media}')}", f"-d {quote(json.dumps(example, default=str))}"]
    return []
