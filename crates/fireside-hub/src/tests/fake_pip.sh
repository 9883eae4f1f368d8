#!/bin/sh
# Stands in for `python -m pip download` in the tests. It is started through a symbolic link and
# looks beside that link: `no-pip` and `fails` choose a failure, `REQUIREMENT.whl` is the package.
here=$(dirname "$0")
echo "$*" >>"$here/calls"
if [ -e "$here/no-pip" ]; then
    echo "$0: No module named pip" >&2
    exit 1
fi
if [ -e "$here/fails" ]; then
    echo "WARNING: Retrying" >&2
    echo "ERROR: Could not find a version that satisfies the requirement" >&2
    echo "ERROR: No matching distribution found" >&2
    exit 1
fi
while [ "$1" != --dest ]; do shift; done
cp "$here/$3.whl" "$2/package-1.0-py3-none-any.whl"
