"""The command `sightx`, and `python -m sightx`."""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback if it comes while modules load

from sightx.cli.main import main

if __name__ == "__main__":
    main()
