# SPDX-License-Identifier: Apache-2.0
"""The images in which deeds are done, and the scripts of what containers do.

Each script is a file of the image, run by ``sh -e``: it fails if what it does fails, or isn't seen
afterwards. What a deed needs is in the image as distributions have it. busybox's shell runs its own
commands; a program that is to be run as a file is named by its path.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.support.images import LAYERS, Image
from tests.support.layers import Entry, directory, file, symlink, whiteout
from tests.support.podman import BUSYBOX

_APP, _OTHER, _APT = 1234, 1300, 42

#: Name -> what root does.
AS_ROOT: Mapping[str, str] = {
    "makes a file in a system directory": "echo new > /usr/bin/new; [ $(cat /usr/bin/new) = new ]",
    "makes a file in a directory of a package": "echo new > /opt/conf.d/new",
    "appends to a file": "echo more >> /etc/tool.conf; grep -q more /etc/tool.conf",
    "removes a file": "rm /opt/conf.d/4.conf; [ ! -e /opt/conf.d/4.conf ]",
    "removes a directory": "rm -r /usr/share/doc/tool; [ ! -e /usr/share/doc/tool ]",
    "renames a directory": "mv /usr/share/doc/other /usr/share/doc/renamed",
    "changes owner and mode": (
        "chown app:app /opt/conf.d/5.conf; chmod 0600 /opt/conf.d/5.conf;"
        "[ $(stat -c %u:%a /opt/conf.d/5.conf) = 1234:600 ]"
    ),
    # As dpkg does: a new file beside, the old one kept by a hard link.
    "replaces a file (as dpkg)": (
        "cd /usr/bin; echo 'echo new' > tool.dpkg-new; chmod 0755 tool.dpkg-new;"
        "ln tool tool.dpkg-tmp; mv tool.dpkg-new tool; rm tool.dpkg-tmp; [ $(tool) = new ]"
    ),
    "keeps a database (as dpkg)": (
        "cd /var/lib/dpkg; cp -p status status-new; echo more >> status-new;"
        "ln status status-old; mv status-new status; grep -q more status"
    ),
    "locks its database (as dpkg -i)": (
        "cd /var/lib/dpkg; for f in lock lock-frontend triggers/Lock ../apt/lists/lock; do"
        " : > $f; done; echo x > updates/tmp.i; rm updates/tmp.i;"
        "echo /usr > info/new.list-new; mv info/new.list-new info/new.list"
    ),
    "fetches lists (as apt-get update)": (
        "cd /var/lib/apt/lists; echo list > partial/new; chown _apt partial/new;"
        "mv partial/new new; chown root new; [ $(cat new) = list ]"
    ),
    # As shadow does: a lock by a hard link, the new file renamed over the old one.
    "adds a user (as useradd)": (
        "cd /etc; for f in passwd group shadow; do"
        " echo 1 > $f.1; ln $f.1 $f.lock; rm $f.1; cp -p $f $f-; cp -p $f $f+; done;"
        "echo new:x:5000:5000::/home/new:/bin/sh >> passwd+; echo new:x:5000: >> group+;"
        "echo new:*:1:::::: >> shadow+;"
        "for f in passwd group shadow; do mv $f+ $f; rm $f.lock; done;"
        "mkdir /home/new; chown 5000 /home/new; [ $(id -u new) = 5000 ]"
    ),
    "reads closed files of others": "cat /home/app/.secret /etc/shadow /root/.profile",
    "becomes another user (su)": "said=$(/usr/bin/su app -c 'id -u'); [ $said = 1234 ]",
    "writes in a sticky directory of the image": (
        "echo x > /srv/sticky/root; mode=$(stat -c %a /srv/sticky);"
        "[ $mode = 1777 ] || { echo mode $mode; exit 1; }"
    ),
}

#: The same for the user that the image names.
AS_APP: Mapping[str, str] = {
    "writes in its home": "echo x > /home/app/new; [ $(cat /home/app/new) = x ]",
    "appends to a file of its home": (
        "echo more >> /home/app/.profile;"
        "grep -q '# app' /home/app/.profile || { echo its content is gone; exit 1; }"
    ),
    "reads its closed files": "said=$(cat /home/app/.secret); [ $said = secret ]",
    "writes in the working directory": "[ $PWD = /srv/work ]; echo x > new; [ $(cat new) = x ]",
    "writes in a volume": "echo x > /data/new; [ $(cat /data/there) = there ]",
    "writes in another directory of its own": "echo x > /var/lib/app/new",
    "writes in /tmp": "echo x > /tmp/app",
    "writes in a sticky directory of the image": "echo x > /srv/sticky/app",
    "runs a setuid program (su)": "said=$(/usr/bin/su root -c 'id -u'); [ $said = 0 ]",
    # sh -e takes no notice of what fails, or doesn't, behind a "!".
    "can't write what is others'": (
        "for d in /etc /usr/bin /var/lib/other /root /srv; do"
        " if (echo x > $d/no) 2>/dev/null; then echo $d; exit 1; fi; done;"
        "if rm -f /opt/conf.d/1.conf 2>/dev/null; then echo 1.conf; exit 1; fi"
    ),
    "can't read what is others'": (
        "for f in /etc/shadow /var/lib/other/key; do"
        " if cat $f 2>/dev/null; then echo $f; exit 1; fi; done"
    ),
}

#: Runs all scripts of a directory and says of each ``ok NAME`` or ``no NAME: why``.
RUNNER = """\
for script in /deeds/$1/*; do
    name=${script##*/}
    if said=$(sh -e "$script" 2>&1); then echo "ok $name"; continue; fi
    echo $(echo "no $name: $said")
done
"""
_APPLETS = "cat chmod chown cp echo grep id ln ls mkdir mv rm sh stat touch tr true"


def _scripts() -> list[Entry]:
    found = [directory("deeds"), file("deeds/run", RUNNER)]
    for user, scripts in (("root", AS_ROOT), ("app", AS_APP)):
        found.append(directory(f"deeds/{user}"))
        for number, text in enumerate(scripts.values()):
            found.append(file(f"deeds/{user}/{number:02}", text + "\n"))
    return found


LAYERS["deeds-base"] = [
    directory("bin"),
    file("bin/busybox", BUSYBOX.read_bytes(), 0o755),
    *(symlink(f"bin/{name}", "busybox") for name in _APPLETS.split()),
    *(directory(name) for name in ("dev", "etc", "home", "opt", "proc", "srv", "sys", "usr")),
    *(directory(name) for name in ("usr/bin", "usr/share", "usr/share/doc", "var", "var/lib")),
    directory("tmp", 0o1777),
    directory("root", 0o700),
    file("root/.profile", "# root's\n", 0o600),
    file(
        "etc/passwd",
        "root:x:0:0::/root:/bin/sh\n_apt:x:42:42::/:/bin/sh\napp:x:1234:1234::/home/app:/bin/sh\n",
    ),
    file("etc/group", "root:x:0:\napp:x:1234:\n"),
    # Anybody may become root by a program that may look here.
    file("etc/shadow", "root::1::::::\napp:*:1::::::\n", 0o600),
    file("etc/tool.conf", "tool\n"),
    file("usr/bin/tool", "echo old\n", 0o755),
    # As in distributions, a program of its own: setuid, and root uses it, too.
    file("usr/bin/su", BUSYBOX.read_bytes(), 0o4755),
    directory("var/lib/dpkg"),
    file("var/lib/dpkg/status", "Package: tool\n"),
    *(file(f"var/lib/dpkg/{name}", "", 0o640) for name in ("lock", "lock-frontend")),
    *(directory(f"var/lib/dpkg/{name}") for name in ("info", "triggers", "updates")),
    file("var/lib/dpkg/triggers/Lock", "", 0o640),
    directory("var/lib/apt"),
    directory("var/lib/apt/lists"),
    file("var/lib/apt/lists/lock", "", 0o640),
    directory("var/lib/apt/lists/partial", 0o700, _APT),
]
LAYERS["deeds-files"] = [
    directory("opt/conf.d"),
    *(file(f"opt/conf.d/{number}.conf", f"{number}\n") for number in range(1, 7)),
    *(directory(f"usr/share/doc/{name}") for name in ("tool", "other")),
    *(file(f"usr/share/doc/{name}/copyright", "free\n") for name in ("tool", "other")),
    directory("srv/sticky", 0o1777),
    directory("var/lib/other", 0o755, _OTHER),
    file("var/lib/other/key", "key\n", 0o600, _OTHER),
    *_scripts(),
]
LAYERS["deeds-app"] = [
    directory("home/app", 0o750, _APP),
    file("home/app/.profile", "# app's\n", 0o644, _APP),
    file("home/app/.secret", "secret\n", 0o600, _APP),
    directory("srv/work", 0o755, _APP),
    directory("data", 0o755, _APP),
    file("data/there", "there\n", 0o644, _APP),
    directory("var/lib/app", 0o755, _APP),
]
LAYERS["deeds-delete"] = [whiteout("opt/conf.d/6.conf"), file("opt/conf.d/3.conf", "three\n")]
LAYERS["deeds-one"] = [
    *LAYERS["deeds-base"], *LAYERS["deeds-files"], *LAYERS["deeds-app"]
]  # fmt: skip
LAYERS["deeds-new"] = [file("opt/pulled", "pulled\n")]

_CONFIG = {
    "Env": ["PATH=/usr/bin:/bin"],
    "User": "app",
    "WorkingDir": "/srv/work",
    "Volumes": {"/data": {}},
    "Cmd": ["sh", "/deeds/run", "app"],
}

#: In the repository: of one layer, of two, and of several that delete.
ONE = Image("d/one:1", ["deeds-one"], _CONFIG)
TWO = Image("d/two:1", ["deeds-base", "deeds-files"], {"Env": ["PATH=/usr/bin:/bin"]})
APP = Image("d/app:1", ["deeds-base", "deeds-files", "deeds-app", "deeds-delete"], _CONFIG)
IMAGES = (ONE, TWO, APP)
#: In the registry only: podman takes its first layer from the store.
PULLED = Image("d/pulled:1", ["deeds-base", "deeds-new"], {"Env": ["PATH=/usr/bin:/bin"]})
