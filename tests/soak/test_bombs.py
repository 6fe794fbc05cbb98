"""Bombs of the size that the others are cut down to in tests/system/test_hostile.py."""
import gzip
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
from conftest import *          # noqa: F401,F403,E402  its fixtures
from test_hostile import MIB, bounded, header, occupied, packed, zeros      # noqa: E402
from test_hostile import puller  # noqa: F401,E402  (fixture)
from test_puller import sha     # noqa: E402


def test_ten_gigabytes_of_zeros_in_ten_megabytes(puller):  # noqa: F811
    bomb, digest = zeros(10 << 30)
    assert len(bomb) < 11 * MIB
    r = puller.load(packed(bomb, digest))
    assert "error" not in r, r
    f = puller.staging / "layers" / digest[7:] / "zeros"
    assert f.stat().st_size == 10 << 30 and f.stat().st_blocks == 0
    assert occupied(puller.staging) < 4 * len(bomb)
    bounded(puller)


def test_a_million_empty_files(puller):  # noqa: F811
    blank = header("f" * 20)
    at = blank.index(b"f" * 20)

    def entry(i):
        name = b"d%03d/f%014d" % (i % 1000, i)
        b = bytearray(blank)
        b[at:at + 20] = name.ljust(20, b"x")
        b[148:156] = b" " * 8
        b[148:156] = b"%06o\0 " % sum(b)
        return bytes(b)
    plain = b"".join(entry(i) for i in range(1000000)) + bytes(1024)
    d, _ = (lambda r: (puller.staging / "layers" / r["layers"][0]["chain"][7:], r))(puller.load(packed(gzip.compress(plain, 1), sha(plain))))
    assert sum(len(files) for _, _, files in os.walk(d)) == 1000000
    bounded(puller)
