from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepbus.engine.text import Corpus, Vocabulary, python_help_text, read_files
from stepbus.schemas.errors import CheckpointError, DataError


def test_help_text_is_long_english_and_in_sorted_order() -> None:
    text = python_help_text()
    assert len(text) > 300_000
    assert text.index('The "assert" statement') < text.index("Yield expressions")


@pytest.mark.slow
def test_help_text_is_the_same_in_another_process() -> None:
    program = (
        "import hashlib; from stepbus.engine.text import python_help_text;"
        "print(hashlib.sha256(python_help_text().encode()).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == hashlib.sha256(python_help_text().encode()).hexdigest()


def test_help_text_missing_from_python_is_a_data_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(DataError, match="files of your own"):
        python_help_text()


def test_files_are_joined_in_the_order_given(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"\xef\xbb\xbfbe\r\n")
    (tmp_path / "a").write_text("\u00e4\n", encoding="utf-8")
    assert read_files([tmp_path / "b", str(tmp_path / "a")]) == "be\n\n\u00e4\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"\xef\xbb\xbf \n", r"is empty \(5 bytes\)"),
        (b"\x7fELF\x00\x01", "NUL byte at offset 4"),
        (b"\xef\xbb\xbfab\x00", "NUL byte at offset 5"),
        ("text".encode("utf-16"), "binary or UTF-16: NUL byte at offset 3"),
        (b"caf\xe9 noir", "byte 0xe9 at offset 3"),
        (b"\xef\xbb\xbfcaf\xe9 noir", "byte 0xe9 at offset 6"),
        (b"cut off \xe2\x82", "byte 0xe2 at offset 8"),
    ],
)
def test_bad_file_is_named_with_the_offset(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "input.txt"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        read_files([path])
    assert str(path) in str(caught.value)


def test_missing_file_directory_and_no_file_are_data_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no file .*nowhere\.txt"):
        read_files([tmp_path / "nowhere.txt"])
    with pytest.raises(DataError, match=r"is a directory"):
        read_files([tmp_path])
    with pytest.raises(DataError, match="at least one"):
        read_files([])


def test_file_below_a_file_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("text")
    with pytest.raises(DataError, match="cannot be read"):
        read_files([tmp_path / "a" / "b"])


@given(st.text())
def test_decode_undoes_encode(text: str) -> None:
    vocabulary = Vocabulary(text)
    assert vocabulary.decode(vocabulary.encode(text)) == text
    assert vocabulary.decode(vocabulary.encode(text).tolist()) == text


@given(st.text(), st.text())
def test_encode_agrees_with_a_dictionary(known: str, text: str) -> None:
    vocabulary = Vocabulary(known)
    table = {character: place for place, character in enumerate(sorted(set(known)))}
    if set(text) <= set(known):
        assert vocabulary.encode(text).tolist() == [table[character] for character in text]
    else:
        position = next(place for place, character in enumerate(text) if character not in table)
        with pytest.raises(DataError, match=f"at position {position} "):
            vocabulary.encode(text)


def test_unknown_characters_can_be_replaced() -> None:
    text = "zap\u00e9\U0001f600\udc80"
    assert Vocabulary(" apz").decode(Vocabulary(" apz").encode(text, replace_unknown=True)) == (
        "zap   "
    )
    assert Vocabulary("apz").encode(text, replace_unknown=True).tolist() == [2, 0, 1, 0, 0, 0]


def test_vocabulary_state_survives_json() -> None:
    saved = json.loads(json.dumps(Vocabulary("\u00fcber \U0001f600").state_dict()))
    empty = Vocabulary("")
    empty.load_state_dict(saved)
    assert empty.decode(empty.encode("be\u00fcr")) == "be\u00fcr"
    Vocabulary("re\u00fcb \U0001f600").load_state_dict(saved)


def test_vocabulary_of_another_text_is_refused() -> None:
    with pytest.raises(CheckpointError, match="knows 3 characters and this text has 4"):
        Vocabulary("abcd").load_state_dict(Vocabulary("abc").state_dict())


@pytest.mark.parametrize("state", [{}, {"characters": 3}, {"characters": "ba"}])
def test_damaged_vocabulary_is_refused(state: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match="damaged"):
        Vocabulary("").load_state_dict(state)


@given(st.integers(1, 5), st.integers(0, 80))
def test_split_holds_out_the_last_tenth_or_says_both_lengths(block_size: int, extra: int) -> None:
    text = "abcdefghij" * (block_size + 1) + "k" * extra
    corpus = Corpus.split(text, block_size)
    assert len(corpus.heldout_ids) == len(text) // 10
    decode = corpus.vocabulary.decode
    assert decode(corpus.train_ids) + decode(corpus.heldout_ids) == text
    short = text[: 10 * (block_size + 1) - 1]
    with pytest.raises(DataError, match=rf"has {len(short)} characters.* takes {block_size + 1}"):
        Corpus.split(short, block_size)
