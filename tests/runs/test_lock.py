from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sightx import ResourceError, RunError, load, open_run
from sightx.runs import lock
from sightx.runs.creation import create_run

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@contextmanager
def another(action: Callable[[Path], object], tmp_path: Path) -> Iterator[int]:
    """Run something in another process until it touches the file it is given; kill it after."""
    ready = tmp_path / "ready"
    child = os.fork()
    if not child:
        signal.alarm(60)
        try:
            action(ready)
        finally:
            os._exit(1)
    while not ready.exists():
        time.sleep(0.01)
    yield child
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def holding(run: Path) -> Callable[[Path], None]:
    def hold(ready: Path) -> None:
        with lock.run_lock(run):
            ready.touch()
            signal.pause()

    return hold


def descriptors(run: Path) -> list[int]:
    """Return this process's open descriptors of a run's lock file."""
    state = (run / "lock.json").stat()
    numbers = [int(path.name) for path in Path("/proc/self/fd").iterdir()]
    opened = []
    for number in numbers:
        with suppress(OSError):  # the descriptor of the listing itself
            if os.path.samestat(os.fstat(number), state):
                opened.append(number)
    return opened


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_the_error_of_a_second_writer_names_the_first(run: Path, tmp_path: Path) -> None:
    with another(holding(run), tmp_path) as pid:
        started = time.monotonic()
        with pytest.raises(RunError) as caught, lock.run_lock(run):
            pass
        assert time.monotonic() - started < 5  # at once; it waits only for a dead holder
        assert caught.value.exit_code == 5
        host = socket.gethostname()
        assert f"run is in use by pid {pid} on host {host} since 2" in str(caught.value)
        assert str(run) in str(caught.value)
        with pytest.raises(RunError), lock.run_lock(run):  # the first is unharmed
            pass


def test_the_lock_is_released(run: Path) -> None:
    for _ in range(3):
        with (
            lock.run_lock(run),
            pytest.raises(RunError, match=f"pid {os.getpid()} "),
            lock.run_lock(run),
        ):
            pass
    with pytest.raises(KeyError), lock.run_lock(run):
        raise KeyError
    with lock.run_lock(run):
        assert json.loads((run / "lock.json").read_text())["pid"] == os.getpid()
        assert len(descriptors(run)) == 1
    assert not descriptors(run)


def test_the_lock_of_a_killed_holder_is_free(run: Path, tmp_path: Path) -> None:
    with another(holding(run), tmp_path) as pid:
        assert json.loads((run / "lock.json").read_text())["pid"] == pid
    with lock.run_lock(run, patience=0):
        pass


def test_a_child_that_survives_holds_nothing(run: Path, tmp_path: Path) -> None:
    def with_child(ready: Path) -> None:
        with lock.run_lock(run):
            if not os.fork():  # as a loader's worker
                (tmp_path / "worker").write_text(str(os.getpid()))
                signal.alarm(60)
                signal.pause()
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3)"])
            while not (tmp_path / "worker").exists():
                time.sleep(0.01)
            ready.touch()
            signal.pause()

    with another(with_child, tmp_path):
        pass
    with lock.run_lock(run, patience=0):
        pass
    os.kill(int((tmp_path / "worker").read_text()), signal.SIGKILL)


def test_a_forked_child_leaves_its_parent_the_lock(run: Path) -> None:
    with suppress(KeyError), lock.run_lock(run):
        if not (child := os.fork()):
            raise KeyError  # the child leaves the `with`
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 6
        with pytest.raises(RunError, match="in use"), lock.run_lock(run):
            pass
    if not child:
        os._exit(6)


def test_a_child_that_keeps_the_lock_of_a_dead_holder_is_waited_for(  # R02
    run: Path, tmp_path: Path
) -> None:
    def with_heir(ready: Path) -> None:
        with lock.run_lock(run):
            (descriptor,) = descriptors(run)
            script = "import time; time.sleep(1.5)"
            subprocess.Popen([sys.executable, "-c", script], pass_fds=[descriptor])
            ready.touch()
            signal.pause()

    with another(with_heir, tmp_path) as pid:
        pass
    with pytest.raises(RunError) as caught, lock.run_lock(run, patience=0.2):
        pass
    assert f"pid {pid} on host" in str(caught.value)
    assert "it is dead, but a child of it still holds the run" in str(caught.value)
    with lock.run_lock(run):  # the child ends while it is waited for
        pass


def test_a_holder_on_another_host_is_not_waited_for(run: Path) -> None:
    with lock.run_lock(run):
        holder = {"pid": 1, "host": "elsewhere", "since": "2026-01-01 00:00:00"}
        (run / "lock.json").write_text(json.dumps(holder))
        with (
            pytest.raises(RunError, match="by pid 1 on host elsewhere since 2026"),
            lock.run_lock(run),
        ):
            pass


@pytest.mark.parametrize("code", ["ENOLCK", "EOPNOTSUPP", "ENOTSUP", "ENOSYS"])
def test_a_file_system_without_locks_is_an_error(  # R11
    run: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    def flock(*_: object) -> None:
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        pytest.raises(RunError, match=r"file system has no locks .*; put runs on a local disk"),
        lock.run_lock(run),
    ):
        pass
    assert not descriptors(run)


def test_a_run_that_cannot_be_written_can_still_be_read(spec: Path, tmp_path: Path) -> None:
    created = create_run(tmp_path / "runs", load(spec), {}).directory
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path / "runs")]
    copy = {path.name: path.read_bytes() for path in created.iterdir()}
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        created.mkdir()
        for name, content in copy.items():
            (created / name).write_bytes(content)
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "runs")], check=True)
        with pytest.raises(ResourceError, match="Read-only file system"), lock.run_lock(created):
            pass
        assert open_run(created).tables["name"] == "little"
    finally:
        subprocess.run(["umount", str(tmp_path / "runs")], check=True)


def test_a_missing_run_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="gone is gone"), lock.run_lock(tmp_path / "gone"):
        pass


def test_fifty_processes_that_start_at_once_have_a_run_each(spec: Path, tmp_path: Path) -> None:
    experiment, gate = load(spec), os.pipe()
    children = []
    for _ in range(50):
        child = os.fork()
        if not child:
            os.close(gate[1])
            os.read(gate[0], 1)  # all start when the gate is closed
            status = 1
            try:
                created = create_run(tmp_path / "runs", experiment, {})
                with lock.run_lock(created.directory, patience=0):
                    (created.directory / "mine").open("x").close()
                    status = 0
            finally:
                os._exit(status)
        children.append(child)
    os.close(gate[0])
    os.close(gate[1])
    assert {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children} == {0}
    assert len(list((tmp_path / "runs").glob("*/mine"))) == 50


def test_a_holder_on_another_host_is_alive_while_it_touches_the_lock(tmp_path: Path) -> None:
    holder = {"pid": 1, "host": "elsewhere", "since": "", "sign_of_life": 30.0}
    file = tmp_path / lock.FILE
    file.write_text(json.dumps(holder))
    assert lock.is_locked(tmp_path)
    an_hour_ago = time.time() - 3600
    os.utime(file, (an_hour_ago, an_hour_ago))
    assert not lock.is_locked(tmp_path)
    file.write_text(json.dumps({**holder, "host": socket.gethostname()}))
    assert not lock.is_locked(tmp_path)


def test_the_holder_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "SIGN_OF_LIFE", 0.01)
    with lock.run_lock(tmp_path):
        os.utime(tmp_path / lock.FILE, (0, 0))
        while not lock.last_sign_of_life(tmp_path):
            time.sleep(0.01)
