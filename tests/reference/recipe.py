"""Says how a fixture was made: package versions and file hashes for its header."""

import hashlib
import platform
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("gguf", "numpy", "safetensors", "tokenizers", "torch", "transformers")
FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"


def packages():
    """Versions of every package that takes part, and of Python itself."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def sha256(path):
    """Lower-case hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
