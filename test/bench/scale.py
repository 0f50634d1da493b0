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
import signal
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from speed import Stage, cpu_ns, say  # noqa: E402

ROWS = []


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


def two_workers(stage, program, seconds):
    """One and two workers on the same CPU, one hot pool."""
    costs = {1: [], 2: []}
    started = {n: stage.pooler("pgstage", program, "trust", f"workers = {n}") for n in (1, 2)}
    for _ in range(3):
        for n, (port, process) in started.items():
            costs[n].append(cost(stage.generate(port, process.pid, "simple", 64, seconds)))
    one, two = statistics.median(costs[1]), statistics.median(costs[2])
    row("two workers on one CPU, one hot pool", "CPU per query, times one worker's", two / one, "1.2")
    text = console(started[2][0], "SHOW LISTS")
    moved = item(text, "moved_servers")
    count = item(console(started[2][0], "SHOW TOTALS"), "total_xact_count")
    row("two workers on one CPU, one hot pool", "share of transactions that cross threads, %",
        100 * moved / max(count, 1), "5")


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


def many_pools(stage, program, seconds, databases=10000, count=50):
    """Does a query cost more when there are 10,000 pools? And what does RELOAD cost?"""
    quiet_port, quiet = stage.pooler("pgstage", program, "trust", "workers = 1")
    text = environments(databases, count, stage.backend_port)
    port, process = stage.pooler("pgstage", program, "trust", "workers = 1\n" + text)
    subprocess.run([stage.build / "test/bench/generator", "--port", str(port), "--mode", "login",
                    "--clients", "32", "--transactions", str(databases), "--database", "many",
                    "--databases", str(databases), "--warm", "0"], check=True, capture_output=True)
    deadline = time.monotonic() + 60
    while item(console(port, "SHOW LISTS"), "used_servers") > 40 and time.monotonic() < deadline:
        time.sleep(0.2)
    pools = item(console(port, "SHOW LISTS"), "pools")
    costs = {"one": [], "many": []}
    for _ in range(3):
        costs["one"].append(cost(stage.generate(quiet_port, quiet.pid, "simple", 64, seconds)))
        costs["many"].append(cost(stage.generate(port, process.pid, "simple", 64, seconds)))
    row(f"{pools} pools in {count} environments", "CPU per query, times one pool's",
        statistics.median(costs["many"]) / statistics.median(costs["one"]), "1.05")

    # RELOAD changes what all the pools mean, while one client asks all the time
    path = next(pathlib.Path(stage.folder).glob(f"pgstage-trust-{port}")) / "pooler.ini"
    took = []
    other = 1 - stage.cpu if os.cpu_count() > 1 else stage.cpu

    def reload_often():
        for turn in range(5):
            path.write_text(path.read_text().replace(
                f"server_idle_timeout = {turn + 1}", f"server_idle_timeout = {turn + 2}"))
            begun = time.monotonic()
            console(port, "RELOAD")
            took.append(time.monotonic() - begun)
            time.sleep(0.3)

    thread = threading.Thread(target=reload_often)
    quiet_run = stage.generate(port, process.pid, "simple", 1, 3, cpu=other)
    busy_run = stage.generate(port, process.pid, "simple", 1, 4, cpu=other, during=thread.start)
    thread.join()
    row(f"{pools} pools in {count} environments", "RELOAD with psql, ms",
        1000 * statistics.median(took), "100")
    row(f"{pools} pools in {count} environments", "longest query while reloading, ms",
        busy_run["max_us"] / 1000, f"5 more than {quiet_run['max_us'] / 1000:.1f} (quiet)")


def worker_ns(pid):
    """Processor time of the workers' threads."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().startswith("worker"):
            total += int((task / "schedstat").read_text().split()[0])
    return total


def reload_cost(stage, program, databases=1000, count=50):
    """How long a RELOAD keeps a worker: its processor time, which no load of the machine lengthens."""
    port, process = stage.pooler("pgstage", program, "trust",
                                 "workers = 1\n" + environments(databases, count, stage.backend_port))
    login = ["--mode", "login", "--clients", "32", "--transactions", str(databases), "--warm", "0"]
    subprocess.run([stage.build / "test/bench/generator", "--port", str(port), *login,
                    "--database", "many", "--databases", str(databases)],
                   check=True, capture_output=True)
    path = next(pathlib.Path(stage.folder).glob(f"pgstage-trust-{port}")) / "pooler.ini"
    took = []
    for turn in range(7):
        path.write_text(path.read_text().replace(
            f"server_idle_timeout = {turn + 1}", f"server_idle_timeout = {turn + 2}"))
        before = worker_ns(process.pid)
        time.sleep(0.5)
        quiet = worker_ns(process.pid)
        console(port, "RELOAD")
        time.sleep(0.5)
        took.append((worker_ns(process.pid) - quiet - (quiet - before)) / 1e6)
    row(f"{databases} pools in {count} environments", "RELOAD, ms of a worker's processor time",
        statistics.median(took), "5")


def login_storm(stage, program, seconds):
    """5,000 SCRAM logins from the other CPU beside 64 clients that ask all the time."""
    if os.cpu_count() < 2:
        say("  a login storm needs a second CPU: left out")
        return
    port, process = stage.pooler("pgstage", program, "scram-sha-256", "workers = 1")
    quiet = stage.generate(port, process.pid, "simple", 64, seconds)

    def storm():
        storms.append(subprocess.Popen(stage.pin(1 - stage.cpu) + [
            stage.build / "test/bench/generator", "--port", str(port), "--mode", "login",
            "--clients", "64", "--transactions", "5000", "--warm", "0"],
            stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL))

    storms = []
    busy = stage.generate(port, process.pid, "simple", 64, seconds, during=storm)
    if storms[0].wait(120) != 0:
        raise RuntimeError("the storm of logins had errors")
    row("5,000 SCRAM logins beside 64 clients", "p99 of queries, times the quiet one",
        busy["p99_us"] / quiet["p99_us"], "3")


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
    row(f"{clients} clients wait for a server that returns", "queries served",
        result["transactions"], "all")
    row(f"{clients} clients wait for a server that returns", "clients told of the loss (a query was on its way)",
        result["errors"], "20")
    row(f"{clients} clients wait for a server that returns", "server connections at once", most,
        "pool_size 20")
    if process.poll() is not None:
        raise RuntimeError("pgstage ended")


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench scale", description=__doc__.split("\n")[0])
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=2, help="of each run (2)")
    parser.add_argument("--cpu", type=int, default=os.cpu_count() - 1,
                        help="the CPU that pgstage runs on (the last one)")
    parser.add_argument("--output", default="bench", help="folder for the results (bench)")
    arguments = parser.parse_args()
    stage = Stage(arguments.build, arguments.cpu)
    program = stage.build / "pgstage"
    try:
        two_workers(stage, program, arguments.seconds)
        pool_lock(stage, arguments.seconds)
        login_storm(stage, program, arguments.seconds)
        many_pools(stage, program, arguments.seconds)
        reload_cost(stage, program)
        server_returns(stage, program)
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
