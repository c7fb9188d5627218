"""The spool refuses disks that only look local."""

from __future__ import annotations

from pathlib import Path

import pytest

from feedback.file_systems import file_system_type, refuse_network_file_system

MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:40 / /mnt/share rw - nfs4 server:/export rw
41 22 0:41 / /mnt/my\040disk rw master:3 propagate_from:2 - cifs //host/share rw
42 40 8:2 / /mnt/share/local rw - xfs /dev/sdb1 rw
43 22 0:43 / /data rw - nfs server:/old rw
44 22 8:3 / /data rw - ext4 /dev/sdc1 rw
not a mount line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/data", "ext4"),
        ("/mnt/share", "nfs4"),
        ("/mnt/share/data", "nfs4"),
        ("/mnt/shared", "ext4"),
        ("/mnt/my disk/data", "cifs"),
        ("/mnt/share/local/data", "xfs"),
        ("/data", "ext4"),
    ],
)
def test_the_nearest_and_latest_mount_decides(path: str, kind: str) -> None:
    assert file_system_type(Path(path), MOUNTS) == kind


def test_without_any_mount_the_type_is_unknown() -> None:
    assert file_system_type(Path("/x"), "") is None


def test_a_local_directory_is_accepted(tmp_path: Path) -> None:
    refuse_network_file_system(tmp_path)


def test_a_network_file_system_is_refused_with_a_reason(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text("22 1 0:40 / / rw - nfs4 server:/export rw\n")
    with pytest.raises(ValueError, match=r"network file system \(nfs4\).*local disk"):
        refuse_network_file_system(tmp_path, mounts)
