"""Jobs of many sessions: whose turn it is, who waits, and what is cancelled."""

import logging

from lib.test.web.jobs import Job, Places, Turns
from lib.utils.errors import UserError


def quiet(reason):
    raise AssertionError(reason)


def run(turns, steps=1000):
    """Steps until nothing can be done."""
    done = 0
    while done < steps and turns.step():
        done += 1
    return done


def test_owners_take_turns_however_many_jobs_they_have():
    turns, log = Turns(), []

    def steps(name, count):
        for _ in range(count):
            log.append(name)
            yield None

    for kind in ("track", "show", "export"):
        turns.begin("greedy", kind, Job(steps("greedy", 5), quiet))
    turns.begin("modest", "track", Job(steps("modest", 5), quiet))
    turns.begin("third", "track", Job(steps("third", 2), quiet))
    run(turns)
    assert log[:6] == ["greedy", "modest", "third"] * 2
    assert log[6:12] == ["greedy", "modest"] * 3
    assert log.count("greedy") == 15


def test_an_owners_jobs_take_turns_too():
    turns, log = Turns(), []

    def steps(name):
        for _ in range(3):
            log.append(name)
            yield None

    for kind in ("a", "b"):
        turns.begin("owner", kind, Job(steps(kind), quiet))
    run(turns)
    assert log == ["a", "b"] * 3


def test_who_waits_holds_up_nobody():
    turns, log, open_gates = Turns(), [], set()

    def steps(name):
        for index in range(3):
            yield lambda: name in open_gates
            log.append((name, index))

    for name in ("slow", "fast"):
        turns.begin(name, "track", Job(steps(name), quiet))
    open_gates.add("fast")
    run(turns)
    assert log == [("fast", 0), ("fast", 1), ("fast", 2)]
    assert not turns.step()
    open_gates.add("slow")
    run(turns)
    assert log[3:] == [("slow", 0), ("slow", 1), ("slow", 2)]


def test_cancelling_runs_what_cleans_up_and_leaves_the_others():
    turns, log = Turns(), []

    def steps(name):
        try:
            while True:
                yield None
        finally:
            log.append(name)

    for owner, kind in (("a", "track"), ("a", "show"), ("b", "track")):
        turns.begin(owner, kind, Job(steps(owner + kind), quiet))
    run(turns, 6)
    assert turns.cancel("a", "show")
    assert not turns.cancel("a", "show")
    assert log == ["ashow"]
    turns.begin("a", "track", Job(steps("again"), quiet))  # takes the place of the one before
    assert log == ["ashow", "atrack"]
    run(turns, 4)
    assert turns.cancel("a")
    assert log == ["ashow", "atrack", "again"]
    assert run(turns, 10) == 10  # b goes on


def test_a_job_that_fails_says_so_and_ends_alone(caplog):
    turns, said, done = Turns(), [], []

    def fails(error):
        yield None
        raise error

    def works():
        for index in range(5):
            done.append(index)
            yield None

    turns.begin("a", "track", Job(fails(UserError("the box is too small")), said.append))
    turns.begin("b", "track", Job(fails(ZeroDivisionError("x / 0")), said.append))
    turns.begin("c", "track", Job(works(), quiet))
    with caplog.at_level(logging.ERROR):
        run(turns)
    assert said[0] == "the box is too small"
    assert "ZeroDivisionError: x / 0" in said[1]
    assert len(caplog.records) == 1  # a mistake of ours has its traceback in the log
    assert caplog.records[0].exc_info
    assert done == list(range(5))


def test_places_are_given_back_however_a_job_ends():
    places, turns, inside = Places(1), Turns(), []

    def steps(name):
        yield places.free
        with places:
            inside.append(name)
            yield None
            yield None
        inside.remove(name)

    for name in ("a", "b", "c"):
        turns.begin(name, "export", Job(steps(name), quiet))
    run(turns, 4)
    assert inside == ["a"]
    turns.cancel("a")
    assert places.free()
    run(turns)
    assert places.free()
    assert inside == ["a"]  # which was cancelled within; b and c came to their ends
