from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys

import pytest

from sightx.errors import ResourceError
from sightx.io import locks


@pytest.fixture
def file(tmp_path):
    (tmp_path / "lock").touch()
    return tmp_path / "lock"


def test_many_share_a_lock_that_none_then_has_alone(file):
    one, two = locks.shared_lock(file), locks.shared_lock(file)

    assert one is not None
    assert two is not None
    assert locks.exclusive_lock(file) is None
    one.close()
    assert locks.exclusive_lock(file) is None
    del two  # whoever forgets it gives it back
    assert locks.exclusive_lock(file) is not None


def test_one_has_it_alone(file):
    held = locks.exclusive_lock(file)

    assert locks.exclusive_lock(file) is None
    assert locks.shared_lock(file) is None
    held.close()
    assert locks.shared_lock(file) is not None


def test_who_holds_it_is_written_down(tmp_path):
    file = tmp_path / "new"
    assert locks.read_holder(file) == "another process"
    held = locks.exclusive_lock(file, create=True)
    assert locks.read_holder(file) == "another process"

    held.sign()

    assert locks.read_holder(file).startswith(
        f"pid {os.getpid()} on host {socket.gethostname()} since 20"
    )


def test_a_lock_on_a_file_that_was_replaced_is_none(file):
    held = locks.exclusive_lock(file)
    other = file.with_name("other")
    other.touch()
    descriptor = os.open(file, os.O_RDWR)
    other.replace(file)

    assert locks.exclusive_lock(file) is not None  # the old file's lock is nobody's business
    held.close()
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


def test_the_lock_of_a_process_that_was_killed_is_free(file):
    code = f"""
import time
from pathlib import Path
from sightx.io import locks
held = locks.exclusive_lock(Path({str(file)!r}))
print("held", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        assert locks.exclusive_lock(file) is None
        other.send_signal(signal.SIGKILL)
        other.wait()

        assert locks.exclusive_lock(file) is not None


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said(file, monkeypatch, number):
    def refuse(descriptor, kind):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)  # no such file system is at hand

    with pytest.raises(ResourceError, match=r"\[no-cache\].*knows no locks.*SIGHTX_CACHE"):
        locks.shared_lock(file)


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(FileNotFoundError):
        locks.shared_lock(tmp_path / "none")
