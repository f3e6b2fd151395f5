"""Finds damaged files by their format: archives, tensors, JSON, sqlite databases."""

import json
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path


def file_fault(path: Path) -> str | None:
    """Why a state or output file cannot be read; None if it is intact, or of a type without a check."""
    try:
        if path.suffix in (".pt", ".zip"):
            with zipfile.ZipFile(path) as archive:
                bad = archive.testzip()
            return f"damaged ({bad} fails its checksum)" if bad else None
        if path.suffix == ".safetensors":
            with path.open("rb") as file:
                header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
                ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
                whole = file.tell() + max(ends, default=0)
            return None if path.stat().st_size == whole else "damaged (cut off)"
        if path.suffix in (".json", ".jsonl"):
            text = path.read_text()
            for part in text.splitlines() if path.suffix == ".jsonl" else [text]:
                json.loads(part)
    except (zipfile.BadZipFile, ValueError, KeyError, OSError, EOFError, MemoryError, OverflowError) as error:
        return f"damaged ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
    return None


def database_fault(path: Path) -> str | None:
    """Why a sqlite file cannot be read; None if it is intact or does not exist."""
    if not path.exists():
        return None
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=2)) as database:
            (said,) = database.execute("PRAGMA quick_check(1)").fetchone()
        return None if said == "ok" else f"damaged database ({said})"
    except sqlite3.DatabaseError as error:
        return f"unreadable database ({error})"
