"""Two replicas behind vllm-router: sessions stay where their cache is, a drain is not noticed, and a
replica that is killed loses no answer that was complete.

    python run.py FIRESIDE MODEL

FIRESIDE is the binary, MODEL a model's file or folder; FIRESIDE_DEVICE chooses the device. The router
is the package of requirements.txt beside this file; without it everything is skipped, with the
reason. Prints as Rust's test harness does; the exit code is 1 if a check fails.
"""

import importlib.util
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))

from load import Load
from processes import Replica, Router
from report import Report

# Tokens of the answers that a replica's end falls into; a step takes a tenth of a second or more
# where a software adapter runs a small model, so that the end comes long before theirs.
LONG = 48
SESSIONS = [f"session-{number}" for number in range(24)]


class Scene:
    """Two replicas and the router before them."""

    def __init__(self):
        self.replicas = []
        self.router = None
        self.load = None
        # Which replica has which session.
        self.owned = {}

    def start(self, binary, model):
        for _ in range(2):
            self.replicas.append(Replica(binary, model))
        for replica in self.replicas:
            replica.wait_until_ready()
        self.router = Router([replica.url for replica in self.replicas])
        self.load = Load(self.router.url)

    def end(self):
        for process in [self.router, *self.replicas]:
            if process:
                process.kill()

    def requests(self):
        """The requests that each replica got so far."""
        return [replica.metric("tgi_request_count") for replica in self.replicas]

    def owner(self, session):
        """The replica that a request of this session reaches."""
        before = self.requests()
        answer = self.load.answer(session, tokens=1)
        assert not answer.repeats, answer
        grown = [after - old for old, after in zip(before, self.requests())]
        assert sorted(grown) == [0, 1], f"one request, and the replicas got {grown}"
        return self.replicas[grown.index(1)]

    def sessions_of(self, replica, count):
        return [name for name, owner in self.owned.items() if owner is replica][:count]

    def under_way(self):
        """Two streams and one whole answer on each replica, all of them running."""
        answers = []
        for replica in self.replicas:
            for number, session in enumerate(self.sessions_of(replica, 3)):
                answers.append(self.load.start(session, tokens=LONG, stream=number < 2))
        for answer in answers:
            answer.wait_until_begun()
        for replica in self.replicas:
            replica.wait_for("vllm:num_requests_running", lambda running: running >= 3)
        return answers


def sessions_are_shared_out(scene):
    scene.owned = {session: scene.owner(session) for session in SESSIONS}
    counts = [list(scene.owned.values()).count(replica) for replica in scene.replicas]
    assert min(counts) >= 3, f"the replicas have {counts} of {len(SESSIONS)} sessions"
    return f"{counts[0]} and {counts[1]} of {len(SESSIONS)}"


def a_session_stays_where_its_cache_is(scene):
    replica, other = scene.replicas
    session = scene.sessions_of(replica, 1)[0]
    before, text, cached = scene.requests(), "Once upon a time", []
    for _ in range(4):
        # More than a block of the cache.
        text += " there was a fire, and by the fire sat a cat" * 3
        answer = scene.load.answer(session, prompt=text, tokens=2)
        cached.append(answer.usage["prompt_tokens_details"]["cached_tokens"])
    grown = [after - old for old, after in zip(before, scene.requests())]
    assert grown == [4, 0], f"four requests of one session, and the replicas got {grown}"
    assert cached == sorted(cached) and cached[-1] > cached[0], cached
    return f"cached tokens {cached}"


def a_drain_is_not_noticed(scene):
    replica = scene.replicas[0]
    answers = scene.under_way()
    replica.terminate()
    late = [
        scene.load.start(session, tokens=2, stream=bool(number % 2))
        for number, session in enumerate(scene.sessions_of(replica, 4))
    ]
    under_way = sum(not answer.over for answer in answers)
    code = replica.wait()
    whole(answers, LONG)
    whole(late, 2)
    repeats = [answer.repeats for answer in answers + late if answer.repeats]
    assert not repeats, f"clients had to send again: {repeats}"
    assert under_way, "all answers were over before the drain began"
    assert code == 0, f"the replica ended with {code}"
    return f"{under_way} answers under way and {len(late)} more, none sent again by a client"


def sessions_come_back_with_their_replica(scene):
    replica = scene.replicas[0]
    replica.start_again()
    scene.router.wait_until_healthy(replica.url)
    for session in scene.sessions_of(replica, 3):
        assert scene.owner(session) is replica, f"{session} stays away"


def a_kill_loses_no_complete_answer(scene):
    replica = scene.replicas[0]
    answers = scene.under_way()
    own = answers[:3]
    retries = scene.router.retries()
    replica.kill()
    cut = [answer for answer in own if not answer.over]
    late = [scene.load.start(session, tokens=2) for session in scene.sessions_of(replica, 4)]
    whole(answers, LONG)
    whole(late, 2)
    assert cut, "all answers were over before the kill"
    for answer in answers + late:
        expected = answer in cut and answer.stream
        assert bool(answer.repeats) == expected, f"{answer}: {answer.repeats}"
    streams = sum(answer.stream for answer in cut)
    by_router = scene.router.retries() - retries
    assert by_router >= len(cut) - streams, f"the router sent {by_router} again"
    return (
        f"{streams} broken streams sent again by their clients, "
        f"{by_router:.0f} requests by the router, {len(answers) + len(late)} of "
        f"{len(answers) + len(late)} answered"
    )


def whole(answers, tokens):
    """Each answer came, with all its tokens."""
    for answer in answers:
        answer.wait()
        assert answer.failure is None, f"{answer}: {answer.failure}"
        assert answer.usage["completion_tokens"] == tokens, f"{answer}: {answer.usage}"


CHECKS = [
    sessions_are_shared_out,
    a_session_stays_where_its_cache_is,
    a_drain_is_not_noticed,
    sessions_come_back_with_their_replica,
    a_kill_loses_no_complete_answer,
]


def main():
    if len(sys.argv) != 3:
        print("usage: run.py FIRESIDE MODEL", file=sys.stderr)
        return 2
    report = Report()
    if importlib.util.find_spec("vllm_router") is None:
        lacking = "vllm-router is not installed; expected the packages of requirements.txt"
        for check in CHECKS:
            report.add(f"scale_out::{check.__name__}", skip=lacking)
        return report.conclude()
    scene = Scene()
    try:
        scene.start(*sys.argv[1:3])
        for check in CHECKS:
            report.run(f"scale_out::{check.__name__}", check, scene)
    except (OSError, RuntimeError, TimeoutError) as error:
        report.add("scale_out::the_scene_is_set", why=f"{type(error).__name__}: {error}")
    finally:
        scene.end()
    return report.conclude()


if __name__ == "__main__":
    sys.exit(main())
