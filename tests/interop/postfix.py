"""A Postfix of the test's own: its configuration, queue, data, log and mailboxes in one folder, on ports of its own.

Nothing leaves it: what is not for its own mailboxes is refused, and the transport for everything else is error(8).
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme

from tests.interop.loopback import free_ports

DOMAIN = "example.com"
BUSY = f"busy@{DOMAIN}"  # known, and deferred at RCPT
ERRORS = 20  # in one session, then Postfix says 421 and hangs up
FEW = 3  # recipients of a message, on the port "few"
FORBIDDEN = "this is not wanted here"  # a Subject that it refuses after the dot
SMALL_LIMIT = 20_000  # octets of a message, on the port "small"
SERVICES = {  # the process limit, the daemon and its options
    "smtp": "- smtpd",
    "smtps": "- smtpd -o smtpd_tls_wrappermode=yes",
    "verbose": "- smtpd -v -v -v",  # logs each read from the network
    "small": f"- smtpd -o message_size_limit={SMALL_LIMIT}",
    "sizeless": f"- smtpd -o message_size_limit={SMALL_LIMIT} -o smtpd_discard_ehlo_keywords=size",
    "few": f"- smtpd -o smtpd_recipient_limit={FEW}",
    "impatient": "- smtpd -o smtpd_timeout=1s",
    "clear": "- smtpd -o smtpd_discard_ehlo_keywords=starttls,pipelining,smtputf8",
    "screened": "1 postscreen",
}
WITH_TLS = {"starttls": "smtp", "implicit": "smtps"}  # the service for each kind
MAIN = """
compatibility_level = 3.6
config_directory = {folder}/etc
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/mail.log
maillog_file_prefixes = {folder}
myhostname = postfix.test
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtpd_peername_lookup = no
mynetworks =

# whom it serves
mydestination =
alias_maps =
local_recipient_maps =
virtual_mailbox_domains = {domain}
virtual_mailbox_maps = texthash:{folder}/etc/mailboxes
virtual_mailbox_base = {folder}/mail
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
smtpd_relay_restrictions = reject_unauth_destination
smtpd_data_restrictions = reject_unauth_pipelining
smtpd_recipient_restrictions = check_recipient_access texthash:{folder}/etc/access
header_checks = regexp:{folder}/etc/header_checks
default_transport = error:nothing leaves this machine
relay_transport = error:nothing leaves this machine

# what it leaves as it is
smtputf8_enable = yes
message_size_limit = 104857600
virtual_mailbox_limit = 104857600
message_drop_headers =
local_header_rewrite_clients =
disable_mime_input_processing = yes

# what it does not bear with
smtpd_helo_required = yes
smtpd_hard_error_limit = {errors}
smtpd_forbid_unauth_pipelining = yes
smtpd_forbid_bare_newline = reject
strict_rfc821_envelopes = yes

postscreen_greet_wait = 1s
postscreen_greet_action = enforce
postscreen_cache_map =

# haste
smtpd_error_sleep_time = 0
in_flow_delay = 0

smtpd_tls_security_level = may
smtpd_tls_chain_files = {folder}/etc/server.pem
smtpd_tls_loglevel = 1
"""
MASTER = """
cleanup   unix  n - n - 0   cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n - -   trivial-rewrite
bounce    unix  - - n - 0   bounce
defer     unix  - - n - 0   bounce
trace     unix  - - n - 0   bounce
verify    unix  - - n - 1   verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - -   proxymap
showq     unix  n - n - -   showq
error     unix  - - n - -   error
retry     unix  - - n - -   error
virtual   unix  - n n - -   virtual
smtpd     pass  - - n - -   smtpd
anvil     unix  - - n - 1   anvil
postlog   unix-dgram n - n - 1 postlogd
"""
_ADDED = re.compile(rb"Return-Path: <.*>\nX-Original-To: .*\nDelivered-To: .*\nReceived: from .*\n(?:\t.*\n)+")
_BEGUN = re.compile(r"/smtpd\[\d+\]: connect from ")
_ENDED = re.compile(r"/smtpd\[\d+\]: disconnect from ")
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")


class Postfix:
    """`with Postfix(authority, recipients)`: running inside, stopped and removed after. For root only."""

    def __init__(self, authority: trustme.CA, recipients: Iterable[str]) -> None:
        """It knows these recipients; its certificate is for 127.0.0.1."""
        self.ports = dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True))
        self._authority = authority
        self._recipients = list(recipients)
        self._folder = Path(tempfile.mkdtemp(prefix="spoold-postfix-"))
        self._etc = self._folder / "etc"

    def __enter__(self) -> Self:
        self._write()
        try:
            self._command("start")
        except BaseException:
            shutil.rmtree(self._folder)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._command("stop")
        finally:
            shutil.rmtree(self._folder)

    def url(self, service: str = "smtp", tls: str = "none") -> str:
        return f"smtp://127.0.0.1:{self.ports[service]}?tls={tls}"

    @property
    def log(self) -> str:
        return (self._folder / "mail.log").read_text("utf-8", "backslashreplace")

    @property
    def at_rest(self) -> bool:
        """True if all sessions have ended, and everything that was accepted has left the queue."""
        if len(_BEGUN.findall(self.log)) != len(_ENDED.findall(self.log)):
            return False
        queues = (self._folder / "queue" / name for name in ("incoming", "active", "deferred", "hold", "corrupt"))
        return not any(file.is_file() for queue in queues for file in queue.rglob("*"))

    def inbox(self, address: str) -> list[bytes]:
        """What lies in a mailbox, without the fields that Postfix is documented to put on top; lines end with LF."""
        folder = self._folder / "mail" / address / "new"
        return [_without_added(file.read_bytes()) for file in folder.iterdir()] if folder.exists() else []

    def empty(self) -> None:
        """Throw away what lies in the mailboxes."""
        for mailbox in (self._folder / "mail").iterdir():
            shutil.rmtree(mailbox)

    def _write(self) -> None:
        self._folder.chmod(0o755)  # its daemons do not run as root
        for name in ("etc", "queue", "data", "mail"):
            (self._folder / name).mkdir()
        nobody, postfix = pwd.getpwnam("nobody"), pwd.getpwnam("postfix")
        os.chown(self._folder / "mail", nobody.pw_uid, nobody.pw_gid)
        os.chown(self._folder / "data", postfix.pw_uid, -1)
        (self._etc / "main.cf").write_text(
            MAIN.format(folder=self._folder, domain=DOMAIN, uid=nobody.pw_uid, gid=nobody.pw_gid, errors=ERRORS)
        )
        listening = "".join(
            f"127.0.0.1:{self.ports[service]} inet n - n - {daemon}\n" for service, daemon in SERVICES.items()
        )
        (self._etc / "master.cf").write_text(listening + MASTER)
        known = [*self._recipients, BUSY]
        (self._etc / "mailboxes").write_text("".join(f"{address} {address}/\n" for address in known))
        (self._etc / "access").write_text(f"{BUSY} 450 4.2.1 mailbox busy\n")
        (self._etc / "header_checks").write_text(f"/^Subject: {FORBIDDEN}/ REJECT 5.7.1 not wanted\n")
        certificate = self._authority.issue_cert("127.0.0.1")
        certificate.private_key_and_cert_chain_pem.write_to_path(self._etc / "server.pem")

    def _command(self, command: str) -> None:
        program = shutil.which("postfix", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            raise FileNotFoundError("postfix is not installed; tools/interop.sh does that")
        said = self._folder / f"{command}.log"
        with said.open("wb") as out:  # no pipe: the daemons would keep it open
            done = subprocess.run([program, "-c", str(self._etc), command], stdout=out, stderr=out, check=False)
        if done.returncode:
            log = self.log if (self._folder / "mail.log").exists() else ""
            raise RuntimeError(f"postfix {command} failed: {said.read_text()}{log}")


def _without_added(file: bytes) -> bytes:
    match = _ADDED.match(file)
    assert match is not None, file[:2000]
    return file[match.end() :]


def as_kept(wire: bytes) -> bytes:
    """What Postfix makes of a message that has arrived as `wire`; lines end with LF.

    It takes a "From " line on top for mbox's and makes it a field, writes "Name :" as "Name:", and puts an empty line
    before what is no field, so that it does not become part of its own (smtpd.c, mime_state.c; no parameter for these).
    """
    lines = wire.replace(b"\r\n", b"\n").split(b"\n")
    kept: list[bytes] = []
    while lines[0].lstrip(b">").startswith(b"From "):
        kept.append(b"X-Mailbox-Line: " + lines.pop(0))
    for number, line in enumerate(lines):
        field = _FIELD.match(line)
        if field is not None:
            kept.append(field[1] + b":" + line[field.end() :])
        elif number and line.startswith((b" ", b"\t")):
            kept.append(line)
        else:
            return b"\n".join([*kept, *([] if line == b"" else [b""]), *lines[number:]])
    return b"\n".join(kept)
