"""What a web hook is told of each event, which of them are one incident, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepbus import ArgumentError, NonFinite, RunFailed, WebhookCallback
from stepbus.subscribers.webhook.address import HookAddress
from stepbus.subscribers.webhook.incidents import Incidents
from stepbus.subscribers.webhook.message import KINDS, LONGEST, Run, message_of
from tests.subscribers.webhook.hook_server import HookServer

LiveRun = Callable[..., Any]


def test_a_stall_is_told_with_its_place_and_its_end_where_that_is_asked_for(
    live_run: LiveRun, hook: HookServer
) -> None:
    run = live_run(WebhookCallback(hook.url(), events=KINDS))
    run.emit("train_begin", 0, run_name="big", output_dir="/out", max_steps=9, model="Net")
    for silent_s in (61.0, 75.0):
        run.emit("stalled", 5, silent_s=silent_s, limit_s=60.0, stack="in all_reduce")
        run.emit("resumed", 6, silent_s=90.0)
    run.emit("train_end", 9, metrics={"train_loss": math.nan})
    run.finish()
    assert hook.kinds == ["started", "stalled", "resumed", "stalled", "resumed", "finished"]
    started, stalled, resumed, *_, finished = hook.taken
    assert started["text"] == "big has started at step 0 of 9: Net"
    assert stalled["text"] == "big stands still at step 5 of 9: no step has ended for 61 s"
    assert (stalled["silent_s"], stalled["stack"]) == (61.0, "in all_reduce")
    assert resumed["text"] == "big goes on at step 6 of 9, after it stood still for 90 s"
    assert finished["metrics"] == {"train_loss": "NaN"}


def test_two_runs_on_one_bus_are_told_apart(live_run: LiveRun, hook: HookServer) -> None:
    live = live_run(WebhookCallback(hook.url()), run_id="one")
    other = live.bus.open_run(live.state, run_id="two")
    for link, name in ((live.link, "first"), (other, "second")):
        link.emit("train_begin", {"run_name": name, "max_steps": 3})
    for link in (live.link, other):
        link.emit("non_finite", {"value": "loss", "number": math.nan, "at_step": 1})
    other.emit("run_failed", {"error": "OSError", "message": "no space", "traceback": ""})
    live.emit("train_end")
    live.finish()
    found = [(body["kind"], body["run_id"], body["run_name"]) for body in hook.taken]
    assert sorted(found) == [
        ("failed", "two", "second"),
        ("finished", "one", "first"),
        ("non_finite", "one", "first"),
        ("non_finite", "two", "second"),
    ]


def non_finite(at_s: float, value: str = "loss", in_a_row: int = 1) -> NonFinite:
    return NonFinite(
        value=value,  # type: ignore[arg-type]
        number=math.nan,
        at_step=1,
        in_a_row=in_a_row,
        monotonic=at_s,
    )


def test_an_incident_is_over_when_nothing_came_for_long() -> None:
    incidents = Incidents(10.0)
    assert incidents.is_new(non_finite(0.0))
    assert not incidents.is_new(non_finite(9.0))
    assert not incidents.is_new(non_finite(1000.0, in_a_row=512)), "it went on all the while"
    assert incidents.is_new(non_finite(1011.0))


def test_a_gradient_norm_is_no_incident_of_its_own_beside_the_loss() -> None:
    incidents = Incidents(10.0)
    assert incidents.is_new(non_finite(0.0))
    assert not incidents.is_new(non_finite(0.0, "grad_norm"))
    alone = Incidents(10.0)
    assert alone.is_new(non_finite(0.0, "grad_norm"))
    assert alone.is_new(non_finite(1.0)), "a loss that is not finite is worse"


def test_a_message_is_json_that_chats_take_whatever_the_exception_says() -> None:
    event = RunFailed(error="E", message="half \udcff " + "x" * 9_000, traceback="t" * 90_000)
    message = message_of(event, Run("r"))
    assert message is not None
    body = json.loads(message.body())
    assert len(body["text"]) == len(body["content"]) == LONGEST
    assert len(body["traceback"]) == 8_000
    assert body["error_message"].startswith("half \\udcff x")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"url": ""}, "url is empty"),
        ({"url": 3}, "url is int"),
        ({"url": "hooks.example.com/s3cr3t-path"}, "url has no scheme, and a web hook has https"),
        ({"url": "ftp://example.com/s3cr3t-path"}, "url has the scheme 'ftp'"),
        ({"url": "s3cr3t-path://x"}, "url has no scheme"),
        ({"url": "https://"}, "url has no host"),
        ({"url": "https:///s3cr3t-path"}, "url has no host"),
        ({"url": "https://a b.com/s3cr3t-path"}, "url has spaces"),
        ({"url": "https://a.com/s3cr3t-path\n"}, "url has spaces or characters"),
        ({"url": "https://a.com:s3cr3t-path/x"}, "a host or a port that cannot be read"),
        ({"url": "https://[s3cr3t-path/x"}, "a host or a port that cannot be read"),
        ({"events": ["fail"]}, "events has 'fail': did you mean 'failed'"),
        ({"events": "finish"}, "events has 'finish': did you mean 'finished'"),
        ({"timeout_s": 0}, "timeout_s=0"),
        ({"timeout_s": None}, "are numbers, not None"),
        ({"tries": 0}, "tries=0"),
        ({"same_incident_s": -1}, "same_incident_s=-1"),
        ({"headers": {"X Token": "s3cr3t-path"}}, "headers has the name 'X Token'"),
        ({"headers": {"X-Token": "s3cr3t-path\r\nHost: x"}}, "a value for 'X-Token' that is no"),
    ],
)
def test_what_makes_no_sense_is_refused_without_a_word_of_a_secret(
    given: dict[str, Any], said: str
) -> None:
    with pytest.raises(ArgumentError, match=said) as caught:
        WebhookCallback(**{"url": "https://example.com/s3cr3t-path", **given})
    assert "s3cr3t" not in str(caught.value)


def test_the_address_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STEPBUS_WEBHOOK_URL", raising=False)
    with pytest.raises(ArgumentError, match="give one, or set STEPBUS_WEBHOOK_URL"):
        WebhookCallback()
    monkeypatch.setenv("STEPBUS_WEBHOOK_URL", "https://example.com:8443/s3cr3t-path")
    callback = WebhookCallback()
    assert callback.address == "https://example.com:8443/***"
    assert callback.made_with()["url"] == "https://example.com:8443/s3cr3t-path"


WORD = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=6, max_size=20)


@given(path=st.lists(WORD, min_size=1, max_size=4), token=WORD, user=WORD, key=WORD)
def test_no_text_has_a_part_of_the_address_that_is_secret(
    path: list[str], token: str, user: str, key: str
) -> None:
    url = f"https://{user}:{token}@EXAMPLE.com/{'/'.join(path)}?x={token}#{key}"
    address = HookAddress(url, {"X-Key": f"Bearer {key}"})
    assert address.url == f"https://EXAMPLE.com/{'/'.join(path)}?x={token}"
    assert address.shown == "https://EXAMPLE.com/***"
    text = address.masked(f"{url} {address.url} {'!'.join([*path, token, user, key])}")
    for secret in (*path, token, user, key):
        assert secret not in text
