from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys

import pytest

from sightx.io import locks


@pytest.fixture
def file(tmp_path):
    (tmp_path / "lock").touch()
    return tmp_path / "lock"


def test_many_may_share_a_lock_and_then_nobody_has_it_exclusively(file):
    one, two = locks.shared_lock(file), locks.shared_lock(file)

    assert one is not None
    assert two is not None
    assert locks.exclusive_lock(file) is None
    one.release()
    assert locks.exclusive_lock(file) is None
    del two  # a lock that is forgotten is released
    assert locks.exclusive_lock(file) is not None


def test_an_exclusive_lock_has_one_holder(file):
    held = locks.exclusive_lock(file)

    assert locks.exclusive_lock(file) is None
    assert locks.shared_lock(file) is None
    held.release()
    assert locks.shared_lock(file) is not None


def test_the_holder_is_written_into_the_file(tmp_path):
    file = tmp_path / "new"
    assert locks.read_holder(file) == {}
    held = locks.exclusive_lock(file, create=True)
    assert locks.read_holder(file) == {}
    assert locks.describe_holder({}) == "another process"

    held.write_holder()

    text = locks.describe_holder(locks.read_holder(file))
    assert text.startswith(f"pid {os.getpid()} on host {socket.gethostname()} since 20")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_holds_no_lock_and_keeps_its_files(file):
    held = locks.exclusive_lock(file)
    if not (child := os.fork()):
        another = os.open(file, os.O_RDONLY)  # may get the number of the descriptor that was closed
        del held
        os._exit(0 if os.fstat(another) and locks.exclusive_lock(file) is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert locks.shared_lock(file) is None
    held.release()


def test_a_lock_on_a_file_that_was_replaced_does_not_count(file):
    held = locks.exclusive_lock(file)
    other = file.with_name("other")
    other.touch()
    descriptor = os.open(file, os.O_RDWR)
    other.replace(file)

    assert locks.exclusive_lock(file) is not None  # the old file's lock does not matter
    held.release()
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
def test_a_file_system_without_locks_is_named(file, monkeypatch, number):
    def refuse(descriptor, kind):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)  # no such file system is at hand

    with pytest.raises(locks.LocksUnsupported, match="the file system has no locks"):
        locks.shared_lock(file)
    with locks.file_lock(file):  # which goes on without
        pass


def test_processes_pass_a_file_lock_one_by_one(tmp_path):
    file, log = tmp_path / "lock", tmp_path / "log"
    code = f"""
import time
from pathlib import Path
from sightx.io.locks import file_lock
with file_lock(Path({str(file)!r})), open({str(log)!r}, "a") as log:
    log.write("in ")
    log.flush()
    time.sleep(0.1)
    log.write("out ")
"""
    others = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [other.wait() for other in others] == [0, 0, 0]
    assert log.read_text() == "in out " * 3
    assert not file.exists()


def test_a_missing_file_is_not_locked(tmp_path):
    with pytest.raises(FileNotFoundError):
        locks.shared_lock(tmp_path / "none")


def test_a_lock_file_that_has_other_content_is_not_removed(tmp_path):
    file = tmp_path / "lock"
    file.write_text("mine")

    with locks.file_lock(file):
        pass

    assert file.read_text() == "mine"
    assert not locks.is_lock_file(file)
    file.write_text("")
    assert locks.is_lock_file(file)
