"""What the pages say is so: every block runs, every link leads somewhere, every command exists."""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DEADLINE_S = 100

# Runs the blocks of a page in one namespace; a traceback shows the page and its own line numbers.
RUNNER = """
import json, sys
page, blocks = json.load(sys.stdin)
sys.argv = [page]
namespace = {"__name__": "__main__"}
for line, code in blocks:
    exec(compile("\\n" * line + code, page, "exec"), namespace)
"""

FENCE = re.compile(r"^( *)```(\S*)\s*$")
NOTE = re.compile(r"^ *<!-- (fragment|output)(?:: *(.*?))? *-->\s*$")
LINK = re.compile(r"\]\(([^)\s]+)\)")
FILE = re.compile(
    r"`((?:examples|docs|bus|engine|schemas|subscribers|tests|benchmarks|src)/[\w./-]+)`"
)
FOREIGN = re.compile(r"[a-z]+:|#")


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    code: str
    line: int
    """Of the fence, from 1."""
    note: str
    """`fragment`, `output`, or nothing."""
    why: str


def blocks_of(page: Path) -> list[Block]:
    found = []
    lines = page.read_text(encoding="utf-8").splitlines()
    number = 0
    note, why = "", ""
    while number < len(lines):
        fence = FENCE.match(lines[number])
        if fence is None:
            said = NOTE.match(lines[number])
            if said is not None:
                note, why = said[1], said[2] or ""
            elif lines[number].strip():
                note, why = "", ""
            number += 1
            continue
        indent, language = fence[1], fence[2]
        end = number + 1
        while lines[end].rstrip() != f"{indent}```":
            end += 1
        code = "\n".join(line.removeprefix(indent) for line in lines[number + 1 : end]) + "\n"
        found.append(Block(language, code, number + 1, note, why))
        note, why = "", ""
        number = end + 1
    return found


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def run(command: list[str], cwd: Path, text: str = "") -> str:
    """What a program printed to its standard output; it must end well, and on time."""
    environ = {k: v for k, v in os.environ.items() if k != "STEPBUS_REPORT_TO"}
    path = f"{ROOT / 'src'}{os.pathsep}{ROOT / 'examples'}"
    environ |= {"PYTHONPATH": path, "TMPDIR": str(cwd), "PYTHONDONTWRITEBYTECODE": "1"}
    environ |= {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    shown = shlex.join(word if len(word) < 60 else "..." for word in command)
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environ,
            input=text,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        pytest.fail(f"{shown} took over {DEADLINE_S} s:\n{late.output!r}\n{late.stderr!r}")
    if done.returncode != 0:
        pytest.fail(f"{shown} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def pages_with(language: str) -> list[Path]:
    return [page for page in PAGES if any(b.language == language for b in blocks_of(page))]


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with("python"), ids=name_of)
def test_python_blocks_run_and_print_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    blocks = [b for b in blocks_of(page) if b.language == "python" and b.note != "fragment"]
    script = json.dumps([name_of(page), [[block.line, block.code] for block in blocks]])
    printed = run([sys.executable, "-c", RUNNER], tmp_path, script)
    for block in blocks_of(page):
        if block.note == "output":
            assert block.code in printed, (
                f"{name_of(page)}:{block.line} shows\n{block.code}\nand the page printed\n{printed}"
            )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_fragments_say_why_and_compile(page: Path) -> None:
    for block in blocks_of(page):
        if block.language == "python":
            compile("\n" * block.line + block.code, name_of(page), "exec")
        if block.note == "fragment":
            assert block.language == "python", f"{name_of(page)}:{block.line} is not Python"
            assert len(block.why.split()) > 2, f"{name_of(page)}:{block.line} does not say why"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_name_their_language(page: Path) -> None:
    known = {"python", "console", "sh", "text", "yaml", "json", "toml"}
    unknown = [f"line {b.line}: {b.language!r}" for b in blocks_of(page) if b.language not in known]
    assert not unknown, f"{name_of(page)}, {', '.join(unknown)}: give one of {sorted(known)}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_named_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    broken = []
    for target in LINK.findall(text):
        if FOREIGN.match(target) and not target.startswith("#"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists():
            broken.append(target)
        elif anchor and anchor not in anchors_of(file):
            broken.append(f"{target} (headings: {', '.join(sorted(anchors_of(file)))})")
    broken += [name for name in FILE.findall(text) if not (ROOT / name).exists()]
    assert not broken, f"{name_of(page)} names what is not there: {'; '.join(broken)}"


@functools.cache
def anchors_of(page: Path) -> frozenset[str]:
    text = re.sub(
        r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    titles = re.findall(r"^#+ +(.+?) *$", text, flags=re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles)


def test_the_index_lists_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    listed = {path for path in LINK.findall(index) if path.endswith(".md") and "/" not in path}
    assert listed == {page.name for page in PAGES[1:]} - {"README.md"}


def commands_of(page: Path) -> Iterator[tuple[int, list[str]]]:
    """The commands of stepbus that a page tells people to type, with their lines."""
    for block in blocks_of(page):
        if block.language not in ("console", "sh"):
            continue
        lines = block.code.replace("\\\n", " ").splitlines()
        for number, line in enumerate(lines, start=block.line + 1):
            if block.language == "console":
                if not line.startswith("$ "):
                    continue
                line = line.removeprefix("$ ")
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                del words[0]
            if words[:1] and Path(words[0]).name == "stepbus":
                yield number, words[1:]
            elif words[1:3] == ["-m", "stepbus"]:
                yield number, words[3:]


@functools.cache
def help_of(*subcommand: str) -> str:
    return run([sys.executable, "-m", "stepbus", *subcommand, "--help"], ROOT)


def has_word(word: str, text: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) is not None


COMMANDS = [
    pytest.param(words, id=f"{name_of(page)}:{line}")
    for page in PAGES
    for line, words in commands_of(page)
]


@pytest.mark.slow
@pytest.mark.parametrize("words", COMMANDS)
def test_commands_are_real(words: list[str]) -> None:
    if not words or words[0].startswith("-"):
        subcommand, flags = [], words
    else:
        subcommand, flags = words[:1], words[1:]
        assert has_word(words[0], help_of()), f"`stepbus --help` knows no {words[0]!r}"
    known = help_of(*subcommand)
    for word in flags:
        flag = word.partition("=")[0]
        if flag.startswith("-") and not re.fullmatch(r"-\d.*", flag):
            assert has_word(flag, known), f"`stepbus {words[0]} --help` knows no {flag!r}:\n{known}"


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with("yaml"), ids=name_of)
def test_yaml_blocks_are_configurations(page: Path, tmp_path: Path) -> None:
    for block in blocks_of(page):
        if block.language == "yaml":
            config = tmp_path / "config.yaml"
            config.write_text(block.code, encoding="utf-8")
            command = [sys.executable, "-m", "stepbus", "train"]
            printed = run([*command, "--config", str(config), "--print-config"], tmp_path)
            for name in yaml.safe_load(block.code):
                assert re.search(rf"^{name}: ", printed, flags=re.MULTILINE), (
                    f"{name} in\n{printed}"
                )
