"""Real clients against a real server.

    python run.py FIRESIDE MODEL [--node NODE] [--without-node REASON]
        [--embedding-model FOLDER] [--only MODULE...]

FIRESIDE is the binary, MODEL a chat model's file. The packages are those of requirements.txt and
of node/package.json. Prints as Rust's test harness does; the exit code is 1 if a check fails.
"""

import argparse
import sys
from dataclasses import dataclass

from checks import (
    ai_sdk,
    bodies,
    course,
    departures,
    embeddings,
    files,
    huggingface,
    keys,
    langchain,
    loras,
    openai_node,
    openai_python,
    overload,
    rerank,
    schema,
    shutdown,
    sockets,
    texts,
)
from report import Report
from server import Server

# Each module lists its CHECKS, functions of a setting. Those with OPTIONS get a server with these,
# those with OWN start servers themselves, all others share one with the defaults.
MODULES = [
    openai_python,
    huggingface,
    langchain,
    course,
    openai_node,
    ai_sdk,
    texts,
    bodies,
    sockets,
    departures,
    overload,
    keys,
    schema,
    shutdown,
    files,
    embeddings,
    loras,
    rerank,
]


@dataclass
class Setting:
    """What a check has to work with."""

    binary: str
    model: str
    node: str | None = None
    without_node: str = "no node was named"
    embedding_model: str | None = None
    server: Server | None = None

    def start(self, *options, model=None, **more):
        """A server of the check's own."""
        return Server(self.binary, model or self.model, *options, **more)


def short(module):
    return module.__name__.rpartition(".")[2]


def run(report, module, setting):
    """Runs a module's checks; a server that they share must be well after each."""
    for check in module.CHECKS:
        server = setting.server

        def checked(check=check, server=server):
            remark = check(setting)
            if server:
                server.check_health()
            return remark

        report.run(f"{short(module)}::{check.__name__}", checked)


def run_on_one(report, modules, options, setting):
    """Runs modules on one server, which must end well."""
    name = "_and_".join(short(module) for module in modules) if options else "defaults"
    try:
        server = setting.start(*options)
    except Exception as error:
        report.add(f"server_with_{name}::starts", why=str(error))
        return
    with server:
        setting.server = server
        for module in modules:
            run(report, module, setting)
        setting.server = None

        def ends():
            server.wait_until_idle()
            server.terminate()
            code = server.exit_code()
            assert code == 0, f"the server ended with {code}: {server.log[-1:]}"

        report.run(f"server_with_{name}::is_idle_at_last_and_ends_well", ends)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("model")
    parser.add_argument("--node")
    parser.add_argument("--embedding-model", metavar="FOLDER")
    parser.add_argument("--without-node", default="no node was named", metavar="REASON")
    parser.add_argument("--only", nargs="+", choices=[short(module) for module in MODULES])
    given = parser.parse_args()
    setting = Setting(
        given.binary, given.model, given.node, given.without_node, given.embedding_model
    )
    chosen = [module for module in MODULES if not given.only or short(module) in given.only]
    report = Report()
    shared = [m for m in chosen if not hasattr(m, "OPTIONS") and not hasattr(m, "OWN")]
    if shared:
        run_on_one(report, shared, [], setting)
    for module in chosen:
        if hasattr(module, "OPTIONS"):
            run_on_one(report, [module], module.OPTIONS, setting)
        elif hasattr(module, "OWN"):
            run(report, module, setting)
    return report.conclude()


if __name__ == "__main__":
    sys.exit(main())
