"""Clients in Node: the example and its tests, and what Node hears of a refusal."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sightx import Predictor
from support.serving import running

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "node-backend"
TOKEN = "a-token-of-enough-characters"
NODE = shutil.which("node")


def has_node() -> bool:
    if NODE is None:
        return False
    done = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True)
    return int(re.findall(r"\d+", done.stdout)[0]) >= 20


@pytest.mark.skipif(not has_node(), reason="Node 20 or newer is not installed")
def test_the_example_and_refusals_in_node(predictor: Predictor, data: Path) -> None:  # V03
    image = data / "test" / "light" / "0.png"
    scripts = [EXAMPLE / "sightx.test.mjs", Path(__file__).with_name("refusals.test.mjs")]
    with running(predictor, token=TOKEN) as server:
        done = subprocess.run(
            [str(NODE), "--test", "--test-reporter=tap", *map(str, scripts)],
            capture_output=True, text=True, check=False,
            env=os.environ | {"SIGHTX_URL": f"http://127.0.0.1:{server.port}",
                              "SIGHTX_TOKEN": TOKEN, "SIGHTX_IMAGE": str(image)},
        )  # fmt: skip
    assert done.returncode == 0, done.stdout
    counts = dict(re.findall(r"^# (\w+) (\d+)$", done.stdout, re.MULTILINE))
    assert (counts["pass"], counts["fail"], counts["skipped"]) == ("14", "0", "0")


def test_the_types_of_the_example_are_those_of_the_server(server) -> None:
    description = server.ask("GET", "/openapi.json").json
    file = EXAMPLE / "openapi.json"
    if os.environ.get("SIGHTX_REGENERATE"):
        file.write_text(json.dumps(description, indent=1) + "\n")
    assert json.loads(file.read_text()) == description, "make generated; npm run types"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert digest in (EXAMPLE / "openapi.d.ts").read_text(), "npm run types"
