"""Orthanc seen from inside its container: `probe.py health`, `probe.py modalities`.

health       exit 0 when Orthanc answers a call that must reach the database, 1 with one line that says why not
modalities   make Orthanc's modalities equal to modalities.json beside this file, without a restart, and print what changed

It shows its own certificate of the inside authority, verifies Orthanc's, and logs in as the user `probe`. Standard library only.
"""

import base64
import http.client
import json
import socket
import ssl
import sys
from pathlib import Path
from urllib.parse import quote

HOME = Path(__file__).resolve().parent
NAME = "orthanc.inside"  # the name in Orthanc's certificate
PORT = 8042
SECONDS = 8


class _Orthanc(http.client.HTTPSConnection):
    """HTTPS to this container's own Orthanc, verified under the name that its certificate carries."""

    def connect(self):
        plain = socket.create_connection(("127.0.0.1", PORT), SECONDS)
        self.sock = self._context.wrap_socket(plain, server_hostname=NAME)


def call(method, path, body=None):
    """The JSON that Orthanc answers, or None where it answers nothing; OSError when it can't be had."""
    context = ssl.create_default_context(cafile=str(HOME / "orthanc-authority.crt"))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(str(HOME / "probe.crt"), str(HOME / "probe.key"))
    password = (HOME / "password").read_text(encoding="utf-8").strip()
    login = base64.b64encode(("probe:" + password).encode()).decode()
    connection = _Orthanc(NAME, PORT, timeout=SECONDS, context=context)
    try:
        headers = {"Authorization": "Basic " + login, "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise OSError("Orthanc answered {} to {} {}".format(answer.status, method, path))
        return json.loads(content) if content.strip() else None
    except http.client.HTTPException as error:
        raise OSError("Orthanc broke off: {!r}".format(error)) from None
    finally:
        connection.close()


def health():
    call("GET", "/changes?last")  # /system would be answered from memory, this one asks the database


def hold_modalities():
    wanted = json.loads((HOME / "modalities.json").read_text(encoding="utf-8"))
    known = call("GET", "/modalities?expand")
    for name in sorted(set(known) - set(wanted)):
        call("DELETE", "/modalities/" + quote(name))
        print("modality removed: " + name)
    for name, properties in sorted(wanted.items()):
        current = known.get(name, {})
        if any(current.get(key) != value for key, value in properties.items()):
            call("PUT", "/modalities/" + quote(name), properties)
            print(("modality changed: " if name in known else "modality added: ") + name)


def main(arguments):
    actions = {"health": health, "modalities": hold_modalities}
    if len(arguments) != 1 or arguments[0] not in actions:
        print("usage: probe.py health | modalities", file=sys.stderr)
        return 2
    try:
        actions[arguments[0]]()
    except (OSError, ValueError) as error:
        print("{}: {}".format(arguments[0], error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
