#!/usr/bin/python3
"""pgbench.py: pgbench on a real PostgreSQL, straight and through each pooler.

Called by scripts/bench, which builds and installs what this needs. The server is made for this run in a
temporary folder, with fsync off, since its disk is not what is measured. The poolers run on one CPU each
as they would; pgbench and PostgreSQL take what there is. Contenders take turns; the figures are medians.
"""
import argparse
import contextlib
import json
import os
import pathlib
import pwd
import re
import shutil
import subprocess
import sys

from speed import (NOBODY, POOL_SIZE, Contender, Stage, cpu_ns, free_port, median, pgbouncer_version, say,
                   wait_for_port)

# name -> clients, pgbench's options. pgbench prepares with calls that block its whole thread: with more
# clients than servers those that wait for one would keep those from going on that have one.
CASES = {
    "select-only, simple": (64, ["-S", "-M", "simple"]),
    "select-only, extended": (64, ["-S", "-M", "extended"]),
    "select-only, prepared": (64, ["-S", "-M", "prepared"]),
    "TPC-B-like, simple": (64, ["-M", "simple"]),
    "TPC-B-like, prepared": (POOL_SIZE, ["-M", "prepared"]),
}


def postgres_folder():
    """Where initdb, postgres and pgbench are: the newest there is."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"),
                   key=lambda path: float(path.parent.parent.name))
    path = str(found[-1]) if found else shutil.which("initdb")
    if not path:
        sys.exit("PostgreSQL's initdb is not to be found")
    return pathlib.Path(path).parent


def server_user():
    """PostgreSQL does not run as root: who then."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", NOBODY):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    return sys.exit("there is no user that PostgreSQL could run as")


class Server:
    """A PostgreSQL of our own."""

    def __init__(self, stage, scale):
        self.programs = postgres_folder()
        self.port = free_port()
        folder = stage.folder / "postgres"
        folder.mkdir()
        user = server_user()
        if user:
            shutil.chown(folder, user)
        as_user = ["setpriv", "--reuid", user, "--clear-groups", "--"] if user else []
        subprocess.run(as_user + [self.programs / "initdb", "-D", folder / "data", "-U", "bench", "-A",
                                  "trust", "-N", "--no-instructions"],
                       check=True, stdout=subprocess.DEVNULL, cwd="/")
        process = subprocess.Popen(
            as_user + [self.programs / "postgres", "-D", folder / "data", "-p", str(self.port), "-k", folder,
                       "-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", "-c",
                       "max_connections=200", "-c", "shared_buffers=256MB"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
        process.quits = False  # SIGTERM: it waits until its clients are gone
        stage.processes.append(process)
        wait_for_port(self.port, process)
        subprocess.run([self.programs / "createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "bench",
                        "bench"], check=True)
        subprocess.run([self.programs / "pgbench", "-h", "127.0.0.1", "-p", str(self.port), "-U", "bench",
                        "-i", "-q", "-s", str(scale), "bench"], check=True, capture_output=True)


def percentile(sorted_values, share):
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))]


def run_pgbench(server, stage, contender, options, clients, seconds):
    """{tps, p50_us, p99_us, p999_us, cpu_us_per_transaction} of one run."""
    log = stage.folder / "transactions"
    before = cpu_ns(contender.pid) if contender.pid else 0
    done = subprocess.run(
        [server.programs / "pgbench", "-h", "127.0.0.1", "-p", str(contender.ports["trust"]), "-U", "bench",
         "-n", "-c", str(clients), "-j", str(min(clients, 2)), "-T", str(seconds), "-l", "--log-prefix",
         log, *options, "bench"], capture_output=True, text=True,
        env={**os.environ, "PGSSLMODE": "disable"})
    used = cpu_ns(contender.pid) - before if contender.pid else 0
    if done.returncode != 0:
        raise RuntimeError(f"pgbench through {contender.name} failed: {done.stderr}")
    latencies = []
    for path in stage.folder.glob("transactions.*"):
        latencies += [int(line.split()[2]) for line in path.read_text().splitlines()]
        path.unlink()
    latencies.sort()
    return {"tps": float(re.search(r"^tps = ([\d.]+)", done.stdout, re.M).group(1)),
            "p50_us": percentile(latencies, 0.5), "p99_us": percentile(latencies, 0.99),
            "p999_us": percentile(latencies, 0.999),
            "cpu_us": used / 1e3 / len(latencies) if contender.pid else None}


def make_contenders(stage, server, arguments):
    contenders = [Contender("straight", {"trust": server.port}, 0)]
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    for name, path, extra, names in (
            ("pgbouncer", program, "", pgbouncer_version(program) >= (1, 21)),
            ("pgstage", stage.build / "pgstage", "workers = 1", True)):
        port, process = stage.pooler(name, path, "trust", extra)
        contenders.append(Contender(name, {"trust": port}, process.pid, names))
    return contenders[1:] if arguments.no_straight else contenders


def markdown(results):
    lines = ["| case | clients | contender | tx/s | p50 us | p99 us | p99.9 us | pooler's CPU us per transaction |",
             "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for row in results:
        cpu = "–" if row["cpu_us"] is None else f"{row['cpu_us']:.1f}"
        lines.append(f"| {row['case']} | {row['clients']} | {row['contender']} | {row['tps']:.0f} | {row['p50_us']:.0f} | "
                     f"{row['p99_us']:.0f} | {row['p999_us']:.0f} | {cpu} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench pgbench", description=__doc__.split("\n")[0])
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=3, help="how often contenders take turns (3)")
    parser.add_argument("--seconds", type=int, default=5, help="of each run (5)")
    parser.add_argument("--scale", type=int, default=20, help="of pgbench's tables (20)")
    parser.add_argument("--cpu", type=int, default=os.cpu_count() - 1,
                        help="the CPU that the poolers run on (the last one)")
    parser.add_argument("--no-straight", action="store_true", help="only through the poolers")
    parser.add_argument("--output", default="bench", help="folder for the results (bench)")
    arguments = parser.parse_args()
    output = pathlib.Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    stage = Stage(arguments.build, arguments.cpu)
    results = []
    try:
        server = Server(stage, arguments.scale)
        stage.backend_port = server.port
        contenders = make_contenders(stage, server, arguments)
        for case, (clients, options) in CASES.items():
            runs = {}
            for _ in range(arguments.rounds):
                for contender in contenders:
                    if "prepared" in options and not contender.knows_names:
                        continue
                    runs.setdefault(contender.name, []).append(run_pgbench(
                        server, stage, contender, options, clients, arguments.seconds))
            for name, figures in runs.items():
                row = {key: median([figure[key] for figure in figures]) for key in figures[0]}
                results.append({"case": case, "contender": name, "clients": clients, **row})
                say(f"  {case}, {name}: {row['tps']:.0f} tx/s")
    finally:
        stage.close()
    text = markdown(results)
    (output / "pgbench.md").write_text(text)
    (output / "pgbench.json").write_text(json.dumps(results, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
