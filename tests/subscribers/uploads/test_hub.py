"""Checkpoints of a real run in a repository of the Hub: each in one commit, resumed, and kept."""

from __future__ import annotations

import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from stepbus import ArgumentError, DeliveryError, HubCallback
from tests.subscribers.uploads.conftest import local_files
from tests.subscribers.uploads.hub_server import OWNER, Asked, HubServer
from tests.subscribers.uploads.training import train

pytestmark = pytest.mark.slow

MODEL = ("model.safetensors", "training_args.json")


def model_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in MODEL}


def test_each_save_is_one_commit_with_the_bytes_of_the_checkpoint(
    tmp_path: Path, hub: HubServer
) -> None:
    out = tmp_path / "out"
    callback = HubCallback("model", strategy="checkpoint", always_push=True)
    summary = train(out, callback)
    row = summary.ledger["HubCallback"]
    assert (row.delivery, row.failures, row.handled) == ("process", 0, row.accepted)
    commits = hub.commits("model")
    assert [c.message for c in commits] == [f"Training in progress, step {n}" for n in (1, 2, 3)]
    for step, commit in enumerate(commits, 1):
        there = {path: blob.content for path, blob in commit.files.items()}
        del there[".gitattributes"]
        local = out / f"checkpoint-{step}"
        last = {f"last-checkpoint/{name}": data for name, data in local_files(local).items()}
        assert there == model_of(local) | last
    assert callback.latest == f"{hub.url}/{OWNER}/model/commit/{commits[-1].oid}"
    fetched = tmp_path / "fetched" / "last-checkpoint"
    for name, content in hub.files("model", under="last-checkpoint/").items():
        (fetched / name).parent.mkdir(parents=True, exist_ok=True)
        (fetched / name).write_bytes(content)
    resumed = train(tmp_path / "again", None, max_steps=4, resume_from_checkpoint=str(fetched))
    assert resumed.global_step == 4


def test_saves_that_come_while_one_is_pushed_give_way_to_the_newest(
    tmp_path: Path, hub: HubServer
) -> None:
    out, release, reached = tmp_path / "out", threading.Event(), threading.Event()

    def hold(asked: Asked) -> None:
        if asked.method == "PUT" and not release.is_set():
            reached.set()
            assert release.wait(60)

    def in_step(step: int) -> None:
        if step == 2:
            assert reached.wait(60)
        if step == 5:
            # The one that is pushed stays whatever save_total_limit says, and so do those behind.
            assert all((out / f"checkpoint-{n}").is_dir() for n in (1, 2, 3, 4))
            release.set()

    hub.before = hold
    summary = train(out, HubCallback("model"), max_steps=5, save_total_limit=1, in_step=in_step)
    row = summary.ledger["HubCallback"]
    assert (row.failures, row.handled) == (0, row.accepted)
    assert [Path(path).name for path in summary.checkpoints] == ["checkpoint-5"]
    steps = [int(commit.message.rpartition(" ")[2]) for commit in hub.commits("model")]
    assert steps in ([1, 5], [1, 4, 5]), "the fourth, where it was the newest when its turn came"
    assert hub.files("model") == model_of(out / "checkpoint-5")


def test_all_checkpoints_are_there_whole_and_keep_rotates_in_the_same_commit(
    tmp_path: Path, hub: HubServer
) -> None:
    out = tmp_path / "out"
    originals: dict[str, dict[str, bytes]] = {}

    def in_step(step: int) -> None:
        for folder in out.glob("checkpoint-*"):
            originals.setdefault(folder.name, local_files(folder))

    callback = HubCallback("model", strategy="all_checkpoints", keep=2, max_mb_per_s=50)
    train(out, callback, max_steps=4, in_step=in_step)
    in_step(5)
    for at, commit in enumerate(hub.commits("model"), 1):
        names = {path.partition("/")[0] for path in commit.files if "/" in path}
        assert names == {f"checkpoint-{n}" for n in (at - 1, at) if n}
        for name in names:
            start = f"{name}/"
            there = {p.removeprefix(start): b for p, b in commit.files.items() if start in p}
            assert {path: blob.content for path, blob in there.items()} == originals[name]
    # Another run there keeps its own; a branch of its own would keep this one's apart.
    train(tmp_path / "other", callback_again(), max_steps=1)
    head = {path.partition("/")[0] for path in hub.files("model") if "/" in path}
    assert head == {"checkpoint-1", "checkpoint-3", "checkpoint-4"}


def callback_again() -> HubCallback:
    return HubCallback("model", strategy="all_checkpoints", keep=1)


def test_a_server_that_dies_in_mid_upload_and_comes_back_gets_all_of_it(
    tmp_path: Path, hub: HubServer
) -> None:
    out, died = tmp_path / "out", threading.Event()

    def die(asked: Asked) -> None:
        if not died.is_set() and asked.method == "PUT" and len(hub.commits("model")) == 1:
            died.set()
            hub.stop()
            threading.Timer(0.5, hub.start).start()
            raise ConnectionResetError

    def in_step(step: int) -> None:
        if step == 3:
            assert died.wait(60)

    hub.before = die
    summary = train(out, HubCallback("model", strategy="all_checkpoints"), in_step=in_step)
    assert died.is_set()
    assert not summary.ledger["HubCallback"].failures
    assert [c.message for c in hub.commits("model")] == [
        f"Training in progress, step {n}" for n in (1, 2, 3)
    ]
    for step in (1, 2, 3):
        local = local_files(out / f"checkpoint-{step}")
        assert hub.files("model", under=f"checkpoint-{step}/") == local


def test_a_commit_whose_answer_is_lost_is_not_made_twice(tmp_path: Path, hub: HubServer) -> None:
    lost = threading.Event()

    def lose(asked: Asked) -> None:
        if asked.path.endswith("/commit/main") and not lost.is_set():
            lost.set()
            hub.loses_answers = 1

    hub.before = lose
    summary = train(tmp_path / "out", HubCallback("model", always_push=True), max_steps=2)
    assert lost.is_set()
    assert not summary.ledger["HubCallback"].failures
    messages = [commit.message for commit in hub.commits("model")]
    assert messages == ["Training in progress, step 1", "Training in progress, step 2"]


def test_a_server_that_never_answers_keeps_nobody_beyond_the_deadline(
    tmp_path: Path, hub: HubServer, caplog: pytest.LogCaptureFixture
) -> None:
    out, hung = tmp_path / "out", threading.Event()

    def hang(asked: Asked) -> None:
        if asked.path.endswith("/commit/main") and len(hub.commits("model")) == 1:
            hung.wait(60)
            raise ConnectionResetError

    hub.before = hang
    callback = HubCallback("model", strategy="all_checkpoints")
    try:
        summary = train(out, callback, drain_timeout_s=2)
    finally:
        hung.set()
    assert summary.status == "finished"
    said = caplog.text
    address = f"{hub.url}/{OWNER}/model"
    assert f"HubCallback: not uploaded to {address}: checkpoint-2, checkpoint-3. A run" in said
    assert "is killed" not in said
    assert set(hub.files("model", under="checkpoint-2/")) == set(), "all of it or none"
    hub.before = lambda asked: None
    stored = set(hub.stored)
    hub.requests.clear()
    train(
        out,
        HubCallback("model", strategy="all_checkpoints"),
        max_steps=4,
        resume_from_checkpoint=True,
    )
    for step in (1, 2, 3, 4):
        local = local_files(out / f"checkpoint-{step}")
        assert hub.files("model", under=f"checkpoint-{step}/") == local
    assert not set(hub.sent()) & stored, "what had arrived is not sent again"


def test_without_an_answer_at_all_the_run_does_not_start(
    tmp_path: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung, steps = threading.Event(), list[int]()

    def hang(asked: Asked) -> None:
        hung.wait(60)
        raise ConnectionResetError

    monkeypatch.setattr("stepbus.subscribers.uploads.hub_repository.OPEN_WITHIN_S", 0.5)
    hub.before = hang
    try:
        with pytest.raises(DeliveryError, match=r"cannot be written .TimeoutError"):
            HubCallback("model").connect()
    finally:
        hung.set()
    hub.before = lambda asked: None
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(DeliveryError, match=r"'model' .* cannot be written .*Invalid username"):
        train(tmp_path / "out", HubCallback("model"), in_step=steps.append)
    assert not steps


def test_what_the_hub_refuses_is_not_asked_for_again_at_once(
    tmp_path: Path, hub: HubServer, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    hub.refuses = "/commit/main"
    callback = HubCallback("model")
    summary = train(out, callback, max_steps=1)
    assert summary.status == "finished"
    assert "not today" in caplog.text
    assert "HubCallback: not uploaded to" in caplog.text
    asked = [asked for asked in hub.requests if asked.path.endswith(hub.refuses)]
    assert len(asked) == 2, "after the save, and at the end"
    (out / "note.txt").write_text("to be pushed")
    with pytest.raises(import_module("huggingface_hub.errors").HfHubHTTPError, match="not today"):
        callback.push(out, "a message")


def test_what_lies_beside_the_checkpoints_goes_too_and_nothing_hidden(
    tmp_path: Path, hub: HubServer
) -> None:
    out = tmp_path / "out"
    for name in ("note.txt", "runs/events.out.tfevents.1", ".env", "_mine/x", "wandb/run/secret"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(name)
    train(out, HubCallback("model", strategy="end"), max_steps=2, push_to_hub=True)
    assert list(hub.repositories) == [f"{OWNER}/model"], "the one that is given is the only one"
    (commit,) = hub.commits("model")
    assert commit.message == "Training in progress, step 2"
    beside = {name: name.encode() for name in ("note.txt", "runs/events.out.tfevents.1")}
    assert hub.files("model") == model_of(out / "checkpoint-2") | beside


def test_a_run_of_ones_own_loop_pushes_by_its_arguments(tmp_path: Path, hub: HubServer) -> None:
    seen: list[Any] = []
    summary = train(
        tmp_path / "a-name",
        None,
        max_steps=2,
        push_to_hub=True,
        hub_always_push=True,
        on_run=lambda run: run.bus.subscribe("push_begin", "save")(
            lambda event: seen.append((event.name, getattr(event, "repository", "")))
        ),
    )
    assert not summary.ledger["HubCallback"].failures
    assert len(hub.commits("a-name")) == 2
    assert seen == [("push_begin", "a-name"), ("save", "")] * 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"repository": "a/b/c"}, "'a/b/c' cannot be: it should be a name or owner/name"),
        ({"repository": "my model"}, "'my model' cannot be: it should have letters"),
        ({"strategy": "often"}, "strategy='often'"),
        ({"keep": 2}, "keep=2 with strategy='every_save'"),
        ({"keep": 0, "strategy": "all_checkpoints"}, "keep=0"),
        ({"max_mb_per_s": 0}, "max_mb_per_s=0"),
        ({"tries": 0}, "tries=0"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        HubCallback(**{"repository": "model", **arguments})
