"""What the official image's entry point does with a configuration, as far as this project relies on it.

Merge /etc/orthanc/*.json and /run/secrets/*.json, add the image's defaults, put the plugins whose section (or switch) is
there into /run/orthanc/plugins, write the result to /tmp/orthanc.json and become Orthanc with the one given argument.
"""

import json
import os
import re
import shutil
import sys
from pathlib import Path

DEFAULTS = {
    "StorageDirectory": "/var/lib/orthanc/db",
    "RemoteAccessAllowed": True,
    "AuthenticationEnabled": True,
    "HttpsCACertificates": "/etc/ssl/certs/ca-certificates.crt",
    "Plugins": ["/run/orthanc/plugins", "/usr/share/orthanc/plugins"],
}
SECTION_DEFAULTS = {
    "PostgreSQL": {"EnableIndex": True, "EnableStorage": False, "Lock": False},
    "DicomWeb": {"Enable": True},
}
LIBRARIES = {
    "PostgreSQL": ["libOrthancPostgreSQLIndex.so", "libOrthancPostgreSQLStorage.so"],
    "DicomWeb": ["libOrthancDicomWeb.so"],
}
SWITCHES = {"STONE_WEB_VIEWER_PLUGIN_ENABLED": ["libOrthancWebViewer.so"]}
PLUGINS = Path("/run/orthanc/plugins")
AVAILABLE = Path("/usr/share/orthanc/plugins-available")


def merge(into, more):
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def main():
    if len(sys.argv) != 2:
        sys.exit("FATAL ERROR: expected a single argument: the path of the configuration")
    configuration = {}
    for folder in ("/etc/orthanc", "/run/secrets"):
        for path in sorted(Path(folder).glob("*.json")):
            text = re.sub(r"\$\{?(\w+)\}?", lambda m: os.environ.get(m[1], ""), path.read_text())
            merge(configuration, json.loads(text))
    wanted = [library for section, libraries in LIBRARIES.items() if section in configuration for library in libraries]
    wanted += [library for switch, libraries in SWITCHES.items() if os.environ.get(switch) == "true" for library in libraries]
    for section, defaults in SECTION_DEFAULTS.items():
        if section in configuration:
            configuration[section] = {**defaults, **configuration[section]}
    target = PLUGINS if PLUGINS.is_dir() else Path("/usr/share/orthanc/plugins")
    for library in wanted:
        shutil.copy(AVAILABLE / library, target / library)
    Path("/tmp/orthanc.json").write_text(json.dumps({**DEFAULTS, **configuration}, indent=2))
    os.execv("/usr/local/bin/Orthanc", ["Orthanc", sys.argv[1]])


main()
