"""pieces.py: a file of pieces reads as their bytes in a row."""

from __future__ import annotations

import io
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lmaczs.audio.pieces import PiecesFile, size_of, with_patches

CONTENT = bytes(range(256))
RANGE = st.tuples(st.integers(0, 256), st.integers(0, 256)).map(sorted).map(tuple)


@given(
    pieces=st.lists(st.binary(max_size=9) | RANGE, max_size=6),
    seeks=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 99)), max_size=5),
)
def test_pieces_read_as_their_bytes(
    tmp_path_factory: object, pieces: list, seeks: list[tuple[int, int]]
) -> None:
    """From any place on, any number of bytes, and the size at the end."""
    path = Path(tmp_path_factory.getbasetemp()) / "content"
    path.write_bytes(CONTENT)
    whole = b"".join(
        one if isinstance(one, bytes) else CONTENT[slice(*one)] for one in pieces
    )
    with io.BufferedReader(PiecesFile(path, pieces), 16) as file:
        assert file.read() == whole
        assert file.seek(0, io.SEEK_END) == len(whole) == sum(map(size_of, pieces))
        for place, size in seeks:
            assert file.seek(place) == place
            assert file.read(size) == whole[place : place + size]
            assert file.tell() == max(place, min(place + size, len(whole)))
            assert file.seek(-min(place, 3), io.SEEK_CUR) >= 0


def test_patches_replace_bytes_in_place(tmp_path: Path) -> None:
    """The range keeps its length."""
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    pieces = with_patches(2, 12, {4: b"ab", 9: b"c"})
    expected = CONTENT[2:4] + b"ab" + CONTENT[6:9] + b"c" + CONTENT[10:12]
    assert PiecesFile(path, pieces).read(3) == expected[:2]  # a piece at a time
    assert io.BufferedReader(PiecesFile(path, pieces)).read() == expected
