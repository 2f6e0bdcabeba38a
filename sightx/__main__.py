"""The command `sightx`, and `python -m sightx`."""

from __future__ import annotations

from sightx.cli.main import main

if __name__ == "__main__":
    main()
