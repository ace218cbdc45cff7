"""Who is measured is found by name; what cannot be measured is one clear error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stepbus import EventBus
from stepbus.cli import main
from stepbus.cli.bench.subject import Subject, refusals

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def measured_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where `stepbus bench` is run."""
    monkeypatch.syspath_prepend(str(HERE))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "Nothing was named"),
        ("--subscriber measured:Light --callback measured:Callback", "both given"),
        ("--subscriber measured", "'measured' is no module:name, such as my_loggers:CSVLogger"),
        ("--subscriber nowhere.at_all:Light", "There is no module 'nowhere'"),
        ("--subscriber measured:Ligth", "measured has no 'Ligth': did you mean 'Light'?"),
        ("--subscriber measured:NUMBER", "measured:NUMBER is 3: name a Subscriber"),
        ("--subscriber measured:Callback", "is a TrainerCallback: give it as --callback"),
        ("--callback measured:Light", "give it as --subscriber"),
        ("--callback measured:Empty", "nothing would be called"),
        ("--subscriber measured:function", "say what it takes, --event log"),
        ("--subscriber measured:Light --event log", "leave --event out"),
        ("--subscriber measured:Light --kwargs 3", "give an object"),
        ("--subscriber measured:Light --kwargs {", "is no JSON"),
        ('--subscriber measured:Light --kwargs {"a":1}', "cannot be made with the arguments"),
        ('--subscriber measured:function --event log --kwargs {"a":1}', "is no class"),
        ("--subscriber measured:Light --step-ms 0", "--step-ms 0: give a number from 0.05"),
        ("--subscriber measured:Light --max-ratio x", "--max-ratio x: give a number"),
        ("--subscriber measured:Light --delivery loop", "--delivery loop: give one of inline"),
        ("--subscriber measured:Asynchronous --delivery inline", "cannot run inline"),
        ("--subscriber measured:broken --event log", "must take exactly one argument"),
        ("--subscriber measured:function --event lgo", "did you mean 'log'?"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_measured(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words.split()]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_a_module_that_cannot_be_imported_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "falls_over.py").write_text("import no_such_package\n")
    assert main(["bench", "--subscriber", "falls_over:Light"]) == 2
    assert (
        "The module falls_over cannot be imported (ModuleNotFoundError" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("target", "kind", "more", "usual"),
    [
        ("measured:Light", "subscriber", {}, "thread"),
        ("measured:Callback", "callback", {}, "inline"),
        ("measured:function", "subscriber", {"event": "log"}, "thread"),
    ],
)
def test_where_it_runs_if_nobody_says_otherwise(
    target: str, kind: Any, more: dict[str, Any], usual: str
) -> None:
    subject = Subject(target, kind, **more)
    assert subject.usual(subject.make()) == usual
    assert not {"inline", "thread"} & refusals(subject).keys()


def test_an_async_subscriber_is_measured_on_the_loop_and_not_inline() -> None:
    subject = Subject("measured:Asynchronous", "subscriber")
    assert "is async" in refusals(subject)["inline"]
    assert "thread" not in refusals(subject)
    bus = EventBus()
    subject.subscribe(bus, "thread")
    assert [row.delivery for row in bus.ledger] == ["loop"]
