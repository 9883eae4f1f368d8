"""Models and options that are no good: the command ends with one line that says why."""

import subprocess
import tempfile
from pathlib import Path

from server import PATIENCE

OWN = True


def ends_with_a_line(setting, *arguments):
    """What the command says on its way out."""
    command = [setting.binary, "serve", "--port", "0", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    said = run.stderr.strip()
    assert run.returncode not in (0, 101) and run.returncode > 0, (run.returncode, said)
    assert "panicked" not in said, said
    errors = [line for line in said.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and len(errors[0]) < 1000, said
    return errors[0]


def broken_models(setting):
    data = Path(setting.model).read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        for name, content in {
            "empty.gguf": b"",
            "other.gguf": b"not a model at all",
            "head.gguf": data[:20],
            "middle.gguf": data[: len(data) // 2],
            "huge.gguf": data[:8] + b"\xff" * 16,
        }.items():
            file = Path(folder, name)
            file.write_bytes(content)
            error = ends_with_a_line(setting, "--model", str(file))
            assert name in error, error
        error = ends_with_a_line(setting, "--model", str(Path(folder, "missing.gguf")))
        assert "missing.gguf" in error, error


def options_that_mean_nothing(setting):
    unnamed = []
    for options in (
        ["--max-concurrent-requests", "0"],
        ["--max-batch-size", "0"],
        ["--max-batch-prefill-tokens", "0"],
        ["--payload-limit=-1"],
        ["--request-timeout", "soon"],
        ["--api-key", ""],
        ["--api-key-file", "there/is/none"],
        ["--host", "nowhere"],
        ["--port", "70000"],
    ):
        error = ends_with_a_line(setting, "--model", setting.model, *options)
        name = options[0].removeprefix("--").split("=")[0]
        if name not in error and name.replace("-", "_") not in error:
            unnamed.append((*options, error))
    assert not unnamed, unnamed


CHECKS = [broken_models, options_that_mean_nothing]
