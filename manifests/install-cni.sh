#!/bin/sh
# The DaemonSet's init step: gives the node the CNI plugins and the CNI configuration that pods need, where it has none. Each file appears in one step,
# under its name or not at all, since the kubelet may look at any moment; a second run changes nothing.
#
#   CNI_BIN_FOLDER             the node's plugins; /opt/cni/bin
#   KUBE_ROUTER_CNI_CONF_FILE  the node's configuration, as the daemon has it; unset: none is installed
#   CNI_CONF_TEMPLATE          what becomes of it, from a ConfigMap; /etc/kube-router/cni-conf.json, as in kube-router's DaemonSet
#   CNI_PLUGINS                where the image has its plugins; /usr/local/lib/cni
set -eu

plugins=${CNI_PLUGINS:-/usr/local/lib/cni}
bin=${CNI_BIN_FOLDER:-/opt/cni/bin}
template=${CNI_CONF_TEMPLATE:-/etc/kube-router/cni-conf.json}
conf=${KUBE_ROUTER_CNI_CONF_FILE:-}
beside=

say() { echo "install-cni: $*"; }

stop() {
  say "$*" >&2
  exit 1
}

# A file that is half there is nobody's.
trap '[ -z "$beside" ] || rm -f "$beside"' EXIT
trap 'exit 1' HUP INT TERM

# place FROM TO MODE. A rename replaces a name, never the content of a file that is being executed or read.
place() {
  beside=$(dirname "$2")/.$(basename "$2").install-cni
  rm -f "$beside"
  cp "$1" "$beside" || stop "$2 could not be written: mount the node's $(dirname "$2") there, writable, and see that its disk has room"
  chmod "$3" "$beside"
  mv -f "$beside" "$2" || stop "$2 could not be written: is it a folder, or a file mounted on its own? Mount the node's $(dirname "$2") instead"
  beside=
}

mkdir -p "$bin" || stop "$bin is not there and could not be made: mount the node's folder there, writable"
for from in "$plugins"/*; do
  [ -f "$from" ] || stop "$plugins holds no plugins: this is not the image of fairway"
  to=$bin/$(basename "$from")
  if [ -e "$to" ]; then
    say "$to is there"
  else
    place "$from" "$to" 755
    say "$to installed"
  fi
done

if [ -z "$conf" ]; then
  say 'no configuration is asked for (KUBE_ROUTER_CNI_CONF_FILE is not set)'
  exit 0
fi
if [ -e "$conf" ]; then
  say "$conf is there and stays as it is"
  exit 0
fi
if [ ! -s "$template" ]; then
  say "$conf is left to the daemon, which makes one: there is no template at $template"
  exit 0
fi

folder=$(dirname "$conf")
mkdir -p "$folder" || stop "$folder is not there and could not be made: mount the node's folder there, writable"
# The runtime takes the first name in order. A lone .conf is what this one takes the place of, as with kube-router; of several, nobody here knows which.
foreign=
count=0
for file in "$folder"/*.conf; do
  if [ -f "$file" ]; then
    foreign=$file
    count=$((count + 1))
  fi
done
place "$template" "$conf" 644
say "$conf installed from $template"
if [ "$count" -eq 1 ]; then
  # Kept under a name that no runtime reads, for the way back.
  mv -f "$foreign" "$foreign.before-fairway"
  say "$foreign set aside as $foreign.before-fairway: $(basename "$conf") takes its place"
elif [ "$count" -gt 1 ]; then
  say "$folder holds $count other .conf files, which stay; the container runtime uses the first name in order: see that it is $(basename "$conf")" >&2
fi
