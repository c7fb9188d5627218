"""Tells local disks from network file systems; it does not know what is kept on them."""

from __future__ import annotations

import re
from pathlib import Path

_MOUNT_TABLE = Path("/proc/self/mountinfo")
_NETWORK_TYPES = frozenset(
    {
        *("afs", "beegfs", "ceph", "cifs", "coda", "davfs", "glusterfs", "gfs2", "gpfs", "lustre"),
        *("ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb2", "smb3", "smbfs"),
        *("fuse.ceph", "fuse.davfs2", "fuse.gcsfuse", "fuse.glusterfs", "fuse.juicefs"),
        *("fuse.rclone", "fuse.s3fs", "fuse.sshfs", "fuse.mount-s3", "fuse.smbnetfs"),
    }
)


def refuse_network_file_system(directory: Path, mount_table: Path = _MOUNT_TABLE) -> None:
    """Raise ValueError if `directory` is on a network file system.

    There SQLite's locks and fsync do not promise what an acknowledged vote promises. Where the
    system has no mount table (not Linux) nothing is refused.
    """
    if not mount_table.exists():
        return
    kind = file_system_type(directory.resolve(), mount_table.read_text())
    if kind in _NETWORK_TYPES:
        raise ValueError(
            f"{directory} is on a network file system ({kind}), where an fsync does not promise "
            "that a vote survives: put the data directory on a local disk"
        )


def file_system_type(path: Path, mount_table: str) -> str | None:
    """Return the type of the file system that holds the absolute `path`, None if not listed.

    `mount_table` is in the format of /proc/self/mountinfo (proc(5)): of the mount points above
    the path the longest counts, and of several mounts on one point the last.
    """
    longest: tuple[int, str | None] = (-1, None)
    for line in mount_table.splitlines():
        left, separator, right = line.partition(" - ")
        if not separator:
            continue
        mount_point = _unescape(left.split()[4])
        if path.is_relative_to(mount_point) and len(mount_point) >= longest[0]:
            longest = (len(mount_point), right.split()[0])
    return longest[1]


def _unescape(mount_point: str) -> str:
    """Undo the table's octal escapes of blanks and backslashes."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), mount_point)
