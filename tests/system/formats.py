"""Files of formats that are newer than the programs, made of files that they wrote: the version is raised, and what checks it
made right again, as the comments in src/wal/format.h and src/checkpoint/format.h have it."""
import struct

_TABLE = []
for _byte in range(256):
    for _ in range(8):
        _byte = _byte >> 1 ^ (0x82f63b78 if _byte & 1 else 0)
    _TABLE.append(_byte)


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 255]
    return crc ^ 0xffffffff


def _newer(data, at, kind, end):
    """The number at this place is raised by one, and the checksum at `end`, of all before it, is right for that."""
    number, = struct.unpack_from(kind, data, at)
    data = data[:at] + struct.pack(kind, number + 1) + data[at + struct.calcsize(kind):]
    return data[:end] + struct.pack("<I", crc32c(data[:end])) + data[end + 4:]


def newer_segment(data):
    assert data[:8] == b"FLOTWAL\n" and crc32c(data[:92]) == struct.unpack_from("<I", data, 92)[0]
    return _newer(data, 8, "<I", 92)


MEMBERSHIP_AT = 84  # in a manifest


def newer_manifest(data, part="manifest"):
    """A manifest, which may be a snapshot's beginning: of a newer format itself, or its membership, or its first section."""
    length, = struct.unpack_from("<I", data, 12)
    membership, = struct.unpack_from("<I", data, MEMBERSHIP_AT - 4)
    assert data[:8] == b"FLOTCKM\n" and crc32c(data[:length - 4]) == struct.unpack_from("<I", data, length - 4)[0]
    at, kind = {"manifest": (8, "<I"), "membership": (MEMBERSHIP_AT, "<B"),
                "section": (MEMBERSHIP_AT + membership + 4 + 2, "<H")}[part]
    return _newer(data, at, kind, length - 4)


def newer_checkpoint(data, part="file"):
    """The file CHECKPOINT: of a newer format itself, or its manifest, or a part of that."""
    assert data[:8] == b"FLOTCKF\n" and crc32c(data[:24]) == struct.unpack_from("<I", data, 24)[0]
    return _newer(data, 8, "<I", 24) if part == "file" else data[:28] + newer_manifest(data[28:], part)
