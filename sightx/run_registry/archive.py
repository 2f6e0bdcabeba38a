"""A run as one ZIP file, and back: the same run gives the same bytes, and every hash is checked."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from sightx.errors import Problem, RunError, SpecError, counted
from sightx.io import atomic
from sightx.io.files import file_sha256, shell_path
from sightx.io.system import format_bytes
from sightx.runs import lock, names, sums
from sightx.runs.names import TEMPORARY

_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a ZIP file can hold
_STORED = (".safetensors", ".npy", ".png", ".jpg", ".zip")  # deflating them gains nothing
_BLOCK = 1 << 20
_MAX_FILES = 1_000_000
_MAX_NAME = 4096
_MAX_RATIO, _FREE_SIZE = 200, 100_000_000  # what a run can unpack to, relative and in bytes


def archive_run(directory: Path, file: Path) -> int:
    """Write a run into a ZIP file, read it back to verify it, and return the number of files.

    The archive has a folder with the run's id, and the hashes of all its files; tags and notes are
    part of it, its lock is not. Raises RunError if the run is being written or a file of it is not
    the one that SHA256SUMS names; SpecError if `file` is something else than this archive;
    ResourceError if the archive cannot be written.
    """
    lock.require_unlocked(directory)
    members = [*sums.summed_files(directory)]
    if (directory / "about.json").is_file():
        members = sorted([*members, "about.json"])
    hashes = _verified_hashes(directory, members)
    temporary = file.with_name(f"{atomic.TEMPORARY}{directory.name}-{file.name}")
    with atomic.disk_errors(file.parent):
        try:
            with zipfile.ZipFile(temporary, "w", allowZip64=True) as archive:
                for name in members:
                    _add(archive, directory, name)
                content = "".join(sums.sum_line(name, hashes[name]) for name in members)
                _write(archive, f"{directory.name}/{sums.FILE}", content.encode())
            read_archive(temporary, None)
            if file.exists() and file_sha256(file) != file_sha256(temporary):
                hint = "name another file, or remove it"
                raise SpecError(Problem("usage", f"{file} exists, with other content", hint))
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
    return len(members)


def import_archive(file: Path, root: Path) -> tuple[Path, bool]:
    """Unpack an archived run into a folder of runs; return its directory, and whether it is new.

    A run that is there already, with the same files, is left alone. Raises RunError for an archive
    that is damaged or could write outside, and for another run of the same id.
    """
    root.mkdir(parents=True, exist_ok=True)
    temporary = root / f"{TEMPORARY}import-{secrets.token_hex(4)}"
    with atomic.disk_errors(root):
        try:
            name = read_archive(file, temporary)
            target = root / name
            if target.exists():
                _require_same(file, temporary, target)
                return target, False
            sums.forget_sums(temporary, ["about.json"])  # tags may change again
            atomic.fsync(temporary)
            temporary.rename(target)
            atomic.fsync(root)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target, True


def read_archive(file: Path, target: Path | None) -> str:
    """Check every file of an archive, and unpack it into a new folder; None only checks it.

    Returns the id of the run. Raises RunError.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            name, members = _members(file, archive)
            hashes = _recorded_hashes(file, archive, name, members)
            for member, info in members.items():
                path = target / member if target else None
                if path:
                    path.parent.mkdir(parents=True, exist_ok=True)
                digest = _unpack(archive, info, path)
                if member != sums.FILE and hashes.get(member) != digest:
                    raise _bad(file, f"{member} differs from its hash in {sums.FILE}")
            if missing := hashes.keys() - members.keys():
                raise _bad(file, f"{min(missing)} is missing")
    except (
        zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeError, ValueError,
    ) as error:  # fmt: skip
        raise _bad(file, str(error) or type(error).__name__) from error
    return name


def _members(file: Path, archive: zipfile.ZipFile) -> tuple[str, dict[str, zipfile.ZipInfo]]:
    """Return the id of the run, and its files by name. Raises RunError for what is not a run."""
    infos = archive.infolist()
    size = sum(info.file_size for info in infos)
    if len(infos) > _MAX_FILES or size > _MAX_RATIO * file.stat().st_size + _FREE_SIZE:
        raise _bad(
            file, f"it would unpack to {counted(len(infos), 'file')} and {format_bytes(size)}"
        )
    folders, members = set(), {}
    for info in infos:
        path = PurePosixPath(info.filename)
        parts = path.parts
        is_plain = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
        is_inside = not path.is_absolute() and ".." not in parts
        if not (is_plain and is_inside and len(parts) > 1) or len(info.filename) > _MAX_NAME:
            raise _bad(file, f"{info.filename[:80]!r} is not a file of a run")
        if info.filename != str(path) or "/".join(parts[1:]) in members:
            raise _bad(file, f"{info.filename[:80]!r} is there twice")
        folders.add(parts[0])
        members["/".join(parts[1:])] = info
    if len(folders) != 1 or "experiment.toml" not in members or sums.FILE not in members:
        raise _bad(file, "it does not hold one run")
    (name,) = folders
    if name.startswith(".") or len(name) > names.MAX_NAME_LENGTH:
        raise _bad(file, f"{name[:80]!r} is not the id of a run")
    return name, members


def _recorded_hashes(
    file: Path, archive: zipfile.ZipFile, name: str, members: dict[str, zipfile.ZipInfo]
) -> dict[str, str]:
    limit = _MAX_NAME * len(members)
    with archive.open(f"{name}/{sums.FILE}") as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise _bad(file, f"{sums.FILE} is too large")
    return sums.parse_sums(content.decode(), f"{file}/{sums.FILE}")


def _unpack(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path | None) -> str:
    """Return the hash of a file, and write it; never more bytes than it declares."""
    digest, left = hashlib.sha256(), info.file_size
    if path:
        atomic.require_free_space(path.parent, left)
    with archive.open(info) as stream, _output(path) as output:
        while block := stream.read(min(_BLOCK, left + 1)):
            left -= len(block)
            if left < 0:
                raise ValueError(f"{info.filename} is larger than it declares")
            digest.update(block)
            output.write(block)
    return digest.hexdigest()


def _output(path: Path | None) -> BinaryIO:
    return Path(os.devnull).open("wb") if path is None else path.open("xb")


def _verified_hashes(directory: Path, members: list[str]) -> dict[str, str]:
    """Return the hash of each file. Raises RunError if one has changed since the run ended."""
    recorded, hashes = sums.read_sums(directory), {}
    for name in members:
        hashes[name] = file_sha256(directory / name)
        if recorded.get(name, hashes[name]) != hashes[name]:
            hint = "restore the file: sha256sum -c SHA256SUMS lists all that differ"
            message = f"{name} has changed since the run ended"
            raise RunError(Problem("bad-run", message, hint, file=directory.name))
    if missing := recorded.keys() - hashes.keys():
        message, hint = f"{min(missing)} is missing", "restore the file"
        raise RunError(Problem("bad-run", message, hint, file=directory.name))
    return hashes


def _add(archive: zipfile.ZipFile, directory: Path, name: str) -> None:
    info = _info(f"{directory.name}/{name}")
    with (
        (directory / name).open("rb") as source,
        archive.open(info, "w", force_zip64=True) as target,
    ):
        shutil.copyfileobj(source, target, _BLOCK)


def _write(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(_info(name), content)


def _info(name: str) -> zipfile.ZipInfo:
    """Return an entry that depends on nothing but its name."""
    info = zipfile.ZipInfo(name, _TIME)
    info.compress_type = zipfile.ZIP_STORED if name.endswith(_STORED) else zipfile.ZIP_DEFLATED
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    info.create_system = 3
    return info


def _require_same(file: Path, new: Path, existing: Path) -> None:
    """Raise RunError unless a run has the same files, apart from tags and notes."""

    def hashes(directory: Path) -> Iterator[tuple[str, str]]:
        for name in sums.summed_files(directory):
            yield name, file_sha256(directory / name)

    before, now = dict(hashes(existing)), dict(hashes(new))
    if before != now:
        name = min(key for key in before | now if before.get(key) != now.get(key))
        message = f"{existing.name} is there already, and its {name} differs"
        hint = f"sightx remove-run {shell_path(existing)} moves that run to the trash"
        raise RunError(Problem("bad-archive", message, hint, file=str(file)))


def _bad(file: Path, reason: str) -> RunError:
    hint = "archive the run again: sightx archive RUN -o FILE.zip"
    return RunError(Problem("bad-archive", reason, hint, file=str(file)))
