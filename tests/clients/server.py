"""Servers to test: the real command on a free port, its health and its metrics."""

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

NAME = "tested"
# Seconds after which what should come does not: a fault, not a measurement.
PATIENCE = 240


def until(what, holds, patience=PATIENCE):
    """Asks until a condition holds, and gives what it then is."""
    end = time.monotonic() + patience
    while not (value := holds()):
        assert time.monotonic() < end, f"{what} does not come"
        time.sleep(0.02)
    return value


class Server:
    """`fireside serve`, ended with its `with` block. Ready to answer unless `wait` is false."""

    def __init__(self, binary, model, *options, wait=True):
        command = [binary, "serve", "--model", model, "--port", "0", "--served-model-name", NAME]
        # The settings of whoever runs the tests are not part of them.
        kept = ("FIRESIDE_DEVICE", "FIRESIDE_LOG")
        environment = {
            name: value
            for name, value in os.environ.items()
            if name in kept or not name.startswith("FIRESIDE_")
        }
        self.process = subprocess.Popen(
            command + list(options),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        said = self.process.stdout.readline().strip()
        if not said.startswith("listening on "):
            raise AssertionError(f"the server says {said!r} and {self.process.stderr.read()!r}")
        self.url = said.removeprefix("listening on ")
        host, port = self.url.removeprefix("http://").rsplit(":", 1)
        self.address = (host, int(port))
        self.log = []
        self.reader = threading.Thread(
            target=lambda: self.log.extend(self.process.stderr), daemon=True
        )
        self.reader.start()
        if wait:
            try:
                until("readiness", self.is_ready)
            except AssertionError:
                self.kill()
                raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def is_ready(self):
        if self.process.poll() is not None:
            self.reader.join()
            raise AssertionError(f"the server ended: {self.log[-1:]}")
        return self.status("/health/ready") == 200

    def status(self, path):
        try:
            return urllib.request.urlopen(self.url + path, timeout=PATIENCE).status
        except urllib.error.HTTPError as error:
            return error.code

    def json(self, path):
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE) as reply:
            return json.load(reply)

    def check_health(self):
        """It lives and answers."""
        assert self.process.poll() is None, f"the server ended: {self.log[-1:]}"
        for path in ("/health", "/health/ready"):
            status = self.status(path)
            assert status == 200, f"{path} answers {status} afterwards"
        panics = [line for line in self.log if "panicked at" in line]
        assert not panics, panics[0]

    def metrics(self):
        """The value of each metric by its name, summed over labels that are not asked for."""
        with urllib.request.urlopen(self.url + "/metrics", timeout=PATIENCE) as reply:
            return Metrics(reply.read().decode())

    def running(self):
        return self.metrics().value("vllm:num_requests_running")

    def waiting(self):
        return self.metrics().value("vllm:num_requests_waiting")

    def is_idle(self):
        """Nothing runs, nothing waits and every block of the cache is free."""
        metrics = self.metrics()
        gauges = (
            "vllm:num_requests_running",
            "vllm:num_requests_waiting",
            "vllm:kv_cache_usage_perc",
            "tgi_batch_current_size",
            "tgi_queue_size",
        )
        return all(metrics.value(name) == 0 for name in gauges)

    def wait_until_idle(self):
        until("an idle engine", self.is_idle)

    def memory(self):
        """Bytes in memory; none where the system does not tell."""
        try:
            with open(f"/proc/{self.process.pid}/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            return None

    def connect(self):
        connection = socket.create_connection(self.address, timeout=PATIENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self):
        """Waits for its end."""
        code = self.process.wait(timeout=PATIENCE)
        self.reader.join()
        return code

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()
        self.process.stderr.close()


class Metrics:
    """What `/metrics` said at one time."""

    LINE = re.compile(r"^([^\s{#]+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)

    def __init__(self, text):
        self.lines = [
            (name, dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value))
            for name, labels, value in self.LINE.findall(text)
        ]

    def value(self, name, **labels):
        found = [
            value
            for own, given, value in self.lines
            if own == name and labels.items() <= given.items()
        ]
        assert found, f"there is no metric {name} with {labels}"
        return sum(found)
