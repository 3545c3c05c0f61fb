"""A real mail server (Debian's python3-aiosmtpd) on loopback for the tests: asks for a login, and puts what it takes into a maildir.

usage: server.py PORT MAILDIR [REFUSALS]

Port 0 is any. Says `listening on PORT` when it does. The first REFUSALS mails are put off with 451, as a mail server that does not know us yet
does ("greylisting"); an address with `nowhere` in it is refused for good with 550.
"""

import asyncio
import sys

from aiosmtpd.controller import UnthreadedController
from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import AuthResult, LoginPassword

NAME, PASSWORD = b"frokost", b"en hemmelighed"


class Server(Mailbox):
    def __init__(self, maildir, refusals):
        super().__init__(maildir)
        self.refusals = refusals

    async def handle_RCPT(self, server, session, envelope, address, options):
        if "nowhere" in address:
            return "550 5.1.1 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if self.refusals > 0:
            self.refusals -= 1
            return "451 4.7.1 try again later"
        return await super().handle_DATA(server, session, envelope)


def authenticate(server, session, envelope, mechanism, data):
    sound = isinstance(data, LoginPassword) and (data.login, data.password) == (NAME, PASSWORD)
    return AuthResult(success=sound)


async def main(port, maildir, refusals):
    controller = UnthreadedController(
        Server(maildir, refusals),
        hostname="127.0.0.1",
        port=port,
        loop=asyncio.get_running_loop(),
        authenticator=authenticate,
        auth_required=True,
        auth_require_tls=False,
    )
    server = await controller._create_server()
    print(f"listening on {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 0))
