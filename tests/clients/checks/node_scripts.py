"""Checks that are functions of a Node script."""

import subprocess
from pathlib import Path

from report import Skip
from server import PATIENCE

FOLDER = Path(__file__).parent.parent / "node"


def checks_of(script, names):
    """One check for each function that the script exports under these names."""
    return [check_of(script, name) for name in names]


def check_of(script, name):
    def check(setting):
        if not setting.node:
            raise Skip(setting.without_node)
        command = [setting.node, "call.mjs", script, name, setting.server.url]
        run = subprocess.run(
            command, cwd=FOLDER, capture_output=True, text=True, timeout=2 * PATIENCE
        )
        assert run.returncode == 0, run.stderr[-2000:].strip()
        setting.server.wait_until_idle()

    check.__name__ = name
    return check
