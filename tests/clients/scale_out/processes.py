"""The processes of the scene: replicas of the server, and the router."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

# Seconds that anything that is waited for may take.
PATIENCE = 120
PAUSE = 0.05


def until(what, condition):
    """Waits for a condition, as long as is reasonable."""
    deadline = time.monotonic() + PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {PATIENCE} s")
        time.sleep(PAUSE)


def get(url):
    """Status and text of a page; status 0 where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def value(text, name, **labels):
    """The sum of a metric's values that have these labels."""
    total = 0.0
    for line in text.splitlines():
        found = re.fullmatch(rf"{re.escape(name)}(?:\{{(.*)\}})? (\S+)", line)
        wanted = [f'{key}="{label}"' for key, label in labels.items()]
        if found and all(label in (found[1] or "") for label in wanted):
            total += float(found[2])
    return total


class Process:
    """A process whose output is kept, for the message when it fails."""

    def launch(self, command):
        environment = os.environ | {"FIRESIDE_LOG": "warn", "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        self.log = []
        self.first = threading.Event()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.log.append(line.rstrip())
            self.first.set()
        self.first.set()

    def running(self, what):
        """Raises where the process has ended."""
        if self.process.poll() is not None:
            last = self.log[-1] if self.log else "nothing"
            raise RuntimeError(f"{what} ended with {self.process.returncode} and said: {last}")

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def wait(self):
        return self.process.wait(timeout=PATIENCE)


class Replica(Process):
    """A server."""

    def __init__(self, binary, model):
        self.command = [binary, "serve", "--model", model, "--served-model-name", "tested"]
        self.listen(0)

    def listen(self, port):
        self.launch([*self.command, "--port", str(port)])
        listening = "listening on "
        self.first.wait(PATIENCE)
        said = [line for line in self.log if line.startswith(listening)]
        if not said:
            raise RuntimeError(f"the server says {' '.join(self.log)}")
        self.url = said[0].removeprefix(listening)

    def wait_until_ready(self):
        def ready():
            self.running("the server")
            return get(self.url + "/health/ready")[0] == 200

        until("a server is ready", ready)

    def start_again(self):
        """Starts anew on the same port."""
        self.listen(self.url.rsplit(":", 1)[1])
        self.wait_until_ready()

    def metric(self, name):
        return value(get(self.url + "/metrics")[1], name)

    def wait_for(self, name, condition):
        until(name, lambda: condition(self.metric(name)))


class Router(Process):
    """vllm-router with consistent hashing, which looks at readiness every second."""

    def __init__(self, workers):
        port, metrics = free_ports(2)
        self.url = f"http://127.0.0.1:{port}"
        self.metrics = f"http://127.0.0.1:{metrics}/metrics"
        options = {
            "--host": "127.0.0.1",
            "--port": port,
            "--policy": "consistent_hash",
            "--health-check-endpoint": "/health/ready",
            "--health-check-interval-secs": 1,
            "--health-failure-threshold": 1,
            "--health-success-threshold": 1,
            "--cb-timeout-duration-secs": 1,
            "--worker-startup-check-interval": 1,
            "--prometheus-port": metrics,
        }
        line = [str(part) for option in options.items() for part in option]
        module = [sys.executable, "-m", "vllm_router.launch_router"]
        self.launch([*module, *line, "--worker-urls", *workers])

        def ready():
            self.running("the router")
            return get(self.url + "/health")[0] == 200

        until("the router is ready", ready)

    def retries(self):
        """The requests that the router sent again."""
        return value(get(self.metrics)[1], "vllm_router_retries_total")

    def wait_until_healthy(self, worker):
        def healthy():
            text = get(self.metrics)[1]
            up = value(text, "vllm_router_worker_health", worker=worker)
            return up == 1

        until("the router takes the replica back", healthy)


def free_ports(count):
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
