#!/usr/bin/python3
"""scale.py: how pgstage behaves when there is much of everything. Called by scripts/bench scale.

Two workers on one CPU (what sharing a pool costs), 10,000 pools in 50 environments, a storm of logins
beside running queries, and the return of a server that thousands of clients wait for. Ratios against
pgstage itself in its quiet state, in the same run.
"""
import argparse
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from speed import Stage, say  # noqa: E402

ROWS = []
ROUNDS = 5


def row(case, figure, value, aim):
    ROWS.append({"case": case, "figure": figure, "value": value, "aim": aim})
    say(f"  {case}: {figure} {value:.4g} (aim: {aim})")


def console(port, command, rows=False):
    """What the console answers, as text."""
    environment = dict(os.environ, PGPASSWORD="bench", PGSSLMODE="disable")
    return subprocess.run(
        ["psql", "-XAtq", "-h", "127.0.0.1", "-p", str(port), "-U", "admin", "pgstage", "-c", command],
        env=environment, check=True, capture_output=True, text=True).stdout


def item(text, name):
    for line in text.splitlines():
        if line.startswith(name + "|"):
            return int(line.split("|")[1])
    raise KeyError(name)


def cost(result):
    return result["cpu_ns"] / 1e3 / result["transactions"]


def ratio(others, ones):
    """The median of what each pair of neighbours gives: what slows both down falls out."""
    return statistics.median(other / one for other, one in zip(others, ones))


def two_workers(stage, program, seconds):
    """One and two workers on the same CPU, one hot pool."""
    case = "two workers on one CPU, one hot pool"
    costs = {1: [], 2: []}
    started = {n: stage.pooler("pgstage", program, "trust", f"workers = {n}") for n in (1, 2)}
    for _ in range(ROUNDS):
        for n, (port, process) in started.items():
            costs[n].append(cost(stage.generate(port, process.pid, "simple", 64, seconds)))
    row(case, "CPU per query, times one worker's", ratio(costs[2], costs[1]), "1.2")
    port = started[2][0]
    moved = item(console(port, "SHOW LISTS"), "moved_servers")
    count = item(console(port, "SHOW TOTALS"), "total_xact_count")
    row(case, "share of transactions that cross threads, %", 100 * moved / max(count, 1), "5")
    stage.end(*(process for _, process in started.values()))


def pool_lock(stage, seconds):
    """What the mutex of a pool costs a worker that is alone with it, and two that want it all the time."""
    pairs = int(seconds * 1000000)
    for threads in (1, 2):
        if threads > os.cpu_count():
            continue
        costs = [float(subprocess.run([stage.build / "test/bench/pool_lock", str(threads), str(pairs)],
                                      check=True, capture_output=True, text=True).stdout)
                 for _ in range(5)]
        row(f"{threads} thread{'s' if threads > 1 else ''} that only lend, one pool",
            "ns of CPU for a server lent and taken back", statistics.median(costs), "–")


def environments(databases, environments_count, backend_port):
    lines = []
    for e in range(environments_count):
        lines.append(f"[environment env{e}]\nclass = local_development\nhosts = 127.0.0.1:{backend_port}"
                     "\nserver_tls_sslmode = disable\nclient_tls_sslmode = allow\npool_size = 1\n"
                     "server_idle_timeout = 1")
    lines.append("[databases]")
    for d in range(databases):
        lines.append(f"many{d} = environment=env{d % environments_count} dbname=bench")
    return "\n".join(lines)


def touch_all(stage, port, databases):
    """A login to each database, so that each has its pool."""
    subprocess.run([stage.build / "test/bench/generator", "--port", str(port), "--mode", "login",
                    "--clients", "32", "--transactions", str(databases), "--database", "many",
                    "--databases", str(databases), "--warm", "0"], check=True, capture_output=True)
    deadline = time.monotonic() + 60
    while item(console(port, "SHOW LISTS"), "used_servers") > 40 and time.monotonic() < deadline:
        time.sleep(0.2)


def thread_ns(pid, name):
    """Processor time of the threads whose name begins so."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().startswith(name):
            total += int((task / "schedstat").read_text().split()[0])
    return total


class Reloading:
    """RELOADs that change what all the pools mean."""

    def __init__(self, stage, port):
        self.port = port
        self.path = next(pathlib.Path(stage.folder).glob(f"pgstage-trust-{port}")) / "pooler.ini"
        self.turn = 1

    def once(self):
        """Milliseconds, as psql counts them from the command to its answer."""
        self.path.write_text(self.path.read_text().replace(
            f"server_idle_timeout = {self.turn}\n", f"server_idle_timeout = {self.turn + 1}\n"))
        self.turn += 1
        environment = dict(os.environ, PGPASSWORD="bench", PGSSLMODE="disable")
        out = subprocess.run(
            ["psql", "-XAt", "-h", "127.0.0.1", "-p", str(self.port), "-U", "admin", "pgstage",
             "-c", "\\timing on", "-c", "RELOAD"],
            env=environment, check=True, capture_output=True, text=True).stdout
        return float(re.search(r"Time: ([\d.]+) ms", out).group(1))


def many_pools(stage, program, seconds, databases=10000, count=50):
    """Does a query cost more when there are 10,000 pools? And what does RELOAD cost?"""
    quiet_port, quiet = stage.pooler("pgstage", program, "trust", "workers = 1")
    text = environments(databases, count, stage.backend_port)
    port, process = stage.pooler("pgstage", program, "trust", "workers = 1\n" + text)
    touch_all(stage, port, databases)
    case = f"{item(console(port, 'SHOW LISTS'), 'pools')} pools in {count} environments"
    costs = {quiet: [], process: []}
    workers = {quiet: [], process: []}
    for _ in range(ROUNDS):
        for its_port, its in ((quiet_port, quiet), (port, process)):
            before = thread_ns(its.pid, "worker")
            result = stage.generate(its_port, its.pid, "simple", 64, seconds)
            costs[its].append(cost(result))
            workers[its].append((thread_ns(its.pid, "worker") - before) / result["transactions"])
    row(case, "CPU per query, times one pool's", ratio(costs[process], costs[quiet]), "1.05")
    row(case, "the worker's part of it, times one pool's", ratio(workers[process], workers[quiet]),
        "1.05")
    before = thread_ns(process.pid, "")
    time.sleep(10)
    row(case, "CPU while nobody asks anything, ms/s (a probe of each host a second, upkeep)",
        (thread_ns(process.pid, "") - before) / 1e7, "–")
    stage.end(quiet)

    # one client asks all the time, from the other CPU; windows with and without a RELOAD take turns
    reloading = Reloading(stage, port)
    other = 1 - stage.cpu if os.cpu_count() > 1 else stage.cpu
    took, longest = [], {False: [], True: []}
    for _ in range(9):
        for reload in (False, True):
            thread = threading.Thread(target=lambda: took.append(reloading.once()))
            result = stage.generate(port, process.pid, "simple", 1, 0.5, cpu=other,
                                    during=thread.start if reload else None)
            if reload:
                thread.join()
            longest[reload].append(result["max_us"] / 1000)
    row(case, "RELOAD, ms", statistics.median(took), "100")
    quiet_ms = statistics.median(longest[False])
    row(case, "longest query of half a second with a RELOAD, ms", statistics.median(longest[True]),
        f"5 more than {quiet_ms:.1f} (without)")
    stage.end(process)


def reload_cost(stage, program, databases=1000, count=50):
    """How long a RELOAD keeps a worker: its processor time, which no load of the machine lengthens."""
    port, process = stage.pooler("pgstage", program, "trust",
                                 "workers = 1\n" + environments(databases, count, stage.backend_port))
    touch_all(stage, port, databases)
    reloading = Reloading(stage, port)
    took = []
    for _ in range(7):
        before = thread_ns(process.pid, "worker")
        time.sleep(0.5)
        quiet = thread_ns(process.pid, "worker")
        reloading.once()
        time.sleep(0.5)
        took.append((thread_ns(process.pid, "worker") - quiet - (quiet - before)) / 1e6)
    row(f"{databases} pools in {count} environments", "RELOAD, ms of a worker's processor time",
        statistics.median(took), "5")
    stage.end(process)


def login_storm(stage, program, logins=5000):
    """SCRAM logins from the other CPU beside 64 clients that ask all the time."""
    if os.cpu_count() < 2:
        say("  a login storm needs a second CPU: left out")
        return
    port, process = stage.pooler("pgstage", program, "scram-sha-256", "workers = 1")
    arguments = stage.pin(1 - stage.cpu) + [
        stage.build / "test/bench/generator", "--port", str(port), "--mode", "login",
        "--clients", "64", "--transactions", str(logins), "--warm", "0"]

    def begin():
        storms.append((time.monotonic(), subprocess.Popen(
            arguments, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)))

    def end():
        begun, storm = storms.pop()
        if storm.wait(120) != 0:
            raise RuntimeError("the storm of logins had errors")
        return time.monotonic() - begun

    # the first one tells how long a storm lasts: the windows are that long
    storms = []
    stage.generate(port, process.pid, "simple", 64, 1, during=begin)
    window = end()
    p99 = {False: [], True: []}
    for _ in range(ROUNDS):
        for stormy in (False, True):
            result = stage.generate(port, process.pid, "simple", 64, window,
                                    during=begin if stormy else None)
            p99[stormy].append(result["p99_us"])
            if stormy:
                end()
    row(f"{logins} SCRAM logins in {window:.1f} s beside 64 clients",
        "p99 of queries, times the quiet one", ratio(p99[True], p99[False]), "3")
    stage.end(process)


def server_returns(stage, program, clients=5000):
    """A server goes away under thousands of clients, and comes back."""
    backend_port = stage.backend_port
    port, process = stage.pooler("pgstage", program, "trust",
                                 "workers = 1\nquery_wait_timeout = 60\nlisten_backlog = 8192")
    generator = subprocess.Popen(
        stage.pin() + [str(stage.build / "test/bench/generator"), "--port", str(port), "--mode",
                       "simple", "--clients", str(clients), "--seconds", "6", "--warm", "0"],
        stdout=subprocess.PIPE, text=True)
    if generator.stdout.readline() != "ready\n":
        raise RuntimeError("the generator failed")
    backend = stage.backend
    backend.send_signal(signal.SIGTERM)
    backend.wait(10)
    time.sleep(1)
    stage.start_backend(backend_port)
    result = json.loads(generator.stdout.readline())
    generator.wait(30)
    stage.backend.send_signal(signal.SIGTERM)
    most = int(stage.backend.stdout.read().split()[-1])
    stage.backend.wait(10)
    case = f"{clients} clients wait for a server that returns"
    row(case, "queries served", result["transactions"], "all")
    row(case, "clients told of the loss (a query was on its way)", result["errors"], "20")
    row(case, "server connections at once", most, "pool_size 20")
    if process.poll() is not None:
        raise RuntimeError("pgstage ended")
    stage.end(process)


CASES = {
    "two_workers": two_workers,
    "pool_lock": lambda stage, program, seconds: pool_lock(stage, seconds),
    "login_storm": lambda stage, program, seconds: login_storm(stage, program),
    "many_pools": many_pools,
    "reload_cost": lambda stage, program, seconds: reload_cost(stage, program),
    "server_returns": lambda stage, program, seconds: server_returns(stage, program),
}


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench scale", description=__doc__.split("\n")[0])
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=1, help="of each run (1)")
    parser.add_argument("--cpu", type=int, default=os.cpu_count() - 1,
                        help="the CPU that pgstage runs on (the last one)")
    parser.add_argument("--only", metavar="REGEX", help="cases whose name matches: " + ", ".join(CASES))
    parser.add_argument("--output", default="bench", help="folder for the results (bench)")
    arguments = parser.parse_args()
    stage = Stage(arguments.build, arguments.cpu)
    program = stage.build / "pgstage"
    try:
        for name, run in CASES.items():
            if not arguments.only or re.search(arguments.only, name):
                run(stage, program, arguments.seconds)
    finally:
        stage.close()
    text = "| case | figure | value | aim (at most) |\n| --- | --- | --- | --- |\n" + "".join(
        f"| {r['case']} | {r['figure']} | {r['value']:.4g} | {r['aim']} |\n" for r in ROWS)
    output = pathlib.Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    (output / "scale.md").write_text(text)
    (output / "scale.json").write_text(json.dumps(ROWS, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
