#!/usr/bin/env bash
# install-typescript.sh PREFIX
#
# Puts the TypeScript compiler under PREFIX/package, for the tests of `featurekit generate typescript`.
# It needs npm and runs with node. With a compiler already in PREFIX it returns at once.
set -euo pipefail

die() { printf 'install-typescript: %s\n' "$*" >&2; exit 1; }

[ $# = 1 ] || die "usage: install-typescript.sh PREFIX"
version=5.9.3
sha512=jl1vZzPDinLr9eUt3J/t7V6FgNEw9QjvBPdysz9KfQDD41fQrC2Y4vKQdiaUpFT4bXlb1RHhLpp8wtm6M5TgSw==
[ ! -e "$1/package/lib/tsc.js" ] || exit 0

mkdir -p "$1"
archive=$1/typescript-$version.tgz
npm pack --silent --pack-destination "$1" "typescript@$version" >/dev/null \
  || die "cannot download TypeScript $version"
[ "$(openssl dgst -sha512 -binary "$archive" | base64 -w0)" = "$sha512" ] \
  || die "$archive has another hash"
tar -xzf "$archive" -C "$1"
rm "$archive"
