"""Runs checks and prints them as Rust's test harness prints tests."""

import sys
import time
import traceback


class Skip(Exception):
    """The check cannot run here; says why."""


class Report:
    """The checks so far."""

    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.skipped = 0

    def run(self, name, check, *arguments):
        """Runs one check; an exception is its failure."""
        began = time.monotonic()
        try:
            remark = check(*arguments)
        except Skip as skip:
            self.add(name, skip=str(skip))
        except Exception as error:  # each check is told for itself
            frames = traceback.extract_tb(error.__traceback__)
            # The place in the tests, however deep in a library it went wrong.
            own = [frame for frame in frames if "/tests/clients/" in frame.filename]
            place = (own or frames)[-1]
            why = f"{type(error).__name__}: {error}"[:6000]
            self.add(name, why=f"{why} at {place.filename}:{place.lineno}: {place.line}")
        else:
            seconds = f"{time.monotonic() - began:.1f} s"
            self.add(name, remark=f"{seconds}, {remark}" if remark else seconds)

    def add(self, name, why=None, skip=None, remark=None):
        """Counts and prints one check."""
        if skip:
            self.skipped += 1
            verdict = f"ignored, {' '.join(skip.split())}"
        elif why:
            self.failed += 1
            verdict, remark = "FAILED", why
        else:
            self.passed += 1
            verdict = "ok"
        print(f"test {name} ... {verdict}")
        if remark:
            print("\n".join(f"    {line}" for line in remark.splitlines()))
        sys.stdout.flush()

    def conclude(self):
        """Prints the sums, and gives the exit code."""
        verdict = "FAILED" if self.failed else "ok"
        print(
            f"test result: {verdict}. {self.passed} passed; {self.failed} failed; "
            f"{self.skipped} ignored; 0 measured; 0 filtered out"
        )
        return 1 if self.failed else 0
