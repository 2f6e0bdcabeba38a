"""`examples/deploy`: each path and command is tried, outside a container."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import pytest

from sightx import Predictor, Run
from sightx.cli.serve import command
from support.serving import TestServer, running

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "examples" / "deploy"
TOKEN = "a-token-of-enough-characters"


def parsed(words: list[str]) -> dict[str, Any]:
    """Return what `sightx serve` reads from a command line."""
    program, *arguments = words
    assert program == "serve"
    context: click.Context = command.make_context("sightx serve", arguments)
    return context.params


def dockerfile() -> list[list[str]]:
    """Return the instructions of the Dockerfile as words; JSON forms as their lists."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [[line.split()[0], line.partition(" ")[2].strip()] for line in lines if line.strip()]


def test_the_image_copies_what_there_is_and_starts_a_command_that_exists() -> None:
    instructions = dockerfile()
    for name, rest in instructions:
        if name == "COPY" and "--from" not in rest:
            assert all((ROOT / source).exists() for source in rest.split()[:-1]), rest
    (entry,) = (json.loads(rest) for name, rest in instructions if name == "ENTRYPOINT")
    (words,) = (json.loads(rest) for name, rest in instructions if name == "CMD")
    options = parsed([*entry[1:], *words])
    assert (options["run"], options["host"], options["port"]) == ("/model", "0.0.0.0", 8000)
    assert ["USER", "10001:10001"] in instructions


def test_the_extras_of_the_image_and_of_the_unit_are_those_of_the_project() -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name in ("Dockerfile", "sightx.service"):
        (listed,) = re.findall(r"\[([a-z,]+)\]\"", (DEPLOY / name).read_text())
        assert set(listed.split(",")) <= set(extras["optional-dependencies"])


def test_the_health_check_fails_unless_the_server_is_ready(predictor: Predictor) -> None:
    (check,) = (rest for name, rest in dockerfile() if name == "HEALTHCHECK")
    _, flag, code = json.loads(check.partition("CMD ")[2])
    with running(predictor) as server:
        port = server.port
        code = code.replace("8000", str(port))
        assert subprocess.run([sys.executable, flag, code], check=False).returncode == 0
        server.service.state = "starting"
        done = subprocess.run([sys.executable, flag, code], capture_output=True, check=False)
        assert done.returncode == 1
        server.service.state = "ready"


def test_the_commands_of_compose_and_of_the_unit_are_read() -> None:
    compose = (DEPLOY / "compose.yaml").read_text()
    (words,) = re.findall(r"command: \[(.*?)\]", compose, re.DOTALL)
    options = parsed(["serve", *(word.strip(' "') for word in words.replace("\n", "").split(","))])
    assert (options["allow_host"], options["delay"]) == (("clinic.example",), 2.0)
    (context,) = re.findall(r"context: (\S+)", compose)
    assert (DEPLOY / context / "examples/deploy/Dockerfile").is_file()
    assert "dockerfile: examples/deploy/Dockerfile" in compose
    needed = set(re.findall(r"- \./(\S+?):", compose)) | {"model", "token"}
    assert needed == {"nginx.conf", "clinic.crt", "clinic.key", "model", "token"}
    (line,) = re.findall(r"^ExecStart=\S+/sightx (.*)$", unit(), re.MULTILINE)
    assert parsed(shlex.split(line))["run"] == "/srv/sightx/model"


def unit() -> str:
    return (DEPLOY / "sightx.service").read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_knows_every_setting_of_the_unit(tmp_path: Path) -> None:
    file = tmp_path / "sightx.service"
    file.write_text(unit().replace("/opt/sightx/bin/sightx", sys.executable))
    words = ["systemd-analyze", "verify", "--man=no", str(file)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "sightx.service" in line] == []
    assert done.returncode == 0


def wait_until_open(process: subprocess.Popen[bytes], port: int) -> None:
    while process.poll() is None:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    pytest.fail("nginx does not start")


@contextmanager
def nginx(folder: Path, server: TestServer) -> Iterator[int]:
    """Run nginx with the example's configuration in front of a server; yield its port."""
    from support.serving import listen

    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=clinic.example",
         "-addext", "subjectAltName=DNS:clinic.example", "-days", "1",
         "-keyout", folder / "clinic.key", "-out", folder / "clinic.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    text = (DEPLOY / "nginx.conf").read_text()
    for old, new in {
        "/etc/nginx/": f"{folder}/",
        "server sightx:8000": f"server 127.0.0.1:{server.port}",
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "/tmp/nginx.pid": f"{folder}/nginx.pid",
        "/dev/stdout": f"{folder}/access.log",
        "/dev/stderr": f"{folder}/error.log",
    }.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "nginx.conf").write_text(text)
    words = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
    subprocess.run([*words, "-t"], check=True, capture_output=True)
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    try:
        wait_until_open(process, port)
        yield port
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_passes_photographs_pages_and_errors_on(
    predictor: Predictor, data: Path, tmp_path: Path
) -> None:
    image = (data / "test" / "light" / "0.png").read_bytes()
    hosts = frozenset({"127.0.0.1", "clinic.example"})
    with running(predictor, token=TOKEN, hosts=hosts) as server, nginx(tmp_path, server) as port:

        def ask(path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
            url = f"https://127.0.0.1:{port}{path}"
            named = {"Host": "clinic.example", "Authorization": f"Bearer {TOKEN}", **headers}
            request = urllib.request.Request(url, body, named)
            context = ssl.create_default_context(cafile=str(tmp_path / "clinic.crt"))
            context.check_hostname = False  # the address is not the name
            try:
                with urllib.request.urlopen(request, context=context, timeout=20) as answer:
                    return answer.status, answer.read()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.read()

        status, content = ask("/v1/predict", image, **{"Content-Type": "image/png"})
        assert (status, json.loads(content)["class"]) == (200, "light")
        origin = {"Content-Type": "image/png", "Origin": "https://clinic.example"}
        assert ask("/v1/predict", image, **origin)[0] == 200
        assert ask("/v1/predict", image, **origin | {"Origin": "https://evil.example"})[0] == 403
        assert ask("/")[0] == 200
        status, content = ask("/v1/predict", bytes(11_000_000), **origin)
        assert (status, json.loads(content)["error"]["code"]) == (413, "too_large")
        assert ask("/v1/predict", bytes(13_000_000), **origin)[0] == 413
        assert ask("/v1/model", Host="evil.example")[0] == 403
    log = (tmp_path / "access.log").read_text()
    assert "POST 200" in log
    assert "127.0.0.1" not in log


@pytest.fixture(scope="module")
def predictor(trained: Run) -> Predictor:
    return Predictor.load(trained.directory, "cpu")
