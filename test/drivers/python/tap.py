"""tap: what the Python drivers share: cases in their order, verdicts as TAP, the restart of PostgreSQL.

A module of cases has one function for each line of cases.def, named after it; run() calls them all. What stands on
a driver (an ORM) has cases of its own: run_own().
A case that raises Skip says why its driver has no such thing.
"""
import asyncio
import inspect
import os
import socket
import sys
import threading
import traceback

CASES = os.environ["PGSTAGE_TEST_CASES"].rstrip(";").split(";")
SESSION = os.environ["PGSTAGE_TEST_MODE"] == "session"
# who take all servers but one, so that a client has to go to another server (not in session mode)
OTHERS = 0 if SESSION else 4
CLIENTS = 20
TRANSACTIONS = 100


class Skip(Exception):
    """The driver has no means for a case; the text says what is missing."""


def restart_server():
    port = int(os.environ["PGSTAGE_TEST_CONTROL"])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as control:
        control.sendall(b"restart\n")
        assert control.recv(16) == b"done\n"


def equal(seen, expected):
    assert seen == expected, f"{seen!r} instead of {expected!r}"


def concurrently(work):
    """A thread for each client, which is given its number; what fails in one of them fails the case."""
    failures = []

    def keep_failure(number):
        try:
            work(number)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=keep_failure, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal(failures, [])


def run_all(module, names):
    failed = 0
    for number, name in enumerate(names, 1):
        case = getattr(module, "case_" + name.replace(" ", "_"))
        try:
            if inspect.iscoroutinefunction(case):
                asyncio.run(asyncio.wait_for(case(), 60))
            else:
                case()
            print(f"ok {number} - {name}", flush=True)
        except Skip as reason:
            print(f"ok {number} - {name} # SKIP {reason}", flush=True)
        except Exception:
            failed += 1
            print(f"not ok {number} - {name}")
            print(traceback.format_exc(), flush=True)
    sys.stdout.flush()
    os._exit(failed != 0)


def run(module, extra=()):
    """`extra`: names of cases of this driver's own, behind those of all."""
    run_all(module, [*CASES, *extra])


def run_own(module):
    """For what stands on a driver that is tested by itself: the module's cases, in its order."""
    run_all(module, [name[len("case_"):].replace("_", " ") for name in vars(module) if name.startswith("case_")])
