"""What the system's clock has to be told, so that it looks every minute what is due: text to paste."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Call"]

UNITS = """\
# /etc/systemd/system/{name}.service
[Unit]
Description=Run the pipelines of {module} that are due
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
User={user}
WorkingDirectory={folder}
EnvironmentFile={variables}
ExecStart={command}
NoNewPrivileges=yes

# /etc/systemd/system/{name}.timer
[Unit]
Description=Look every minute what is due of {module}

[Timer]
OnCalendar=*-*-* *:*:00
AccuracySec=1s

[Install]
WantedBy=timers.target

# then, as root:
# systemctl daemon-reload
# systemctl enable --now {name}.timer
"""


@dataclass(frozen=True, slots=True)
class Call:
    """How the command is called.

    Attributes:
        module: whose schedules they are.
        command: the program and its arguments.
        folder: where it starts.
        variables: the file with its settings.
        user: who it runs as.
        name: of the units.
    """

    module: str
    command: tuple[str, ...]
    folder: Path
    variables: Path
    user: str
    name: str

    def units(self) -> str:
        """Return a service and a timer of systemd."""
        return UNITS.format(
            name=self.name,
            module=self.module,
            user=_doubled(self.user),
            folder=_doubled(str(self.folder)),
            variables=_doubled(str(self.variables)),
            command=" ".join(_quoted(word) for word in self.command),
        )

    def crontab(self) -> str:
        """Return a line of a user's crontab; what is said on stderr is mailed."""
        command = shlex.join(self.command)
        folder, variables = shlex.quote(str(self.folder)), shlex.quote(str(self.variables))
        line = f"* * * * * cd {folder} && set -a && . {variables} && {command} >/dev/null"
        # cron ends the command at a sign of percent
        return line.replace("%", r"\%") + "\n"


def _doubled(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    """Return an argument as systemd reads it."""
    text = _doubled(word).replace("\\", "\\\\").replace('"', r"\"").replace("$", "$$")
    return f'"{text}"' if any(sign in text for sign in " '\";") or not text else text
