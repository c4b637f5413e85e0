#!/bin/sh
# Install the system packages that `make run` or `make test` needs, or print the one line
# that does. Usage: system.sh run|test
set -eu

# PortAudio, ALSA's way to the sound server, and a sound server for the demo.
packages="libportaudio2 libasound2-plugins pulseaudio pulseaudio-utils python3-venv"
# The window: what Qt's plug-ins for X11 and Wayland load.
packages="$packages libegl1 libgl1 libdbus-1-3 libfontconfig1 libwayland-cursor0"
packages="$packages libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 libxcb-shape0"
if [ "${1:-run}" = test ]; then
    # A second sound server; who lets sound go before other work; the compiler is for one of the quality measures; the browser and
    # the synthesiser are for gathering; a screen and letters for pictures of the window.
    packages="$packages pipewire pipewire-bin pipewire-pulse wireplumber dbus rtkit gcc python3-dev"
    packages="$packages chromium chromium-driver espeak-ng xvfb fonts-dejavu-core"
fi

if ! command -v dpkg-query >/dev/null; then
    echo "This is not a Debian-like system. Please see that it has the counterparts of: $packages"
    exit 0
fi
missing=""
for package in $packages; do
    status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
    [ "$status" = "install ok installed" ] || missing="$missing $package"
done
# A Python from elsewhere brings its own venv and headers.
if ! "${PYTHON:-python3}" -c 'import sys; sys.exit(sys.executable.startswith("/usr/bin/"))'; then
    :
else
    missing=$(echo "$missing" | sed 's/ python3-venv//; s/ python3-dev//')
fi
[ -n "$missing" ] || exit 0

install="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" = 0 ]; then
    as_root=""
elif sudo -n true 2>/dev/null; then
    as_root="sudo"
else
    echo "Some system packages are missing. Please run this line, then make again:"
    echo "  sudo $install"
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq
$as_root $install
