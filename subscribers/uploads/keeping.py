"""Which uploaded checkpoints stay at an address, and which is the newest."""

from __future__ import annotations

from .contents import step_of
from .marker import COMPLETE, MARKS, UPLOADING, Marker
from .remote_folder import RemoteFolder


def whole_uploads(remote: RemoteFolder) -> dict[str, Marker]:
    """The checkpoints whose upload is whole, oldest first, by the name of their folder."""
    found = {}
    for name in remote.names():
        if step_of(name) is not None:
            marker = remote.marker(name)
            if marker is not None:
                found[name] = marker
    return dict(sorted(found.items(), key=lambda item: (item[1].saved_at, step_of(item[0]))))


def newest_whole(remote: RemoteFolder) -> tuple[str, Marker] | None:
    """The checkpoint that was written last of those whose files are all there."""
    for name, marker in reversed(whole_uploads(remote).items()):
        sizes = remote.sizes(name)
        if all(sizes.get(file) == entry.size for file, entry in marker.files.items()):
            return name, marker
    return None


def delete_old(remote: RemoteFolder, keep: int, run_id: str) -> list[str]:
    """Deletes the oldest whole uploads of a run until `keep` are left; which these were.

    The newest of those that were the best stays as well. Halves of the run that are older than
    these, left by an upload or a deletion that was cut off, go too. What other runs uploaded
    is not touched.
    """
    wholes = {n: m for n, m in whole_uploads(remote).items() if m.run_id == run_id}
    best = [name for name, marker in wholes.items() if marker.best][-1:]
    newest = list(wholes)[-keep:]
    if not newest:
        return []
    oldest_s = wholes[newest[0]].saved_at
    surplus = [name for name in wholes if name not in (*newest, *best)]
    for name in surplus:
        # From here on it is a half, whatever happens.
        remote.write(wholes[name].to_json(), name, UPLOADING)
        remote.delete(name, COMPLETE)
        _delete_files(remote, name)
    for name in remote.names():
        if step_of(name) is None or name in wholes:
            continue
        whole, half = remote.marks(name)
        own = whole is None and half is not None and half.run_id == run_id
        if own and half is not None and half.saved_at < oldest_s:
            _delete_files(remote, name)
    return surplus


def _delete_files(remote: RemoteFolder, name: str) -> None:
    for file in sorted(remote.sizes(name).keys() - MARKS):
        remote.delete(name, file)
    remote.delete(name, UPLOADING)
    remote.delete_folder(name)
