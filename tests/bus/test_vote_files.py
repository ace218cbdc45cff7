"""Votes as files: cast, answered in votes/done, and never a reason to fall over."""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stepbus.bus import EventBus
from stepbus.bus.testing import FakeClock, Recorder
from stepbus.bus.vote_files import VoteFiles, votes_folder, write_vote_file
from stepbus.schemas import ACTIONS, ArgumentError, TrainerState, Vote

MakeBus = Callable[..., EventBus]


class Posted:
    """Takes what the files ask for."""

    def __init__(self) -> None:
        self.votes: list[Vote] = []
        self.settles: list[Callable[[dict[str, Any]], None]] = []

    def __call__(self, vote: Vote, settle: Callable[[dict[str, Any]], None]) -> bool:
        self.votes.append(vote)
        self.settles.append(settle)
        return True


@pytest.fixture
def votes(tmp_path: Path) -> Path:
    folder = tmp_path / "votes"
    folder.mkdir()
    return folder


def put(path: Path, content: bytes, *, age_s: float = 60.0) -> None:
    path.write_bytes(content)
    then = path.stat().st_mtime - age_s
    os.utime(path, (then, then))


def test_a_vote_written_by_the_tool_is_cast_and_answered(tmp_path: Path) -> None:
    posted = Posted()
    files = VoteFiles(tmp_path, posted)
    files.look()
    vote = Vote("save", reason="before the cluster goes down", voter="ann")
    answer = write_vote_file(tmp_path, vote)
    assert not answer.exists()
    files.look()
    files.look()
    assert posted.votes == [vote]
    assert "verdict" not in json.loads(answer.read_text())
    posted.settles[0]({"outcome": "acted", "acted_at": 7, "detail": "checkpoint-7"})
    assert json.loads(answer.read_text()) == {
        "action": "save",
        "reason": "before the cluster goes down",
        "voter": "ann",
        "verdict": {"outcome": "acted", "acted_at": 7, "detail": "checkpoint-7"},
    }
    assert [path.name for path in votes_folder(tmp_path).iterdir()] == ["done"]


@pytest.mark.parametrize("action", ACTIONS)
def test_an_empty_file_named_after_an_action_is_a_vote(
    tmp_path: Path, votes: Path, action: str
) -> None:
    posted = Posted()
    (votes / action).touch()
    VoteFiles(tmp_path, posted).look()
    (vote,) = posted.votes
    assert (vote.action, vote.voter) == (action, f"file:{action}")
    assert not (votes / action).exists()
    posted.settles[0]({"outcome": "acted"})
    (answer,) = (votes / "done").glob(f"{action}-*.json")
    assert json.loads(answer.read_text())["verdict"] == {"outcome": "acted"}


def test_a_file_may_hold_reason_and_expiry_but_nothing_beyond_a_veto(
    tmp_path: Path, votes: Path
) -> None:
    posted = Posted()
    (votes / "stop").write_text('{"reason": "enough", "critical": true}')
    put(votes / "mine.json", b'{"action": "evaluate", "expires_after_steps": 5, "colour": "red"}')
    VoteFiles(tmp_path, posted).look()
    evaluate, stop = posted.votes
    assert (evaluate.expires_after_steps, evaluate.voter) == (5, "file:mine")
    assert (stop.reason, stop.critical) == ("enough", False)


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"{",
        b"[1, 2]",
        b'"save"',
        b"\xff\xfe\x00",
        b'{"action": "sav"}',
        b'{"reason": "no action"}',
        b'{"action": "save", "expires_after_s": -1}',
        b'{"action": ["save"]}',
        b"[" * 60_000,
        b" " * 70_000,
    ],
)
def test_garbage_is_refused_once_and_said_why(tmp_path: Path, votes: Path, garbage: bytes) -> None:
    posted = Posted()
    put(votes / "x.json", garbage)
    put(votes / "y.json", b'{"action": "save"}')
    files = VoteFiles(tmp_path, posted)
    files.look()
    assert [vote.action for vote in posted.votes] == ["save"]
    verdict = json.loads((votes / "done" / "x.json").read_text())["verdict"]
    assert verdict["outcome"] == "refused"
    assert verdict["detail"].startswith("not a vote: ")
    assert not (votes / "x.json").exists()


def test_a_file_that_is_being_written_is_looked_at_again(tmp_path: Path, votes: Path) -> None:
    posted = Posted()
    files = VoteFiles(tmp_path, posted)
    put(votes / "x.json", b'{"action": "sa', age_s=0.0)
    files.look()
    assert (votes / "x.json").exists()
    put(votes / "x.json", b'{"action": "save"}', age_s=0.0)
    files.look()
    assert [vote.action for vote in posted.votes] == ["save"]


def test_other_files_and_folders_are_left_alone(tmp_path: Path, votes: Path) -> None:
    posted = Posted()
    (votes / "readme.txt").write_text("hands off")
    (votes / ".hidden.json").write_text('{"action": "save"}')
    (votes / "folder.json").mkdir()
    VoteFiles(tmp_path, posted).look()
    assert posted.votes == []
    assert len(list(votes.iterdir())) == 3


def test_a_file_that_cannot_be_moved_away_casts_nothing(tmp_path: Path, votes: Path) -> None:
    (votes / "done").write_text("a file where the folder should be")
    put(votes / "save", b"")
    posted = Posted()
    VoteFiles(tmp_path, posted).look()
    assert posted.votes == []
    assert (votes / "save").exists()


def test_a_vote_for_a_run_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="no run folder"):
        write_vote_file(tmp_path / "nowhere", Vote("save"))
    (tmp_path / "votes").write_text("in the way")
    with pytest.raises(ArgumentError, match="cannot be written"):
        write_vote_file(tmp_path, Vote("save"))


def test_the_pump_looks_by_itself_a_second_later(
    make_bus: MakeBus, tmp_path: Path, votes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    bus = make_bus(clock=clock)
    cast = threading.Event()
    post = bus.channel.post

    def noted(*args: Any, **options: Any) -> bool:
        cast.set()
        return post(*args, **options)

    link = bus.open_run(TrainerState(), folder=tmp_path)
    assert bus.flush(10)
    monkeypatch.setattr(bus.channel, "post", noted)
    (votes / "save").touch()
    clock.advance(1.5)
    assert cast.wait(30)
    bus.close_run(link)


def test_a_flush_reads_the_votes_and_the_verdict_is_written(
    bus: EventBus, tmp_path: Path, votes: Path
) -> None:
    verdicts = Recorder()
    bus.subscribe("verdict")(verdicts)
    link = bus.open_run(TrainerState(), folder=tmp_path)
    assert bus.flush(10)
    (votes / "save").touch()
    assert bus.flush(10)
    outcome = link.votes.decide("save", 3)
    assert outcome is not None
    values = {"action": "save", "outcome": "acted", "votes": outcome.decision.votes, "acted_at": 3}
    link.emit("verdict", values, note=tuple(cast.settle for cast in outcome.casts if cast.settle))
    assert bus.flush(10)
    assert verdicts.kinds == ["verdict"]
    (answer,) = (votes / "done").iterdir()
    assert json.loads(answer.read_text())["verdict"] == {
        "action": "save",
        "outcome": "acted",
        "acted_at": 3,
        "seq": 0,
    }


def test_a_file_for_a_run_that_has_just_ended_is_answered_as_late(
    bus: EventBus, tmp_path: Path
) -> None:
    link = bus.open_run(TrainerState(), run_id="over", folder=tmp_path)
    bus.close_run(link)
    told: list[dict[str, Any]] = []
    assert not bus._post_file(Vote("save", voter="file"), "over", told.append)
    assert told[0]["outcome"] == "late"
