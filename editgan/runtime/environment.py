"""Environment variables that keep the files of every tool inside the project folder.

Imports only the standard library, because the Makefile calls it before anything is installed:
`eval "$(python3 editgan/runtime/environment.py)"` sets the environment of a shell.
"""

import contextlib
import http.client
import json
import os
import pwd
import shlex
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[2]

# A tracking address given here or in MLFLOW_TRACKING_URI replaces the project's own sqlite file.
TRACKING_VARIABLES = ("EDITGAN_TRACKING_URI", "MLFLOW_TRACKING_URI")
LONG_TMPDIR = "EDITGAN_LONG_TMPDIR"  # the caller's TMPDIR, if it was replaced
TMPDIR_BYTES = 75  # a socket's path has at most 107 bytes, of which Python's names in TMPDIR need 32
HEALTH = {"mlflow": "/health", "prefect": "/api/health"}  # paths of the health checks of the servers


def home_project(root: Path = PROJECT_ROOT) -> Path:
    """The project whose caches and MLflow store `root` uses: itself, or the outermost one around a checkout (runs/NAME,
    DVC's temporary experiment folders)."""
    home = root
    for parent in root.parents:
        if (parent / "dvc.yaml").exists() and (parent / "editgan").is_dir():
            home = parent
    return home


def given_store() -> str | None:
    """Address of the user's MLflow store, if one is set."""
    return next((os.environ[name] for name in TRACKING_VARIABLES if os.environ.get(name)), None)


def store_uri(root: Path = PROJECT_ROOT) -> str:
    """Address of the MLflow store: the user's, else an absolute path to mlflow.db in the home project."""
    return given_store() or f"sqlite:///{home_project(root) / 'mlflow.db'}"


def tracking_uri(root: Path = PROJECT_ROOT) -> str:
    """Where runs are recorded: the user's store, else the running server of `make serve`, else the project's file."""
    return given_store() or running_servers(root).get("mlflow") or store_uri(root)


def servers_file(root: Path = PROJECT_ROOT) -> Path:
    """The file with the addresses of the servers of `make serve`, as JSON by name."""
    return home_project(root) / ".cache" / "servers.json"


def running_servers(root: Path = PROJECT_ROOT) -> dict[str, str]:
    """Address by name ("mlflow", "prefect") of every server in that file that answers."""
    try:
        recorded = json.loads(servers_file(root).read_text())
    except (OSError, ValueError):
        return {}
    known = {name: recorded[name] for name in HEALTH if name in recorded} if isinstance(recorded, dict) else {}
    return {name: url for name, url in known.items() if answers(f"{url}{HEALTH[name]}")}


def answers(url: str, *, if_busy: bool = False) -> bool:
    """Whether an address answers with success; `if_busy`: the result if it does not answer in time."""
    try:
        with urllib.request.urlopen(url, timeout=5 if if_busy else 2) as reply:
            return reply.status == 200
    except (OSError, ValueError, http.client.HTTPException) as error:
        return if_busy and isinstance(getattr(error, "reason", error), TimeoutError)


def artifact_folder(root: Path = PROJECT_ROOT) -> Path:
    """Folder of MLflow's artifacts for the sqlite store."""
    return home_project(root) / "mlartifacts"


def has_avx2() -> bool:
    """Whether Linux lists AVX2 among the instructions of this processor."""
    try:
        return " avx2 " in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def project_environment(root: Path = PROJECT_ROOT) -> dict[str, str]:
    """Variables for every process of the project: telemetry off, caches in `.cache/`, short timeouts.

    They replace the caller's settings of telemetry, but not of caches and timeouts.
    """
    cache = home_project(root) / ".cache"
    caches = {
        "XDG_CACHE_HOME": cache,
        "EDITGAN_ASSET_CACHE": cache / "assets",
        "PIP_CACHE_DIR": cache / "pip",
        "npm_config_cache": cache / "npm",
        "MPLCONFIGDIR": cache / "matplotlib",
        "TORCH_HOME": cache / "torch",
        "TORCHINDUCTOR_CACHE_DIR": cache / "inductor",
        "TRITON_CACHE_DIR": cache / "triton",
        "PREFECT_HOME": cache / "prefect",
        "DVC_SITE_CACHE_DIR": cache / "dvc-site",
        "DVC_GLOBAL_CONFIG_DIR": cache / "dvc-config",
    }
    settings = {
        # Threads of a process spin while they wait for each other. If another program uses the CPU, steps become a
        # hundred times slower. Sleeping after a thousand spins costs 6 % on an idle machine.
        "GOMP_SPINCOUNT": "1000",
        # Requests to a missing MLflow server are repeated after 0, 4, 8 and 16 s, so it can be started again.
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven more processes that nothing here uses
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        # The default forgets in a restart of the server which slots are held by a killed flow.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    }
    if has_avx2():
        # NumPy's matrix products round by kernel. A fixed one gives the same rendered heads on all these processors.
        settings["OPENBLAS_CORETYPE"] = "Haswell"
    chosen = {name: os.environ.get(name) or str(value) for name, value in {**caches, **settings}.items()}
    telemetry_off = {
        "DO_NOT_TRACK": "true",  # MLflow accepts only "true"
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    direct = _without_proxy(os.environ)
    return chosen | telemetry_off | {"NO_PROXY": direct, "no_proxy": direct} | _usable(root)


def private_home(root: Path = PROJECT_ROOT) -> Path:
    """The folder that replaces HOME where that cannot be used."""
    return home_project(root) / ".cache" / "home"


def named_user() -> bool:
    """Whether the user id has a name (in a container it may have none)."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return True


def _usable(root: Path) -> dict[str, str]:
    """Replacements of what the tools cannot use: HOME, the user's name, and a TMPDIR that is too long for sockets."""
    replaced, home = {}, os.environ.get("HOME", "")
    if home in ("", "/") or not os.path.isdir(home) or not os.access(home, os.W_OK | os.X_OK):
        replaced["HOME"] = str(private_home(root))
        if os.access(settings := os.path.join(home, ".gitconfig"), os.R_OK) and "GIT_CONFIG_GLOBAL" not in os.environ:
            replaced["GIT_CONFIG_GLOBAL"] = settings
    if not named_user():
        name = os.environ.get("USER") or os.environ.get("LOGNAME") or f"user{os.getuid()}"
        replaced |= {"USER": name, "LOGNAME": name}
    given = os.environ.get("TMPDIR", "")
    if len(os.fsencode(given)) > TMPDIR_BYTES:
        short = next((folder for folder in ("/tmp", "/var/tmp") if os.access(folder, os.W_OK | os.X_OK)), None)
        replaced |= {"TMPDIR": short, LONG_TMPDIR: given} if short else {}
    return replaced


def _without_proxy(environment: Mapping[str, str]) -> str:
    """Hosts without a proxy: the user's, from both spellings of the variable, and this machine."""
    named = ",".join(environment.get(name, "") for name in ("no_proxy", "NO_PROXY")).split(",")
    hosts = dict.fromkeys(host for name in (*named, "127.0.0.1", "localhost") if (host := name.strip()))
    return "*" if "*" in hosts else ",".join(hosts)


def apply_environment(root: Path = PROJECT_ROOT) -> None:
    """Apply the project's environment to this process and its children; call it before importing the tools."""
    os.environ.update(project_environment(root))
    tempfile.tempdir = None  # it may hold the former TMPDIR
    if os.environ["HOME"] == str(private_home(root)):
        with contextlib.suppress(OSError):  # the project cannot be written to: `surroundings` names it
            os.makedirs(private_home(root), exist_ok=True)


if __name__ == "__main__":
    variables = project_environment()
    apply_environment()  # makes the folder that may replace HOME
    sys.stdout.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
