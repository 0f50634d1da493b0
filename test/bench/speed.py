#!/usr/bin/python3
"""speed.py: pgstage beside PgBouncer and a plain relay, before a backend that answers at once.

Called by scripts/bench, which builds and installs what this needs. Everything runs on one CPU unless a
case says otherwise, since waking another virtual CPU costs more than any pooler. CPU time is that of
the pooler process with all its threads, read from the kernel in nanoseconds (schedstat). Contenders
take turns (A B C A B C …); the figures are medians over the rounds.
"""
import argparse
import base64
import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

NOBODY = "nobody"
POOL_SIZE = 20


def say(text):
    print(text, file=sys.stderr, flush=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port, process, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"{process.args[0]} ended with status {process.returncode}")
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"nobody listens on port {port}")


def cpu_ns(pid):
    """CPU time of all threads of a process, in nanoseconds."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += int((task / "schedstat").read_text().split()[0])
    return total


def memory_kb(pid):
    """Private and shared pages of a process, in kB."""
    match = re.search(r"^Pss:\s+(\d+)", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    return int(match.group(1))


def scram_secret(password, iterations=4096):
    """What PostgreSQL stores for a password (RFC 7677)."""
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt, stored, server = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${iterations}:{salt}${stored}:{server}"


def go_first():
    """Lets the benchmark go before whatever else the machine does, as far as it may. Returns the way back."""
    group = pathlib.Path("/proc/self/autogroup")
    before = None
    with contextlib.suppress(OSError):
        os.nice(-15)
    with contextlib.suppress(OSError, IndexError):
        before = group.read_text().split()[-1]
        group.write_text("-15")

    def back():
        if before is not None:
            with contextlib.suppress(OSError):
                group.write_text(before)

    return back


class Contender:
    """Something that listens: its name, the port of each kind of login, the process to measure."""

    def __init__(self, name, ports, pid, knows_names=True, can_tls=True, host="127.0.0.1"):
        self.name = name
        self.host = host
        self.ports = ports
        self.pid = pid
        self.knows_names = knows_names
        self.can_tls = can_tls


class Stage:
    """All processes of a benchmark, in one temporary folder."""

    def __init__(self, build, cpu):
        self.build = pathlib.Path(build)
        self.cpu = cpu
        self.processes = []
        self.priority_back = go_first()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="pgstage-bench-"))
        self.folder.chmod(0o755)
        self.backend_port = free_port()
        self.start_backend(self.backend_port)
        self.certificate()

    def close(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGQUIT if process.quits else signal.SIGTERM)
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            if process.poll() is None:
                process.kill()
                process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.priority_back()

    def end(self, *processes):
        """Ends poolers that the next case does not need: their probes and sweeps would be measured too."""
        for process in processes:
            process.send_signal(signal.SIGQUIT if process.quits else signal.SIGTERM)
        for process in processes:
            process.wait(10)
            self.processes.remove(process)

    def pin(self, cpu=None):
        return ["taskset", "-c", str(self.cpu if cpu is None else cpu)]

    def spawn(self, arguments, quits=False, cpu=None, **options):
        process = subprocess.Popen(self.pin(cpu) + [str(a) for a in arguments],
                                   stdin=subprocess.DEVNULL, **options)
        process.quits = quits
        self.processes.append(process)
        return process

    def start_program(self, name, port, *arguments):
        process = self.spawn([self.build / "test/bench" / name, port, *arguments],
                             stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        return process

    def start_backend(self, port):
        self.backend = self.start_program("null_backend", port)

    def certificate(self):
        key, certificate = self.folder / "server.key", self.folder / "server.crt"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30", "-subj",
                        "/CN=localhost", "-keyout", key, "-out", certificate],
                       check=True, capture_output=True)
        # a SCRAM secret: from a plain one PgBouncer 1.18 derives the keys anew for each login
        secret = scram_secret("bench")
        (self.folder / "userlist.txt").write_text(f'"bench" "{secret}"\n"admin" "{secret}"\n')
        for path in (key, certificate, self.folder / "userlist.txt"):
            if os.getuid() == 0:
                shutil.chown(path, NOBODY)
            path.chmod(0o600)

    def relay(self):
        """The least that each case can cost: a plain relay; of a login over TLS, a bare OpenSSL loop."""
        port, tls_port = free_port(), free_port()
        process = self.start_program("relay", port, self.backend_port)
        floor = self.start_program("tls_floor", tls_port, self.folder / "server.crt",
                                   self.folder / "server.key")
        contender = Contender("relay", {"trust": port, "TLS login": tls_port}, process.pid,
                              can_tls=False)
        contender.pids = {"TLS login": floor.pid}
        return contender

    def pooler(self, name, program, auth, extra="", cpu=None):
        """Starts pgbouncer or pgstage with the same file; returns (port, process)."""
        port = free_port()
        folder = self.folder / f"{name}-{auth}-{port}"
        folder.mkdir()
        if os.getuid() == 0:
            shutil.chown(folder, NOBODY)
        text = f"""[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir = {folder}
auth_type = {auth}
auth_file = {self.folder}/userlist.txt
admin_users = admin
pool_mode = transaction
default_pool_size = {POOL_SIZE}
max_client_conn = 20000
listen_backlog = 4096
logfile = {folder}/log
log_connections = 0
log_disconnections = 0
log_pooler_errors = 0
log_stats = 0
client_tls_sslmode = allow
client_tls_cert_file = {self.folder}/server.crt
client_tls_key_file = {self.folder}/server.key
server_tls_sslmode = disable
{extra}
[databases]
bench = host=127.0.0.1 port={self.backend_port}
"""
        path = folder / "pooler.ini"
        path.write_text(text)
        arguments = [program, "-q"] + (["-u", NOBODY] if os.getuid() == 0 else []) + [path]
        process = self.spawn(arguments, quits=True, cpu=cpu, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
        wait_for_port(port, process)
        return port, process

    def contender(self, name, program, extra="", knows_names=True):
        ports, pids = {}, {}
        for auth in ("trust", "scram-sha-256"):
            ports[auth], process = self.pooler(name, program, auth, extra)
            pids[auth] = process.pid
        contender = Contender(name, ports, pids["trust"], knows_names)
        contender.pids = pids
        return contender

    def generate(self, port, pid, mode, clients, seconds, tls=False, extra=(), cpu=None, during=None,
                 host="127.0.0.1"):
        """One run of the generator; its JSON, with the CPU time that the process `pid` used meanwhile."""
        arguments = self.pin(cpu) + [
            str(self.build / "test/bench/generator"), "--host", host, "--port", str(port), "--mode", mode,
            "--clients", str(clients), "--seconds", str(seconds), "--warm", "0",
            *(["--tls"] if tls else []), *[str(e) for e in extra]]
        with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True) as process:
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(f"the generator failed: {' '.join(arguments)}")
            before = cpu_ns(pid)
            if during:
                during()
            line = process.stdout.readline()
            used = cpu_ns(pid) - before
        if not line:
            raise RuntimeError(f"the generator failed: {' '.join(arguments)}")
        result = json.loads(line)
        if result["errors"]:
            raise RuntimeError(f"{result['errors']} errors in {mode} with {clients} clients")
        result["cpu_ns"] = used
        return result


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


class Bench:
    def __init__(self, stage, contenders, rounds, seconds):
        self.stage = stage
        self.contenders = contenders
        self.rounds = rounds
        self.seconds = seconds
        self.results = []

    def record(self, case, unit, figures, **more):
        self.results.append({"case": case, "unit": unit, "figures": figures, **more})
        say("  " + case + ": " + ", ".join(
            f"{name} {value:.2f}" for name, value in figures.items() if value is not None))

    def take_turns(self, run, wanted=lambda contender: True):
        """Runs each contender once a round; {name: [result …]}."""
        results = {}
        for _ in range(self.rounds):
            for contender in self.contenders:
                if wanted(contender):
                    results.setdefault(contender.name, []).append(run(contender))
        return results

    def transactions(self, case, mode, clients, wanted=lambda contender: True):
        def run(contender):
            return self.stage.generate(contender.ports["trust"], contender.pid, mode, clients,
                                       self.seconds, host=contender.host)

        results = self.take_turns(run, wanted)
        self.record(case, "CPU us per transaction", {
            name: median(r["cpu_ns"] / 1e3 / r["transactions"] for r in runs)
            for name, runs in results.items()}, mode=mode, clients=clients, latency={
                name: {key: median(r[key] for r in runs)
                       for key in ("p50_us", "p99_us", "p999_us")} |
                      {"tps": median(r["transactions"] / r["seconds"] for r in runs)}
                for name, runs in results.items()})

    def volume(self, case, mode, tls):
        def run(contender):
            return self.stage.generate(contender.ports["trust"], contender.pid, mode, 1,
                                       self.seconds, tls, ["--bytes", 100 << 20],
                                       host=contender.host)

        results = self.take_turns(run, lambda c: c.can_tls or not tls)
        key = "received_bytes" if mode == "bulk" else "sent_bytes"
        self.record(case, "CPU s per GB", {
            name: median(r["cpu_ns"] / r[key] for r in runs) for name, runs in results.items()})

    def logins(self, case, auth, tls):
        def way(contender):
            return "TLS login" if tls and "TLS login" in contender.ports else auth

        def run(contender):
            pid = getattr(contender, "pids", {}).get(way(contender), contender.pid)
            return self.stage.generate(contender.ports[way(contender)], pid, "login", 8,
                                       self.seconds, tls, host=contender.host)

        results = self.take_turns(
            run, lambda c: way(c) in c.ports and (c.can_tls or not tls or way(c) != auth))
        self.record(case, "CPU us per login", {
            name: median(r["cpu_ns"] / 1e3 / r["transactions"] for r in runs)
            for name, runs in results.items()})

    def system_calls(self, case, clients):
        """Under strace, which slows everything down: only the count is of use."""
        def run(contender):
            counts = self.stage.folder / "strace"
            tracers = []

            def trace():
                tracers.append(subprocess.Popen(
                    ["strace", "-c", "-f", "-q", "-o", counts, "-p", str(contender.pid)],
                    stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

            result = self.stage.generate(contender.ports["trust"], contender.pid, "simple", clients,
                                         1.5, extra=["--warm", 0.5], during=trace,
                                         host=contender.host)
            tracers[0].send_signal(signal.SIGINT)
            tracers[0].wait(20)
            # the tracer also saw what came before the generator counted
            calls = {}
            for line in counts.read_text().splitlines():
                match = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line)
                if match and match.group(2) != "total":
                    calls[match.group(2)] = int(match.group(1))
            return calls, result

        figures, detail = {}, {}
        for contender in self.contenders:
            calls, result = run(contender)
            # each query is written to the server once and read from the client once: the generator's
            # own count lacks what was traced before it counted, so the writes are the measure
            writes = sum(calls.get(name, 0) for name in ("write", "writev", "sendto", "sendmsg"))
            if writes:
                figures[contender.name] = sum(calls.values()) / (writes / 2)
                detail[contender.name] = calls
        self.record(case, "system calls per query (two writes make one)", figures, calls=detail)

    def memory(self, case, tls, burst, low, high):
        """kB for each idle client, by the slope between two numbers of clients."""
        def hold(contender, clients):
            arguments = self.stage.pin() + [
                str(self.stage.build / "test/bench/generator"), "--host", contender.host, "--port",
                str(contender.ports["trust"]), "--mode", "idle", "--clients", str(clients),
                "--warm", "0", *(["--burst", str(burst)] if burst else []),
                *(["--tls"] if tls else [])]
            with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  text=True) as process:
                if process.stdout.readline() != "ready\n":
                    raise RuntimeError("the generator failed")
                time.sleep(1)
                kilobytes = memory_kb(contender.pid)
                before = cpu_ns(contender.pid)
                time.sleep(2)
                idle = (cpu_ns(contender.pid) - before) / 2e6
                process.stdin.write("\n")
                process.stdin.close()
                process.stdout.read()
            time.sleep(0.5)
            return kilobytes, idle

        figures, idle = {}, {}
        for contender in self.contenders:
            if tls and not contender.can_tls:
                continue
            # each on a process of its own, so that nothing is left from what came before
            fresh = contender.fresh() if hasattr(contender, "fresh") else contender
            less, _ = hold(fresh, low)
            more, idle[contender.name] = hold(fresh, high)
            figures[contender.name] = (more - less) / (high - low)
        self.record(case, "kB per idle client", figures)
        if not tls and not burst:
            self.record(f"idle CPU, {high} clients", "ms of CPU per second", idle)


def markdown(results, names):
    lines = ["| case | unit | " + " | ".join(names) + " | pgstage / pgbouncer |",
             "| --- | --- |" + " --- |" * (len(names) + 1)]
    for result in results:
        figures = result["figures"]
        cells = [f"{figures[name]:.3g}" if figures.get(name) is not None else "–" for name in names]
        ours, theirs = figures.get("pgstage"), figures.get("pgbouncer")
        ratio = f"{ours / theirs:.2f}" if ours is not None and theirs else "–"
        lines.append(f"| {result['case']} | {result['unit']} | " + " | ".join(cells) + f" | {ratio} |")
    lines += ["", "| case | contender | tx/s | p50 us | p99 us | p99.9 us | p99/p50 |",
              "| --- | --- | --- | --- | --- | --- | --- |"]
    for result in results:
        for name, latency in result.get("latency", {}).items():
            lines.append(
                f"| {result['case']} | {name} | {latency['tps']:.0f} | {latency['p50_us']:.0f} | "
                f"{latency['p99_us']:.0f} | {latency['p999_us']:.0f} | "
                f"{latency['p99_us'] / max(latency['p50_us'], 1):.2f} |")
    return "\n".join(lines) + "\n"


def plot(results, names, folder):
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    simple = sorted((r for r in results if r.get("mode") == "simple"), key=lambda r: r["clients"])
    if len(simple) < 2:
        return
    for title, unit, value, file in (
            ("CPU time of a simple query", "µs per query", lambda r, n: r["figures"].get(n), "cpu"),
            ("Latency of a simple query (line: median, dashed: p99)", "µs", None, "latency")):
        figure, axes = pyplot.subplots(figsize=(7, 4))
        for index, name in enumerate(names):
            clients = [r["clients"] for r in simple if name in r["figures"]]
            if value:
                axes.plot(clients, [value(r, name) for r in simple if name in r["figures"]],
                          marker="o", label=name, color=f"C{index}")
            else:
                for key, style in (("p50_us", "-"), ("p99_us", "--")):
                    axes.plot(clients, [r["latency"][name][key] for r in simple
                                        if name in r["latency"]], style, marker="o",
                              label=name if style == "-" else None, color=f"C{index}")
                axes.set_yscale("log")
        axes.set_xscale("log")
        axes.set_xlabel("clients")
        axes.set_ylabel(unit)
        axes.set_title(title)
        axes.grid(True, which="both", alpha=0.3)
        axes.legend()
        figure.tight_layout()
        for kind in ("png", "svg"):
            figure.savefig(folder / f"{file}.{kind}")
        pyplot.close(figure)


def read_arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench speed", description=__doc__.split("\n")[0])
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="the main cases only, under a minute")
    parser.add_argument("--rounds", type=int, help="how often contenders take turns (3)")
    parser.add_argument("--seconds", type=float, help="of each run (2)")
    parser.add_argument("--cpu", type=int, default=os.cpu_count() - 1,
                        help="the CPU that everything runs on (the last one)")
    parser.add_argument("--with", dest="others", action="append", default=[],
                        metavar="NAME=HOST:PORT:PID", help="another pooler, which takes user and "
                        "database bench without a password, before its own backend")
    parser.add_argument("--only", metavar="REGEX", help="cases whose name matches")
    parser.add_argument("--output", default="bench", help="folder for the results (bench)")
    return parser.parse_args()


def pgbouncer_version(program):
    text = subprocess.run([program, "-V"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in re.search(r"(\d+)\.(\d+)", text).groups())


def make_contenders(stage, arguments):
    contenders = [stage.relay()]
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    named = pgbouncer_version(program) >= (1, 21)
    for name, path, extra, names in (("pgbouncer", program, "", named),
                                     ("pgstage", stage.build / "pgstage", "workers = 1", True)):
        contender = stage.contender(name, path, extra, names)

        def fresh(name=name, path=path, extra=extra):
            port, process = stage.pooler(name, path, "trust", extra)
            return Contender(name, {"trust": port}, process.pid)

        contender.fresh = fresh
        contenders.append(contender)
    for other in arguments.others:
        match = re.fullmatch(r"([\w.-]+)=([^:=]+):(\d+):(\d+)", other)
        if not match:
            sys.exit(f"--with takes NAME=HOST:PORT:PID, not {other}")
        contenders.append(Contender(match[1], {"trust": int(match[3])}, int(match[4]), can_tls=False,
                                    host=socket.gethostbyname(match[2])))
    return contenders


def cases(bench, quick):
    """(name, how to run it), in the order of the table."""
    yield "simple, 1 client", lambda n: bench.transactions(n, "simple", 1)
    yield "simple, 16 clients", lambda n: bench.transactions(n, "simple", 16)
    yield "simple, 64 clients", lambda n: bench.transactions(n, "simple", 64)
    yield "extended, 64 clients", lambda n: bench.transactions(n, "extended", 64)
    yield "named prepared, 64 clients", lambda n: bench.transactions(
        n, "prepared", 64, lambda contender: contender.knows_names)
    if not quick:
        yield "simple, 1000 clients", lambda n: bench.transactions(n, "simple", 1000)
        yield "system calls, 64 clients", lambda n: bench.system_calls(n, 64)
    yield "result", lambda n: bench.volume(n, "bulk", False)
    yield "result, client TLS", lambda n: bench.volume(n, "bulk", True)
    yield "COPY in", lambda n: bench.volume(n, "copy", False)
    yield "COPY in, client TLS", lambda n: bench.volume(n, "copy", True)
    if not quick:
        yield "login, trust", lambda n: bench.logins(n, "trust", False)
    yield "login, SCRAM", lambda n: bench.logins(n, "scram-sha-256", False)
    if not quick:
        yield "login, SCRAM and TLS", lambda n: bench.logins(n, "scram-sha-256", True)
        many = 19000 if resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 20000 else 9000
        yield "memory, plain", lambda n: bench.memory(n, False, 0, 1000, many)
        yield "memory, plain, after a burst", lambda n: bench.memory(n, False, 200000, 1000, many)
        yield "memory, TLS", lambda n: bench.memory(n, True, 0, 1000, many)


def main():
    arguments = read_arguments()
    output = pathlib.Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    seconds = arguments.seconds or (1 if arguments.quick else 2)
    stage = Stage(arguments.build, arguments.cpu)
    try:
        bench = Bench(stage, make_contenders(stage, arguments), rounds, seconds)
        for name, run in cases(bench, arguments.quick):
            if not arguments.only or re.search(arguments.only, name):
                run(name)
        names = [contender.name for contender in bench.contenders]
    finally:
        stage.close()
    text = markdown(bench.results, names)
    (output / "speed.md").write_text(text)
    (output / "speed.json").write_text(json.dumps(bench.results, indent=1) + "\n")
    plot(bench.results, names, output)
    print(text)
    say(f"written to {output}/: speed.md, speed.json and the plots")


if __name__ == "__main__":
    main()
