#!/usr/bin/env bash
# install-redis.sh PREFIX
#
# Puts Redis 8 under PREFIX/bin on Debian 12 or newer, whose own packages may stop at Redis 7.0: the
# binary packages of Debian 13 and the libraries they link with, unpacked and started through their
# own dynamic loader. apt runs with lists, cache and sources of its own under PREFIX, so the machine's
# packages stay as they are. With a working Redis already in PREFIX it returns at once.
set -euo pipefail

die() { printf 'install-redis: %s\n' "$*" >&2; exit 1; }

[ $# = 1 ] || die "usage: install-redis.sh PREFIX"
command -v dpkg-deb >/dev/null || die "needs a Debian machine (no dpkg-deb here)"
mkdir -p "$1"
prefix=$(cd "$1" && pwd)
suite=trixie
packages=(redis-tools libc6 libatomic1 libjemalloc2 liblzf1 libssl3t64 libstdc++6 libgcc-s1
          libsystemd0 libcap2 zlib1g libzstd1) # redis-server is redis-check-rdb under another name

# A server that starts on a socket of its own and sets a field with a time to live: what "works" means.
works() {
  local tmp pid out=
  [ -x "$prefix/bin/redis-server" ] && [ -x "$prefix/bin/redis-cli" ] || return 1
  tmp=$(mktemp -d)
  "$prefix/bin/redis-server" --port 0 --unixsocket "$tmp/s" --dir "$tmp" --save '' >"$tmp/log" 2>&1 &
  pid=$!
  for _ in $(seq 100); do
    out=$("$prefix/bin/redis-cli" -s "$tmp/s" HSETEX k EX 9 FIELDS 1 f v 2>/dev/null) && break
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.05
  done
  kill "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
  [ "$out" = 1 ] || sed 's/^/install-redis:   /' "$tmp/log" >&2
  rm -rf "$tmp"
  [ "$out" = 1 ]
}

exec 9>"$prefix/.lock"
flock -w 600 9 || die "another install-redis.sh has held $prefix/.lock for 10 minutes"
if works; then exit 0; fi

# The mirror is the one this machine is set up with.
mirror=$( { grep -hs '^URIs:' /etc/apt/sources.list.d/*.sources | awk '{print $2}'
            grep -hsE '^deb ' /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
              | sed -E 's/\[[^]]*\] *//' | awk '{print $2}'; } | grep -E '/debian/?$' | head -n1 ) || true
[ -n "$mirror" ] || die "no Debian mirror in /etc/apt (looked for a URI ending in /debian)"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e "$keyring" ] || die "$keyring is missing (package debian-archive-keyring)"

apt=$prefix/apt
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/debs"
printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' \
  "$mirror" "$suite" "$keyring" > "$apt/debian.sources"
own_apt() {
  apt-get -q -o Dir::Etc::sourcelist="$apt/debian.sources" -o Dir::Etc::sourceparts=/dev/null \
    -o Dir::State::lists="$apt/lists" -o Dir::State::status=/dev/null -o Dir::Cache="$apt/cache" \
    -o APT::Sandbox::User=root -o Acquire::Retries=3 -o Acquire::Languages=none "$@" \
    >>"$apt/log" 2>&1 || { tail -n 5 "$apt/log" >&2; die "apt-get $1 for $suite failed"; }
}
own_apt update
(cd "$apt/debs" && own_apt download "${packages[@]}")

root=$prefix/root
rm -rf "$root" "$prefix/bin"
mkdir -p "$root" "$prefix/bin"
for deb in "$apt"/debs/*.deb; do dpkg-deb -x "$deb" "$root"; done
loader=$(find "$root" -name 'ld-linux*.so.*' | head -n1)
libs=$(dirname "$(find "$root" -name libssl.so.3 | head -n1)")
for name in redis-server redis-cli; do
  binary=${name/redis-server/redis-check-rdb}
  printf '#!/bin/sh\nexec "%s" --argv0 "%s" --library-path "%s" "%s" "$@"\n' \
    "$loader" "$name" "$libs" "$root/usr/bin/$binary" > "$prefix/bin/$name"
  chmod +x "$prefix/bin/$name"
done
rm -rf "$apt"
works || die "the packages of $suite do not run here"
printf 'install-redis: %s\n' "$("$prefix/bin/redis-server" --version)" >&2
