"""What MLflow has of texts, images, tables and files: read back through its own client."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from stepbus.schemas import Artifact
from stepbus.subscribers.trackers.mlflow_artifacts import log_artifact_to, place_of

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.mark.parametrize(
    ("kind", "tag", "media_type", "place"),
    [
        ("text", "sample", "text/plain", "sample/step-7/sample.txt"),
        ("image", "a/b c", "image/jpeg", "a/b c/step-7/b_c.jpg"),
        ("table", "../../up", "application/json", "up/step-7/up.json"),
        ("file", "configs/main.yaml", "text/plain", "configs/main.yaml/step-7/main.yaml.txt"),
    ],
)
def test_each_has_its_place(kind: str, tag: str, media_type: str, place: str) -> None:
    event = Artifact.model_validate({"kind": kind, "tag": tag, "media_type": media_type, "step": 7})
    assert place_of(event) == place


def test_their_bytes_and_cells_come_back(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.create_experiment("e", (tmp_path / "files").as_uri())
    run_id = client.create_run(experiment).info.run_id
    buffer = io.BytesIO()
    Image.new("RGB", (5, 4), (1, 2, 3)).save(buffer, "JPEG")
    config = tmp_path / "config.yaml"
    config.write_text("seed: 1")
    rows = ((1, "x", 0.5), (None, "y", True))
    events = [
        Artifact(kind="text", tag="t", media_type="text/plain", text="\u00e9\n", step=3),
        Artifact(kind="image", tag="i", media_type="image/jpeg", data=buffer.getvalue(), step=3),
        Artifact(
            kind="table",
            tag="rows",
            media_type="application/json",
            columns=("a", "b", "c"),
            rows=rows,
            step=3,
        ),
        Artifact(kind="file", tag="config.yaml", path=str(config), step=3),
    ]
    for event in [*events, *events]:
        log_artifact_to(client, run_id, event)
    back = tmp_path / "back"
    back.mkdir()
    folder = Path(client.download_artifacts(run_id, "", str(back)))
    for event in events:
        if event.kind != "table":
            assert (folder / place_of(event)).read_bytes() == event.read()
    table = json.loads((folder / place_of(events[2])).read_text())
    assert table == {"columns": ["a", "b", "c"], "data": [list(row) for row in rows]}
    shown = json.loads(client.get_run(run_id).data.tags["mlflow.loggedArtifacts"])
    assert shown == [{"path": place_of(events[2]), "type": "table"}]
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {place_of(event) for event in events}
