#!/bin/sh
# At first boot: Docker, its compose plugin, the aws CLI where the image lacks it. Retried with a bound; then cloud-init says so.
set -eu
again() {  # COMMAND...: up to ten times
  for pause in 2 5 10 20 30 30 30 30 30; do "$@" && return; echo "failed: $*; again in $pause s" >&2; sleep "$pause"; done
  "$@"
}
if command -v dnf >/dev/null; then again dnf -qy install docker
else
  export DEBIAN_FRONTEND=noninteractive
  again apt-get -qq update
  again apt-get -qqy install --no-install-recommends docker.io iptables
  command -v aws >/dev/null || again apt-get -qqy install --no-install-recommends awscli
fi
systemctl enable --now docker
# In no package of Amazon Linux: one pinned file, verified before it is installed.
plugin=/usr/local/lib/docker/cli-plugins/docker-compose file=$(mktemp)
compose() {
  curl -fsSL --connect-timeout 10 --max-time 300 -o "$file" "$1" && echo "$2  $file" | sha256sum -c --quiet
}
again compose "$1" "$2"
install -Dm 755 "$file" $plugin
rm -f "$file"
systemctl enable --now orthanc-converge.timer
