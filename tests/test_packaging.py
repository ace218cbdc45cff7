"""One import name out of four folders: links, wheel, sdist, editable install, layers, pins."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
SOURCE = str(ROOT / "src")
ROOMS = ("bus", "engine", "schemas", "subscribers")
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
VERSION: str = PYPROJECT["project"]["version"]
HEAVY = {"torch", "tensorboard", "matplotlib", "wandb", "codecarbon"}
SITE_PACKAGES = Path(sysconfig.get_path("purelib"))


def run(*command: str | Path, cwd: Path, ok: bool = True, **env: str) -> str:
    """What a program printed; a failure shows it when the exit status is not as expected."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    output = done.stdout + done.stderr
    assert (done.returncode == 0) is ok, f"{command} ended with {done.returncode}:\n{output}"
    return output


def tree(folder: Path, prefix: str) -> set[str]:
    """Every file under `folder` but bytecode, as a path under `prefix`; follows no links."""
    found = set()
    for directory, _, names in os.walk(folder):
        if "__pycache__" not in directory:
            inside = Path(directory).relative_to(folder)
            found |= {(prefix / inside / name).as_posix() for name in names}
    return found


def package_files() -> set[str]:
    """What the package must hold: the rooms, and the real files of src/stepbus."""
    files = tree(ROOT / "src" / "stepbus", "stepbus")
    for room in ROOMS:
        files |= tree(ROOT / room, f"stepbus/{room}")
    return files


def copy_of_checkout(target: Path) -> Path:
    """The parts of the checkout that make the package, links kept as links."""
    for name in (*ROOMS, "src"):
        shutil.copytree(
            ROOT / name, target / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, target / name)
    return target


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sdist, the wheel made from it, and the wheel made from the checkout."""
    out = tmp_path_factory.mktemp("built")
    build = (sys.executable, "-m", "build", "--no-isolation")
    run(*build, "--outdir", out / "sdist", ROOT, cwd=out)
    run(*build, "--wheel", "--outdir", out / "direct", ROOT, cwd=out)
    (sdist,) = (out / "sdist").glob("*.tar.gz")
    (from_sdist,) = (out / "sdist").glob("*.whl")
    (wheel,) = (out / "direct").glob("*.whl")
    return {"sdist": sdist, "wheel from sdist": from_sdist, "wheel": wheel}


@pytest.fixture(scope="module")
def installed(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed wheel and nothing else."""
    target = tmp_path_factory.mktemp("installed")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--no-deps", "--no-index", "--target", target, built["wheel"], cwd=target)
    return target


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_is_the_folder_at_the_root(room: str) -> None:
    module = importlib.import_module(f"stepbus.{room}")
    assert module.__file__ is not None
    assert Path(module.__file__).resolve() == ROOT / room / "__init__.py"
    assert (ROOT / "src" / "stepbus" / room).readlink() == Path(f"../../{room}")


def test_the_root_is_not_a_package() -> None:
    assert not (ROOT / "__init__.py").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "wheel from sdist"])
def test_wheel_holds_the_package_and_nothing_else(built: dict[str, Path], kind: str) -> None:
    with zipfile.ZipFile(built[kind]) as wheel:
        names = wheel.namelist()
    info = f"stepbus-{VERSION}.dist-info"
    beside = {
        f"{info}/{name}"
        for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    }
    assert len(names) == len(set(names))
    assert set(names) - beside == package_files()
    assert beside <= set(names)


@pytest.mark.slow
def test_sdist_holds_the_rooms_the_facade_and_the_papers(built: dict[str, Path]) -> None:
    top = f"stepbus-{VERSION}"
    with tarfile.open(built["sdist"]) as sdist:
        names = sdist.getnames()
    expected = tree(ROOT / "src" / "stepbus", f"{top}/src/stepbus")
    for room in ROOMS:
        expected |= tree(ROOT / room, f"{top}/{room}")
    papers = ("pyproject.toml", "PKG-INFO", "README.md", "LICENSE", ".gitignore")
    assert sorted(names) == sorted(expected | {f"{top}/{name}" for name in papers})


@pytest.mark.slow
@pytest.mark.parametrize("decoys", [False, True], ids=["empty folder", "folder with decoys"])
def test_installed_wheel_imports_from_any_folder(
    installed: Path, tmp_path: Path, decoys: bool
) -> None:
    for room in ROOMS if decoys else ():
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text(f"raise RuntimeError('own {room} imported')\n")
    modules = sorted(
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in package_files()
        if name.endswith(".py") and not name.endswith("__main__.py")
    )
    program = (
        "import importlib, sys\n"
        f"for name in {modules}:\n"
        "    module = importlib.import_module(name)\n"
        f"    assert module.__file__.startswith({str(installed)!r}), module.__file__\n"
        "print('imported', len([name for name in sys.modules if name.startswith('stepbus')]))\n"
    )
    output = run(sys.executable, "-c", program, cwd=tmp_path, PYTHONPATH=str(installed))
    assert int(output.split()[-1]) >= len(modules)


def test_facade_imports_neither_torch_nor_a_tracker(tmp_path: Path) -> None:
    modules = "sys, stepbus, stepbus.integrations"
    program = f"import {modules}; print(sorted({HEAVY} & sys.modules.keys()))"
    assert run(sys.executable, "-c", program, cwd=tmp_path, PYTHONPATH=SOURCE) == "[]\n"


def test_only_the_engine_brings_torch(tmp_path: Path) -> None:
    rooms = [room for room in ROOMS if room != "engine"]
    names = sorted(
        f"stepbus.{room}.{file.stem}" for room in rooms for file in (ROOT / room).glob("[!_]*.py")
    )
    program = (
        "import importlib, sys\n"
        f"for name in {names}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, name\n"
    )
    run(sys.executable, "-c", program, cwd=tmp_path, PYTHONPATH=SOURCE)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_types_reach_a_downstream_file(installed: Path, tmp_path: Path) -> None:
    """mypy --strict against the wheel: clean code passes and seeded errors are found."""
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=tmp_path)
    (site_packages,) = environment.glob("lib/python*/site-packages")
    # The wheel first; the dependencies of this environment behind it, without its editable stepbus.
    (site_packages / "paths.pth").write_text(f"{installed}\n{SITE_PACKAGES}\n")
    (tmp_path / "clean.py").write_text(
        "import stepbus\n"
        "from stepbus import ArgumentError, StepEnd\n\n"
        "version: str = stepbus.__version__\n"
        "mistake: Exception = ArgumentError(version)\n\n"
        "def step_of(event: StepEnd) -> int:\n"
        "    return event.step\n"
    )
    (tmp_path / "broken.py").write_text(
        "import stepbus\n"
        "from stepbus import ArgumentError, StepEnd\n\n"
        "version: int = stepbus.__version__\n"
        "mistake: str = ArgumentError('x')\n"
        "bus = stepbus.EventBuss\n\n"
        "def step_of(event: StepEnd) -> str:\n"
        "    return event.step\n"
    )
    # What stepbus imports when it is used, torch and the trackers, takes mypy over a minute.
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nfollow_imports = skip\n[mypy-stepbus.*,pydantic.*]\nfollow_imports = normal\n"
    )
    python = environment / "bin" / "python"
    mypy = (sys.executable, "-m", "mypy", "--strict", "--python-executable", python)
    assert "no issues found in 1 source file" in run(*mypy, "clean.py", cwd=tmp_path)
    output = run(*mypy, "broken.py", cwd=tmp_path, ok=False)
    found = re.findall(r"^broken.py:(\d+): error: .*\[([a-z-]+)\]$", output, re.MULTILINE)
    assert found == [
        ("4", "assignment"),
        ("5", "assignment"),
        ("6", "attr-defined"),
        ("9", "return-value"),
    ], output


def lint_imports(checkout: Path, *, ok: bool) -> str:
    program = Path(sysconfig.get_path("scripts")) / "lint-imports"
    return run(program, "--no-cache", cwd=checkout, ok=ok, PYTHONPATH=str(checkout / "src"))


def test_the_layers_hold() -> None:
    output = lint_imports(ROOT, ok=True)
    contracts = PYPROJECT["tool"]["importlinter"]["contracts"]
    assert f"Contracts: {len(contracts)} kept, 0 broken." in output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "breach", "contract"),
    [
        ("bus/breach.py", "from ..engine import breach", "schemas <- bus"),
        ("schemas/breach.py", "from .. import bus", "schemas <- bus"),
        ("subscribers/breach.py", "import torch", "only the engine knows torch"),
        ("schemas/breach.py", "import anyio", "schemas know pydantic alone"),
        ("engine/breach.py", "import rich", "no sink and no screen"),
    ],
)
def test_a_breach_of_the_layers_is_caught(
    tmp_path: Path, file: str, breach: str, contract: str
) -> None:
    checkout = copy_of_checkout(tmp_path)
    (checkout / "engine" / "breach.py").write_text("")
    (checkout / file).write_text(f"{breach}\n")
    output = lint_imports(checkout, ok=False)
    assert re.search(rf"{contract}.* BROKEN", output), output


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_links_survive_a_clone(tmp_path: Path) -> None:
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    origin.mkdir()
    copy_of_checkout(origin)
    git = ("git", "-c", "user.name=test", "-c", "user.email=test@example.invalid")
    alone: dict[str, Any] = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    run(*git, "init", "--quiet", cwd=origin, **alone)
    run(*git, "add", "--all", cwd=origin, **alone)
    run(*git, "commit", "--quiet", "--message", "all", cwd=origin, **alone)
    run(*git, "clone", "--quiet", origin, clone, cwd=tmp_path, **alone)
    for room in ROOMS:
        assert (clone / "src" / "stepbus" / room).readlink() == Path(f"../../{room}")
        program = f"import stepbus.{room} as room; print(room.__file__)"
        output = run(sys.executable, "-c", program, cwd=tmp_path, PYTHONPATH=str(clone / "src"))
        assert Path(output.strip()).resolve() == clone / room / "__init__.py"


@pytest.mark.slow
def test_installed_package_knows_its_version(installed: Path, tmp_path: Path) -> None:
    program = "import stepbus; print(stepbus.__version__)"
    output = run(sys.executable, "-c", program, cwd=tmp_path, PYTHONPATH=str(installed))
    assert output == f"{VERSION}\n"


def test_every_subscriber_entry_point_exists() -> None:
    for name, target in PYPROJECT["project"]["entry-points"]["stepbus.subscribers"].items():
        module, attribute = target.split(":")
        assert hasattr(importlib.import_module(module), attribute), name


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    named = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in named}


def test_makefile_and_constraints_name_the_same_torch() -> None:
    found = re.search(r"^TORCH \?= (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found is not None
    assert found[1] == f"torch=={pins()['torch']}"


def test_constraints_pin_whatever_an_install_brings() -> None:
    project = PYPROJECT["project"]
    wanted = [
        *project["dependencies"],
        *(word for extra in ("demo", "dev") for word in project["optional-dependencies"][extra]),
    ]
    pinned, unpinned, seen = pins(), set(), set()
    queue = [Requirement(word) for word in wanted]
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        if name == "stepbus" or (name, *requirement.extras) in seen:
            continue
        seen.add((name, *requirement.extras))
        unpinned |= {name} - pinned.keys()
        queue += [
            nested
            for nested in map(Requirement, requires(name) or ())
            if nested.marker is None
            or any(nested.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras))
        ]
    # A CUDA build of torch brings its own libraries, which belong to it and not to stepbus.
    own = {name for name in unpinned if not name.startswith(("nvidia-", "cuda-", "triton"))}
    assert own == set()
