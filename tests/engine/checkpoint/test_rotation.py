from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepbus.engine.checkpoint import list_checkpoints, rotate, write_checkpoint
from stepbus.engine.checkpoint.rotation import Rotation


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("template"), 0, states={})


def make(root: Path, template: Path, steps: list[int]) -> None:
    shutil.rmtree(root, ignore_errors=True)
    for step in steps:
        shutil.copytree(template, root / f"checkpoint-{step}", copy_function=os.link)


def steps_in(root: Path) -> list[int]:
    return [int(path.name.removeprefix("checkpoint-")) for path in list_checkpoints(root)]


@pytest.mark.parametrize(
    ("limit", "best", "left"),
    [
        (None, None, [1, 2, 3, 10]),
        (0, None, [1, 2, 3, 10]),
        (9, None, [1, 2, 3, 10]),
        (2, None, [3, 10]),
        (1, None, [10]),
        (2, 1, [1, 10]),
        (1, 1, [1, 10]),
        (1, 10, [10]),
        (3, 1, [1, 3, 10]),
        (3, 3, [2, 3, 10]),
    ],
)
def test_the_reference_rule(
    tmp_path: Path, template: Path, limit: int | None, best: int | None, left: list[int]
) -> None:
    make(tmp_path / "out", template, [10, 3, 2, 1])
    protected = [tmp_path / "out" / f"checkpoint-{best}"] if best is not None else []
    done = rotate(tmp_path / "out", limit, protected=protected)
    assert steps_in(tmp_path / "out") == left
    assert [path.name for path in done.deleted] == [
        f"checkpoint-{step}" for step in (1, 2, 3, 10) if step not in left
    ]
    assert (done.deferred, done.failed) == ((), ())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        f"checkpoint-{step}" for step in left
    )


STEPS = st.lists(st.integers(0, 30), max_size=7, unique=True)


@given(
    steps=STEPS,
    limit=st.one_of(st.none(), st.integers(0, 8)),
    best=st.sets(st.integers(0, 30), max_size=2),
    held=st.sets(st.integers(0, 30), max_size=4),
)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_leases_only_put_deletions_off(
    tmp_path: Path,
    template: Path,
    steps: list[int],
    limit: int | None,
    best: set[int],
    held: set[int],
) -> None:
    root = tmp_path / "out"
    protected = [root / f"checkpoint-{step}" for step in best]

    make(root, template, steps)
    rotate(root, limit, protected=protected)
    without_leases = steps_in(root)

    make(root, template, steps)
    done = rotate(root, limit, protected=protected, leased=lambda path: int(path.name[11:]) in held)
    left = set(steps_in(root))
    assert left == set(without_leases) | (set(steps) & held)
    assert {int(path.name[11:]) for path in done.deferred} == left - set(without_leases)
    assert {int(path.name[11:]) for path in done.deleted} == set(steps) - left
    assert (best & set(steps)) <= left
    assert not steps or max(steps) in left

    rotate(root, limit, protected=protected)
    assert steps_in(root) == without_leases


def test_folders_that_are_no_whole_checkpoint_neither_count_nor_go(
    tmp_path: Path, template: Path
) -> None:
    make(tmp_path, template, [1, 2])
    (tmp_path / "checkpoint-0").mkdir()
    (tmp_path / "checkpoint-99").mkdir()
    (tmp_path / "checkpoint-99" / "optimizer.pt").write_text("of another program")
    assert [path.name for path in rotate(tmp_path, 1).deleted] == ["checkpoint-1"]
    assert {path.name for path in tmp_path.iterdir()} == {
        "checkpoint-0",
        "checkpoint-2",
        "checkpoint-99",
    }


def test_the_best_checkpoint_is_known_by_any_spelling_of_its_path(
    tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "out", template, [1, 2, 3])
    monkeypatch.chdir(tmp_path)
    rotate("out", 1, protected=["out/../out/checkpoint-1"])
    assert steps_in(tmp_path / "out") == [1, 3]


def test_one_that_cannot_be_moved_is_reported_and_the_others_go(
    tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, template, [1, 2, 3])
    rename = Path.rename

    def fail_for_first(self: Path, target: Path) -> Path:
        if self.name == "checkpoint-1":
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_first)
    done = rotate(tmp_path, 1)
    assert [path.name for path in done.deleted] == ["checkpoint-2"]
    assert [(path.name, error.errno) for path, error in done.failed] == [("checkpoint-1", 13)]


def test_a_deletion_cut_off_leaves_nothing_that_looks_like_a_checkpoint(
    tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, template, [1, 2])

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rotate(tmp_path, 1)
    assert steps_in(tmp_path) == [2]
    assert not (tmp_path / "checkpoint-1").exists()


def test_an_output_folder_that_does_not_exist_has_nothing_to_rotate(tmp_path: Path) -> None:
    assert rotate(tmp_path / "nothing", 1) == Rotation()
