#!/bin/sh
# The commands of the release that runs here.
cd /opt/orthanc/current 2>/dev/null || { echo "orthanc-host: no release has run here; see journalctl -u orthanc-converge" >&2; exit 1; }
exec python3 orthanc_host "$@"
