"""The sessions of a run: a run that is resumed has several.

`sessions.json` holds for each session where and when it trained. It is written when a session
starts and when it ends; the end of a session that was killed is the last sign of life of its lock.
"""

from __future__ import annotations

import socket
from datetime import datetime
from typing import Any

from sightx.io.system import user_name, utc_time
from sightx.runs import lock
from sightx.runs.directory import Run

FILE = "sessions.json"


def read_sessions(run: Run) -> list[dict[str, Any]]:
    """Return the sessions of a run, the oldest first; [] for a run that has not recorded them."""
    sessions = run.read_json(FILE).get("sessions", [])
    return [dict(session) for session in sessions]


def start_session(run: Run) -> None:
    """Record that a session starts. The caller holds the run's lock."""
    sessions = read_sessions(run)
    if sessions and not sessions[-1]["ended"]:
        _end(sessions[-1], "killed", utc_time(lock.last_sign_of_life(run.directory)))
    new = {"host": socket.gethostname(), "user": user_name(), "started": utc_time()}
    run.write_json(
        FILE, {"sessions": [*sessions, {**new, "ended": "", "seconds": 0, "status": ""}]}
    )


def end_session(run: Run, status: str) -> None:
    """Record how the newest session has ended."""
    if sessions := read_sessions(run):
        _end(sessions[-1], status, utc_time())
        run.write_json(FILE, {"sessions": sessions})


def _end(session: dict[str, Any], status: str, ended: str) -> None:
    started, end = (datetime.fromisoformat(text) for text in (session["started"], ended))
    seconds = max((end - started).total_seconds(), 0.0)
    session |= {"ended": max(ended, session["started"]), "seconds": seconds, "status": status}
