#!/bin/sh
# Installs pyoci from a release's archive, after it has verified the archive's SHA-256 sum.
#
#   install.sh [--prefix DIRECTORY] [--version VERSION] [--sha256 SUM] SOURCE
#   install.sh [--prefix DIRECTORY] --rollback      return to the version before the last installation
#   install.sh [--prefix DIRECTORY] --uninstall     remove exactly what it has installed
#
# SOURCE is the archive, or the directory that has it: a path, or a URL that begins with https. The sum comes from the
# file SHA256SUMS beside the archive, or from --sha256, which also allows a URL that begins with http. --version chooses
# one of several archives in a directory. The prefix is /usr/local.
#
# Containers keep running while it changes the version. It refuses to uninstall pyoci while containers live, because
# their engine could not stop them: PYOCI_FORCE_REMOVE=1 overrides that.
set -eu
umask 022
export LC_ALL=C # one order of names

fail() {
    echo "cannot $1" >&2
    exit 1
}

usage() {
    sed -n '2,${/^#/!q;s/^# \{0,1\}//p;}' "$0" >&2
    exit 2
}

# Print the status, the id and the root of each container that is not stopped, as the executable $1 knows them. The
# status is `unknown` if the executable can't use a container's record: the container may live.
live_containers() {
    for record in /run/pyoci/*/record.json /run/docker/runtime-*/*/*/record.json /run/containerd/runc/*/*/record.json \
        /run/user/*/pyoci/*/record.json /run/user/*/docker/runtime-*/*/*/record.json; do
        [ -f "$record" ] || continue
        directory=${record%/*}
        root=${directory%/*} id=${directory##*/}
        status=$(as_owner "$directory" "$1" --root "$root" state "$id" 2>/dev/null |
            sed -n 's/^  "status": "\([a-z]*\)",*$/\1/p')
        [ "$status" = stopped ] || [ ! -e "$record" ] || echo "${status:-unknown} $id in $root"
    done
}

# Run a command as the user who owns the directory $1, because pyoci uses only what its user owns.
as_owner() {
    user=$(stat -c %u "$1") group=$(stat -c %g "$1")
    shift
    if [ "$user" = "$(id -u)" ]; then
        "$@"
    else
        env -i setpriv --reuid "$user" --regid "$group" --clear-groups --inh-caps=-all "$@"
    fi
}

# Fail if containers live, and name them.
refuse_if_containers_live() {
    [ "${PYOCI_FORCE_REMOVE:-}" != 1 ] && [ -x "$1" ] || return 0
    live=$(live_containers "$1")
    [ -n "$live" ] || return 0
    echo "cannot remove pyoci: containers live, and their engine could not stop them without it" >&2
    echo "$live" | sed 's/^/    /' >&2
    echo "stop them, or set PYOCI_FORCE_REMOVE=1" >&2
    return 1
}

# Write what the URL $1 names to the file $2. With curl, a redirection never leads from https to http.
fetch() {
    protocols='=https'
    [ "${1#http://}" = "$1" ] || protocols='=http,https'
    if command -v curl >/dev/null; then
        error=$(curl -fsSL --proto "$protocols" --proto-redir "$protocols" -o "$2" "$1" 2>&1) || fail "fetch $1: $error"
    elif command -v wget >/dev/null; then # a redirection may lead to http
        [ -n "$sum" ] || fail "verify $1: there is no curl (hint: install it, or pass --sha256)"
        error=$(wget -nv -O "$2" "$1" 2>&1) || fail "fetch $1: $error"
    else
        fail "fetch $1: install curl or wget"
    fi
}

# Put the file $1 of the source beside SHA256SUMS into $state/new.
take() {
    case $place in
    http://* | https://*) fetch "$place/$1" "$state/new/$1" ;;
    *) cp "$place/$1" "$state/new/$1" 2>/dev/null || fail "read $place/$1" ;;
    esac
}

# Set `archive` to the name of the one archive in SHA256SUMS for this machine.
choose_archive() {
    take SHA256SUMS
    pattern="pyoci-${version:-[^ ]*}-linux-$machine\\.tar\\.xz"
    archive=$(sed -n "s/^[0-9a-f]\\{64\\} [ *]\\($pattern\\)\$/\\1/p" "$state/new/SHA256SUMS")
    case $archive in
    '') fail "install pyoci${version:+ $version}: $place/SHA256SUMS has no archive for $machine" ;;
    *"
"*) fail "choose an archive: $place has several, name one with --version" ;;
    esac
}

# Fail unless the archive has the expected sum.
verify() {
    if [ -z "$sum" ]; then
        [ -e "$state/new/SHA256SUMS" ] || take SHA256SUMS
        sum=$(awk -v name="$archive" '$2 == name || $2 == "*" name { print $1 }' "$state/new/SHA256SUMS")
        [ -n "$sum" ] || fail "verify $archive: SHA256SUMS does not have it"
    fi
    found=$(sha256sum <"$state/new/$archive" | cut -d ' ' -f 1)
    [ "$found" = "$sum" ] || fail "use $archive: its SHA-256 sum is $found, expected $sum"
}

# Install the tree $1 in place of the present version, and keep that for --rollback. $state/files lists what belongs to
# pyoci; a name with a slash at its end is a directory. If a file can't be written, the present version stays as it is.
put() {
    tree=$1
    (cd "$tree" && find . -type d | sed -n 's,^\./\(.*\),\1/,p' | sort && find . -type f | sed 's,^\./,,' | sort) \
        >"$state/wanted"
    touch "$state/files"
    grep -v '/$' "$state/wanted" | while IFS= read -r file; do
        { [ ! -e "$prefix/$file" ] && [ ! -L "$prefix/$file" ]; } || grep -Fqx "$file" "$state/files" ||
            fail "write $prefix/$file: it exists, and this installer did not install it (hint: remove it, or pass --prefix)"
    done || exit 1
    while IFS= read -r file; do
        case $file in
        */) mkdir "$prefix/$file" 2>/dev/null || grep -Fqx "$file" "$state/files" || continue ;;
        *) cp -p "$tree/$file" "$prefix/$file.pyoci-new" 2>/dev/null || fail "write $prefix/$file" ;;
        esac
        echo "$file"
    done <"$state/wanted" >"$state/ours"

    mkdir "$state/before"
    grep -v '/$' "$state/files" | while IFS= read -r file; do
        [ -e "$prefix/$file" ] || continue
        { mkdir -p "$state/before/$(dirname "$file")" && cp -p "$prefix/$file" "$state/before/$file"; } ||
            fail "keep $prefix/$file for --rollback"
    done || exit 1
    trap '' HUP INT TERM
    # an uninstallation after a crash needs the names of the old and the new files
    cp "$state/files" "$state/old"
    sort -u "$state/old" "$state/ours" >"$state/files.new"
    mv -f "$state/files.new" "$state/files"
    grep -v '/$' "$state/wanted" | while IFS= read -r file; do
        mv -f "$prefix/$file.pyoci-new" "$prefix/$file"
    done
    remove_files "$state/old" "$state/ours"
    mv -f "$state/ours" "$state/files"
    rm -rf "$state/previous"
    [ ! -s "$state/old" ] || mv "$state/before" "$state/previous"
}

# Remove the files in the list $1 that the list $2 lacks, and its directories if they are empty.
remove_files() {
    sort -r "$1" | while IFS= read -r file; do
        grep -Fqx "$file" "$2" && continue
        case $file in
        */) rmdir "$prefix/$file" 2>/dev/null || true ;;
        *) rm -f "$prefix/$file" ;;
        esac
    done
}

# Remove what a run needs no more after it has ended, also after a failure.
clean_up() {
    clean_up_files
    rmdir "$state/lock" "$state" 2>/dev/null || true
}

clean_up_files() {
    if [ -e "$state/ours" ]; then # the new version is not installed
        while IFS= read -r file; do rm -f "$prefix/$file.pyoci-new"; done <"$state/wanted"
        remove_files "$state/ours" "$state/files"
    fi
    (cd "$state" && rm -rf new before wanted ours old files.new && { [ -s files ] || rm -f files; })
}

# Make the directory $state for this process alone.
lock() {
    mkdir -p "$state" 2>/dev/null || fail "write to $prefix"
    mkdir "$state/lock" 2>/dev/null ||
        fail "change $prefix: another installation runs (hint: if none does, remove $state/lock)"
    clean_up_files # of an installation that was killed
    trap clean_up EXIT
    trap 'exit 1' HUP INT TERM
}

prefix=/usr/local version='' sum='' action=install source=''
while [ $# -gt 0 ]; do
    case $1 in
    --prefix | --version | --sha256)
        [ $# -gt 1 ] || usage
        case $1 in
        --prefix) prefix=$2 ;;
        --version) version=$2 ;;
        --sha256) sum=$2 ;;
        esac
        shift
        ;;
    --rollback | --uninstall) action=${1#--} ;;
    -*) usage ;;
    *)
        [ -z "$source" ] || usage
        source=$1
        ;;
    esac
    shift
done
case $action:$source in
install: | rollback:?* | uninstall:?*) usage ;;
esac
[ -d "$prefix" ] || fail "use $prefix: it is not a directory"
prefix=$(cd "$prefix" && pwd -P)
state=$prefix/.pyoci-install

case $action in
uninstall)
    [ -e "$state/files" ] || fail "uninstall pyoci: this installer has not installed it in $prefix"
    lock
    refuse_if_containers_live "$prefix/bin/pyoci"
    remove_files "$state/files" /dev/null
    rm -rf "$state/files" "$state/previous"
    echo "removed pyoci from $prefix"
    exit
    ;;
rollback)
    [ -d "$state/previous" ] || fail "roll back: there is no previous version in $prefix"
    lock
    put "$state/previous"
    ;;
install)
    for program in tar xz sha256sum awk; do
        command -v $program >/dev/null || fail "install pyoci: there is no $program (hint: install it)"
    done
    case $source in
    http://*) [ -n "$sum" ] || fail "use $source: http protects nothing, use https or pass --sha256" ;;
    https://*) ;;
    *) [ -e "$source" ] || fail "read $source: no such file or directory" ;;
    esac
    machine=$(uname -m)
    case $source in
    */*.tar.xz) place=${source%/*} archive=${source##*/} ;;
    *.tar.xz) place=. archive=$source ;;
    *) place=${source%/} archive='' ;;
    esac
    case $version$sum in
    *[!0-9A-Za-z.+~-]*) usage ;;
    esac
    lock
    mkdir "$state/new"
    [ -n "$archive" ] || choose_archive
    take "$archive"
    verify
    mkdir "$state/new/tree"
    tar -xJof "$state/new/$archive" -C "$state/new/tree" || fail "unpack $archive"
    tree=$state/new/tree/${archive%.tar.xz}
    "$tree/bin/pyoci" --version >/dev/null 2>&1 || fail "install $archive: its executable does not run on this machine"
    put "$tree"
    ;;
esac
echo "installed $("$prefix/bin/pyoci" --version | head -n 1) in $prefix"
