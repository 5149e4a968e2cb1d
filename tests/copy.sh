#!/bin/sh
# Stands in for a video encoder and decoder: copies what -i or -b names to what -o names.
while [ $# -gt 0 ]; do
  case "$1" in
    -i|-b) from=$2 ;;
    -o) to=$2 ;;
  esac
  shift
done
exec cp "$from" "$to"
