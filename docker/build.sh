#!/bin/sh
# build.sh: compiles pgstage and installs it under a folder, as the Dockerfile's build step does.
#
#   docker/build.sh DESTINATION [BUILD-FOLDER]
#
# The result belongs at / (DESTINATION is make's DESTDIR): usr/local/bin/pgstage, etc/pgstage/ …
# scripts/test runs this too, so what the image holds has been tried on a machine without Docker.
set -eu
destination=$1
top=$(cd "$(dirname "$0")/.." && pwd)
build=${2:-$top/build/docker}

cd "$top"
[ -x configure ] || ./bootstrap
mkdir -p "$build"
cd "$build"
[ -f Makefile ] || "$top/configure" --prefix=/usr/local --sysconfdir=/etc --localstatedir=/var \
    CFLAGS="${CFLAGS:--O2 -g}"
make -j"$(nproc)" pgstage
make install-strip DESTDIR="$destination"
mkdir -p "$destination/usr/local/lib/pgstage"
install -m 0755 "$top/docker/health" "$destination/usr/local/lib/pgstage/health"
