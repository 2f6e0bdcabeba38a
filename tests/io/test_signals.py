from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from sightx.io.signals import Interrupted, restore_handlers, stop_on_signals


def run_script(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_remembered_and_handlers_are_given_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_on_signals() as asked:
        assert asked.number == 0
        signal.raise_signal(number)
        assert asked.number == number
    assert signal.getsignal(number) is before


def test_handlers_are_restored_after_ignoring_signals() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with restore_handlers():
        with stop_on_signals():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_thread_hears_nothing_and_changes_nothing() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def in_thread() -> object:
        with stop_on_signals() as asked:
            return asked.number, signal.getsignal(signal.SIGTERM)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(in_thread).result() == (0, before)


def test_a_second_signal_ends_the_process_at_once() -> None:
    script = (
        "import signal\n"
        "from sightx.io.signals import stop_on_signals\n"
        "with stop_on_signals():\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    print('first', flush=True)\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    print('second', flush=True)\n"
    )
    done = run_script(script)
    assert done.stdout == "first\n"
    assert done.returncode == -signal.SIGTERM


def test_a_second_interrupt_of_a_program_raises_keyboard_interrupt_at_once() -> None:
    """A notebook must not lose its kernel."""
    before = signal.getsignal(signal.SIGINT)
    with stop_on_signals() as asked:
        signal.raise_signal(signal.SIGINT)
        assert asked.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("numbers", [(2, 15), (15, 2), (1, 15), (1, 2, 15)])
def test_different_signals_at_the_same_moment_are_one_request(numbers: tuple[int, ...]) -> None:
    """Both are pending when Python looks: restoring one handler must not lose the other signal."""
    script = (
        "import os, signal, sys\n"
        "from sightx.io.signals import STOP_SIGNALS, stop_on_signals\n"
        "with stop_on_signals() as asked:\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)\n"
        "    for number in map(int, sys.argv[1:]):\n"
        "        os.kill(os.getpid(), number)\n"
        "    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)\n"
        "    for number in {2, 15} - {asked.number}:\n"
        "        signal.raise_signal(number)\n"
        "    print(asked.number > 0)\n"
    )
    done = run_script(script, *map(str, numbers))
    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)


def test_another_signal_ends_the_process_later() -> None:
    script = (
        "import signal, time\n"
        "from sightx.io import signals\n"
        "signals.RELAY_SECONDS = 0.05\n"
        "with signals.stop_on_signals():\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    print('first', flush=True)\n"
        "    time.sleep(0.1)\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    print('second', flush=True)\n"
    )
    done = run_script(script)
    assert (done.stdout, done.stderr) == ("first\n", "")
    assert done.returncode == -signal.SIGTERM


def test_plugins_cannot_catch_an_interruption() -> None:
    assert not issubclass(Interrupted, Exception)
    assert Interrupted(15).number == 15


def test_a_second_signal_needs_no_python_to_be_running() -> None:
    script = (
        "import hashlib, signal\n"
        "from sightx.io.signals import stop_on_signals\n"
        "with stop_on_signals():\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    print('busy', flush=True)\n"
        "    hashlib.pbkdf2_hmac('sha256', b'', b'', 2_000_000_000)\n"  # minutes in one call
    )
    busy = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert busy.stdout is not None
    with busy.stdout:
        assert busy.stdout.readline() == b"busy\n"
    busy.terminate()
    assert busy.wait(30) == -signal.SIGTERM


def test_a_launcher_that_passes_a_signal_on_does_not_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    with stop_on_signals() as asked:
        for _ in range(3):  # the process group hears it, and each launcher repeats it
            signal.raise_signal(signal.SIGTERM)
        assert asked.number == signal.SIGTERM


def test_a_launched_process_too_can_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    script = (
        "import signal, time\n"
        "from sightx.io import signals\n"
        "signals.RELAY_SECONDS = 0.05\n"
        "with signals.stop_on_signals():\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    time.sleep(0.1)\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
    assert done.returncode == -signal.SIGTERM


def test_a_terminal_that_closes_sends_several_hangups() -> None:
    """The kernel and the shell both send SIGHUP; the run still saves its state."""
    with stop_on_signals() as asked:
        for _ in range(3):
            signal.raise_signal(signal.SIGHUP)
        assert asked.number == signal.SIGHUP


def test_a_hangup_that_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as asked:
            signal.raise_signal(signal.SIGHUP)
            assert asked.number == 0
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGHUP)
            assert asked.number == signal.SIGTERM
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_second_interrupt_of_a_command_ends_it_without_a_traceback() -> None:
    script = (
        "import signal\n"
        "from sightx.io.signals import interrupt_once\n"
        "with interrupt_once():\n"
        "    try:\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "    except KeyboardInterrupt:\n"
        "        print('first', flush=True)\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    print('second', flush=True)\n"
    )
    done = run_script(script)
    assert (done.stdout, done.stderr) == ("first\n", "")
    assert done.returncode == -signal.SIGINT
