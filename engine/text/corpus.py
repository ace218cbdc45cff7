"""Where the characters come from, and how they become ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ...schemas.errors import CheckpointError, DataError

UTF8_BOM = b"\xef\xbb\xbf"


def python_help_text() -> str:
    """The English text behind Python's ``help()``: about 465,000 characters, no download.

    It is the same on every machine for one version of Python. Raises DataError where Python was
    installed without it.
    """
    try:
        from pydoc_data.topics import topics  # about 0.7 MB, read only when asked for
    except ImportError as error:
        raise DataError(
            "This Python was installed without its help text (pydoc_data.topics); "
            "train on text files of your own instead."
        ) from error
    return "\n\n".join(topics[name] for name in sorted(topics))


def read_files(paths: Sequence[str | PathLike[str]]) -> str:
    """The text of UTF-8 files, in the order given, with a line break between two of them.

    A byte order mark is dropped and Windows line ends become ``\\n``. Raises DataError, naming the
    file, for one that is missing, a directory, unreadable, empty, binary or not UTF-8.
    """
    if not paths:
        raise DataError("No text file was given; name at least one UTF-8 file.")
    return "\n".join(_read_file(Path(path)) for path in paths)


def _read_file(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"There is no file {path}; check the name and the folder.") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a directory; name the text files in it.") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{path} cannot be read ({reason}); check its permissions.") from error
    body = data.removeprefix(UTF8_BOM)
    if not body.strip():
        raise DataError(f"{path} is empty ({len(data)} bytes); name a file that holds text.")
    bom_size = len(data) - len(body)
    nul = body.find(0)
    if nul >= 0:
        raise DataError(
            f"{path} is binary or UTF-16: NUL byte at offset {nul + bom_size}. "
            "Name a text file, or save this one as UTF-8."
        )
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8: byte 0x{body[error.start]:02x} at offset "
            f"{error.start + bom_size}. Save it as UTF-8 "
            f"(for instance: iconv -f latin1 -t utf-8 {path.name} > utf8.txt)."
        ) from None
    return text.replace("\r\n", "\n")


class Vocabulary:
    """The distinct characters of a text, sorted; a character's id is its place among them."""

    def __init__(self, text: str) -> None:
        self.characters = "".join(sorted(set(text)))
        self._code_points = _code_points(self.characters)

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str, *, replace_unknown: bool = False) -> Tensor:
        """The ids of ``text``: int32, one for each character.

        A character that the vocabulary lacks raises DataError with its position; with
        ``replace_unknown`` it becomes a space, or id 0 where there is no space either.
        """
        wanted = _code_points(text)
        ids = np.searchsorted(self._code_points, wanted)
        in_range = np.minimum(ids, max(len(self) - 1, 0))
        known = self._code_points[in_range] == wanted if len(self) else np.zeros(len(text), bool)
        if not known.all() and not replace_unknown:
            position = int(np.argmin(known))
            raise DataError(
                f"The character {text[position]!r} at position {position} does not occur in the "
                f"training text ({len(self)} different characters); leave it out."
            )
        stand_in = max(self.characters.find(" "), 0)
        return torch.from_numpy(np.where(known, ids, stand_in).astype(np.int32))

    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """The text that ``ids`` stand for; undoes :meth:`encode`."""
        numbers = ids.tolist() if isinstance(ids, Tensor) else ids
        return "".join(self.characters[number] for number in numbers)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, in plain JSON values."""
        return {"characters": self.characters}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a checkpoint's characters where there are none yet; otherwise check that they agree.

        Raises CheckpointError where they differ: the ids would stand for other characters.
        """
        saved = state.get("characters")
        if not isinstance(saved, str) or saved != "".join(sorted(set(saved))):
            raise CheckpointError(
                f"The checkpoint's vocabulary is damaged ({str(saved)[:40]!r}); "
                "resume from another checkpoint."
            )
        if self.characters and self.characters != saved:
            differing = "".join(sorted(set(self.characters) ^ set(saved)))
            raise CheckpointError(
                f"The checkpoint knows {len(saved)} characters and this text has {len(self)}; they "
                f"differ in {differing[:20]!r}. Resume with the text that the checkpoint was "
                "trained on, or start anew in another folder."
            )
        self.characters = saved
        self._code_points = _code_points(saved)


def _code_points(text: str) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    # surrogatepass: command line arguments may hold lone surrogates.
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


@dataclass(frozen=True)
class Corpus:
    """A text as ids (int32, one dimension), its last tenth held out for evaluation."""

    vocabulary: Vocabulary
    train_ids: Tensor
    heldout_ids: Tensor

    @classmethod
    def split(cls, text: str, block_size: int) -> Self:
        """Hold out the last tenth of ``text``; the vocabulary covers all of it.

        Raises DataError where either part is shorter than one block: ``block_size`` characters
        and the one that follows them.
        """
        needed = block_size + 1
        num_heldout = len(text) // 10
        if num_heldout < needed:
            raise DataError(
                f"The text has {len(text)} characters, {num_heldout} of them (the last tenth) held "
                f"out, and a block takes {needed}; give at least {10 * needed} characters "
                "or a smaller block size."
            )
        vocabulary = Vocabulary(text)
        ids = vocabulary.encode(text)
        return cls(vocabulary, ids[:-num_heldout], ids[-num_heldout:])
