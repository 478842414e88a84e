"""A real Kafka broker for tests and bench: one JVM in KRaft mode, started from Maven's jars.

``CDP_TEST_KAFKA`` names the bootstrap servers of an existing broker instead. The variable is
taken out of the environment, because the program refuses unknown ``CDP_*`` variables.
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

GIVEN_SERVERS = os.environ.pop("CDP_TEST_KAFKA", "")

_POM = Path(__file__).parent / "kafka" / "pom.xml"
_START_SECONDS = 60.0


class KafkaMissing(Exception):
    """What is needed to run a broker is not there; the message says what to do."""


def fetch_jars() -> Path:
    """Return the folder of the broker's jars; Maven fetches them once per user.

    Raises ``KafkaMissing``.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cdp-tests"
    jars = cache / "kafka-4.1.0"
    if shutil.which("java") is None:
        raise KafkaMissing("install a Java runtime (17 or newer) or set CDP_TEST_KAFKA")
    if jars.is_dir():
        return jars
    if shutil.which("mvn") is None:
        raise KafkaMissing("install Maven or set CDP_TEST_KAFKA")
    cache.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix="kafka-", dir=cache))
    fetched = subprocess.run(
        ["mvn", "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies",
         f"-DoutputDirectory={fresh}"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )  # fmt: skip
    if fetched.returncode != 0:
        shutil.rmtree(fresh)
        raise KafkaMissing(f"Maven could not fetch the jars: {fetched.stdout.strip()[:300]}")
    try:
        fresh.rename(jars)
    except OSError:  # Another run was faster.
        shutil.rmtree(fresh)
    return jars


class KafkaBroker:
    """A broker that can be killed and started again on the same port with the same data."""

    def __init__(self, *, heap: str = "512m", quick_start: bool = True) -> None:
        """Prepare a fresh cluster of one; ``start`` runs it. Raises ``KafkaMissing``.

        ``quick_start`` makes a JVM that is ready sooner but slower in the long run.
        """
        self._jars = fetch_jars()
        self._jvm = [f"-Xmx{heap}"]
        if quick_start:
            self._jvm += ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        self._folder = Path(tempfile.mkdtemp(prefix="cdp-kafka-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._port = _free_port()
        self._properties = self._folder / "server.properties"
        self._properties.write_text(self._describe())
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        subprocess.run(
            self._java("kafka.tools.StorageTool", "format", "-t", cluster, "-c",
                       str(self._properties), "--standalone"),
            check=True,
            capture_output=True,
            timeout=120,
        )  # fmt: skip

    @property
    def servers(self) -> str:
        """The value for ``CDP_KAFKA_BOOTSTRAP_SERVERS``."""
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start the broker and wait until it takes connections."""
        assert self._process is None, "the broker runs already"
        with (self._folder / "broker.log").open("ab") as output:
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", str(self._properties)),
                stdout=output,
                stderr=output,
                # Ctrl-C in the terminal must not end it before the tests are done with it.
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(self._port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                text = (self._folder / "broker.log").read_text(errors="replace")
                raise AssertionError(f"the Kafka broker did not start: {text[-2000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """End the broker at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Halt the broker: connections stay open and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End the broker and forget its data."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _java(self, main: str, *arguments: str) -> list[str]:
        return ["java", *self._jvm, "-cp", f"{self._jars}/*", main, *arguments]

    def _describe(self) -> str:
        controller = _free_port()
        lines = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self._port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self._port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self._folder / "data"),
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            # A broker that was killed may come back at once.
            "broker.session.timeout.ms": "1500",
            "broker.heartbeat.interval.ms": "500",
        }
        return "".join(f"{name}={value}\n" for name, value in lines.items())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    """Whether the broker, not only its socket, is there."""
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) != 0:
            return False
    try:
        admin = KafkaAdminClient(bootstrap_servers=f"127.0.0.1:{port}", bootstrap_timeout_ms=5000)
    except KafkaError:
        return False
    admin.close()
    return True
