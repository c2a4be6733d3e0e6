"""The wheel carries everything the product shows and runs: templates, styles, scripts, SQL, Lua, migrations."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

MUST_HAVE = (
    "metering/templates/base.html",
    "metering/static/css/app.css",
    "metering/docs/errors.md",
    "metering/static/vendor/htmx.min.js",
    "metering/static/vendor/tabler.min.css",
    "metering/catalog/default.toml",
    "metering/intake/lua/prelude.lua",
    "metering/store/sql/store_batch.sql",
    "metering/migrations/versions/0001_first_schema.py",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = Path(__file__).resolve().parents[2]
    folder = tmp_path_factory.mktemp("wheel")
    build = "from hatchling.build import build_wheel; import sys; print(build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, str(folder)], cwd=root, capture_output=True, text=True, check=True
    )
    return folder / done.stdout.split()[-1]


def test_the_wheel_holds_all_that_is_no_python(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())

    assert [name for name in MUST_HAVE if name not in names] == []
    assert not [name for name in names if name.startswith(("tests/", "node_modules/", "benchmarks/"))]


def test_the_installed_wheel_finds_its_templates_and_static_files(wheel: Path, tmp_path: Path) -> None:
    """Installed by unpacking, in a folder without the checkout in sight."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    look = (
        "import metering, metering.app as app, metering.manual as manual, pathlib;"
        "assert pathlib.Path(metering.__file__).is_relative_to(pathlib.Path.cwd()), metering.__file__;"
        "assert (app.ASSETS / 'templates/base.html').is_file();"
        "assert (app.ASSETS / 'static/vendor/htmx.min.js').is_file();"
        "assert 'not-found' in manual.entries()"
    )
    done = subprocess.run(
        [sys.executable, "-c", look], cwd=tmp_path, env={"PYTHONPATH": ""}, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
