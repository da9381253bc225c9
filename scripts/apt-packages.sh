#!/usr/bin/env bash
# Installs the Debian packages that building and testing need and this machine lacks. Prints what it installs.
set -euo pipefail

packages=(
  build-essential libseccomp-dev libssl-dev pkg-config   # runc, the load generator
  containernetworking-plugins iptables iproute2          # the native cluster
  mmdebstrap                                             # container images without a registry
  openssl
  postgresql                                             # storage tests run a real server
  softhsm2 opencryptoki                                  # PKCS#11 tests run real modules
)

missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ "${#missing[@]}" -eq 0 ] && exit 0

echo "== installing: ${missing[*]}"
if [ "$(id -u)" -ne 0 ]; then
  echo "these Debian packages are missing and only root can install them: ${missing[*]}" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# Debian's postgresql package would create and start a cluster of its own; the tests start theirs.
mkdir -p /etc/postgresql-common
[ -e /etc/postgresql-common/createcluster.conf ] || echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf
apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
