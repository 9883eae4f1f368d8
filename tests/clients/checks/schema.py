"""schemathesis: requests made up from the server's own OpenAPI document, right and wrong ones."""

import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

# Answers stay short and few, whatever is asked for; a chat's template alone has some thirty tokens.
OPTIONS = ["--max-total-tokens", "40", "--max-queued-requests", "4"]
DOCUMENT = "/api-doc/openapi.json"
# Left out: whether what the document allows is taken, as some fields need others, which it cannot
# say; and whether what it forbids is refused, as fields that are not needed may be anything.
CHECKS_OF_ANSWERS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "unsupported_method",
    "allow_header_conformance",
]


def every_route_is_documented(setting):
    paths = setting.server.json(DOCUMENT)["paths"]
    served = """
        / /embed /generate /generate_stream /tokenize /detokenize /chat_tokenize /info /version /metrics
        /health /health/ready /ping
        /v1/chat/completions /v1/completions /v1/embeddings /v1/models /v1/models/{id}
        /v1/load_lora_adapter /v1/unload_lora_adapter
    """.split()
    missing = sorted(set(served) - set(paths))
    assert not missing, f"{DOCUMENT} lacks {', '.join(missing)}"
    assert setting.server.status("/docs/") == 200


def answers_are_as_documented(setting):
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).parent / "st"), "run", setting.server.url + DOCUMENT]
        command += ["--phases", "examples,coverage,fuzzing", "--max-examples", "5"]
        command += ["--checks", ",".join(CHECKS_OF_ANSWERS), "--generation-deterministic"]
        # One worker: making up requests is not safe on several threads, and the server is what takes time.
        command += ["--continue-on-failure", "--request-timeout", "60", "--workers", "1"]
        command += ["--suppress-health-check", "all", "--no-color"]
        run = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=900, check=False
        )
    lines = run.stdout.splitlines()
    sums = [line.strip() for line in lines if "generated" in line]
    told = itertools.dropwhile(lambda line: not line.startswith("=="), lines)
    assert run.returncode == 0, "\n".join([*itertools.islice(told, 200), run.stderr[-500:]])
    return "".join(sums)


CHECKS = [every_route_is_documented, answers_are_as_documented]
