from __future__ import annotations

import hashlib

import numpy as np
import pytest

from sightx.records.hashes import Hashes

CONTENTS = [hashlib.sha256(b"%d" % number).digest() for number in range(300)]


def test_hashes_go_in_and_come_out_whatever_bytes_they_end_with():
    ending = bytes(range(1, 31)) + b"\0\0"  # numpy's own scalar would lose these
    found = Hashes.from_bytes([*CONTENTS, ending])

    assert list(found) == [digest.hex() for digest in [*CONTENTS, ending]]
    assert list(Hashes.from_hex(found)) == list(found)
    assert found.take(np.array([300, 2]))[0] == ending.hex()
    assert list(found[299:]) == [CONTENTS[299].hex(), ending.hex()]


def test_unknown_hashes_are_empty():
    assert list(Hashes.unknown(2)) == ["", ""]
    assert list(Hashes.from_hex(["", CONTENTS[0].hex()])) == ["", CONTENTS[0].hex()]


@pytest.mark.parametrize("wrong", ["ab", "xy" * 32])
def test_invalid_hashes_are_refused(wrong):
    with pytest.raises(ValueError, match=r"SHA-256|hexadecimal"):
        Hashes.from_hex([wrong])
