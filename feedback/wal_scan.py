"""Reads SQLite's write-ahead log (fileformat2.html, section 4); it does not know any table.

SQLite stops at the first frame whose checksum does not match and forgets the rest. That is right
for the torn end of the last transaction, which nobody was told of; it is silent loss if damage
sits in front of transactions that were synced and acknowledged.
"""

from __future__ import annotations

import struct
import sys
from array import array
from dataclasses import dataclass
from pathlib import Path

_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_MAGIC_LITTLE = 0x377F0682
_MAGIC_BIG = 0x377F0683
_WORD = 0xFFFFFFFF
_NUM_CONFIRMATIONS = 2


@dataclass(frozen=True, slots=True)
class _Header:
    is_big_endian: bool
    page_size_bytes: int
    salt: bytes
    checksum: tuple[int, int]
    is_intact: bool


def count_lost_commits(wal: Path) -> int:
    """Return how many transactions that must have been acknowledged lie behind damage.

    Commits are synced one after another, so at most one unacknowledged transaction can follow
    the first unreadable frame: one commit there is a torn end, two or more are a loss. A log that
    is cut short cannot be told from one that was never longer.
    """
    # A log that another process is writing can look damaged for a moment, at its growing end:
    # only what every reading finds again is damage.
    num_lost = _count_once(wal)
    for _ in range(_NUM_CONFIRMATIONS if num_lost else 0):
        num_lost = min(num_lost, _count_once(wal))
    return num_lost


def _count_once(wal: Path) -> int:
    header = _read_header(wal)
    if header is None:
        return 0
    num_behind_damage = _count_commits_behind_damage(wal, header)
    has_restarted = _read_header(wal) != header
    return num_behind_damage if num_behind_damage > 1 and not has_restarted else 0


def _count_commits_behind_damage(wal: Path, header: _Header) -> int:
    num_commits = 0
    is_damaged = not header.is_intact
    previous = header.checksum
    frame_bytes = _FRAME_HEADER_BYTES + header.page_size_bytes
    with wal.open("rb") as file:
        file.seek(_HEADER_BYTES)
        while len(frame := file.read(frame_bytes)) == frame_bytes:
            _, size_after_commit, *stored = struct.unpack(">6I", frame[:_FRAME_HEADER_BYTES])
            if frame[8:16] != header.salt:
                # A frame of an older round of the log, or damage in the salt itself.
                is_damaged = True
                previous = (stored[2], stored[3])
                continue
            content = frame[:8] + frame[_FRAME_HEADER_BYTES:]
            is_damaged = is_damaged or _checksum(content, previous, header) != tuple(stored[2:])
            previous = (stored[2], stored[3])
            num_commits += is_damaged and size_after_commit > 0
    return num_commits


def _read_header(wal: Path) -> _Header | None:
    """Read the log's header, None for a log that holds no frame."""
    try:
        with wal.open("rb") as file:
            raw = file.read(_HEADER_BYTES + _FRAME_HEADER_BYTES)
    except FileNotFoundError:
        return None  # the last process to use the spool has closed it cleanly
    if len(raw) < _HEADER_BYTES + _FRAME_HEADER_BYTES:
        return None
    magic, _, page_size_bytes, _, _, _, *stored = struct.unpack(">8I", raw[:_HEADER_BYTES])
    known = _Header(magic == _MAGIC_BIG, page_size_bytes, raw[16:24], (0, 0), is_intact=False)
    checksum = _checksum(raw[:24], (0, 0), known)
    is_intact = magic in (_MAGIC_LITTLE, _MAGIC_BIG) and checksum == tuple(stored)
    if is_intact:
        return _Header(known.is_big_endian, page_size_bytes, known.salt, checksum, is_intact=True)
    # The header is damaged: the frames tell the salt, and 4096 is the page size of every spool.
    return _Header(known.is_big_endian, 4096, raw[40:48], (0, 0), is_intact=False)


def _checksum(words: bytes, start: tuple[int, int], header: _Header) -> tuple[int, int]:
    """Fibonacci-weighted sum over pairs of 32-bit words, section 4.2."""
    numbers = array("I", words)
    if header.is_big_endian != (sys.byteorder == "big"):
        numbers.byteswap()
    first, second = start
    pairs = iter(numbers)
    for even, odd in zip(pairs, pairs, strict=True):
        first = (first + even + second) & _WORD
        second = (second + odd + first) & _WORD
    return first, second
