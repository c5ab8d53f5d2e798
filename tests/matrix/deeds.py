# SPDX-License-Identifier: Apache-2.0
"""What people do with the images of a store on an emulated CernVM-FS mount: whether it works, and
with which words it fails. What is stated of that is in ``deeds_stated``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.matrix.bench import Bench
from tests.matrix.cells import Cell
from tests.matrix.deed_images import APP, AS_APP, AS_ROOT, IMAGES, ONE, PULLED, TWO
from tests.matrix.guest import Guest
from tests.matrix.host import USER
from tests.matrix.site import Site
from tests.support.cli import succeed
from tests.support.images import build, push
from tests.support.namespace import CommandError

#: Deed -> "" if it works, else with which words it fails.
Done = Mapping[str, str]

#: The cells in which deeds are done.
CELLS = (
    Cell(False, False, "flat", "foreign", mount=True),
    Cell(False, False, "layers", "foreign", mount=True),
    Cell(False, False, "flat", "root", mount=True),
    Cell(True, False, "flat", "foreign", True, mount=True),
    Cell(True, False, "layers", "foreign", True, mount=True),
    Cell(True, True, "flat", "foreign", True, mount=True),
    Cell(True, True, "layers", "foreign", True, "fuse-overlayfs", mount=True),
    Cell(True, False, "flat", "user", True, mount=True),
    Cell(True, False, "layers", "user", True, mount=True),
)
#: So many characters of an error.
_ENOUGH = 1500


class _NotSoError(AssertionError):
    """What a deed has left isn't what it should have."""


def do(bench: Bench, cell: Cell) -> Done:
    """Do all deeds in one cell, in an order in which earlier ones disturb no later ones."""
    site = bench.site
    store = _store(bench, cell)
    user = USER if cell.rootless else None
    done: dict[str, str] = {}
    with bench.fresh(stores=[store], user=user, fuse=cell.fuse) as podman:
        done.update(_scripts(podman, site, "root", AS_ROOT, ("--user=0",)))
        done.update(_scripts(podman, site, "app", AS_APP, ()))
        for name, deed in _Deeds(bench, podman).all():
            done[name] = _words(deed)
    return done


def names() -> list[str]:
    """The names of all deeds, in the order of the table."""
    scripts = [
        f"{place}: {name}" for place, each in (("root", AS_ROOT), ("app", AS_APP)) for name in each
    ]
    return [*scripts, *(name for name, _ in _Deeds.DEEDS)]


def _words(deed: Callable[[], None]) -> str:
    try:
        deed()
    except CommandError as err:
        said = err.done.stderr.strip() or err.done.stdout.strip()
        return said[-_ENOUGH:] or f"exit status {err.done.returncode}"
    except _NotSoError as err:
        return str(err)
    return ""


def _scripts(
    podman: Guest, site: Site, place: str, scripts: Mapping[str, str], options: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    """Run the scripts of a directory in one container."""
    image = site.name(APP.name)
    command = ("run", "--rm", "--pull=never", *options, image, "sh", "/deeds/run", place)
    ran = podman.run(*command, check=False)
    told = dict(_told(ran.stdout))
    for number, name in enumerate(scripts):
        missing = ran.stderr.strip()[-_ENOUGH:] or "no word of it"
        yield f"{place}: {name}", told.get(f"{number:02}", missing)


def _told(output: str) -> Iterator[tuple[str, str]]:
    for line in output.splitlines():
        verdict, _, rest = line.partition(" ")
        number, _, why = rest.partition(": ")
        if verdict in ("ok", "no"):
            yield number, "" if verdict == "ok" else why.strip()[-_ENOUGH:] or "not so"


def _want(found: object, wanted: object) -> None:
    if found != wanted:
        raise _NotSoError(f"{found!r} instead of {wanted!r}")


class _Deeds:
    """What podman does with images and containers, not containers themselves."""

    def __init__(self, bench: Bench, podman: Guest) -> None:
        self._bench, self._podman, self._site = bench, podman, bench.site
        self._context = podman.root / "tmp/context"
        self._built = ""

    def all(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Each deed and what does it."""
        self._context.mkdir()
        (self._context / "file").write_text("copied\n")
        (self._context / "file").chmod(0o644)
        for name, method in self.DEEDS:
            yield name, getattr(self, method)

    DEEDS = (
        ("run: a user that the image doesn't know", "run_unknown"),
        ("run: su as root, on one layer", "become_another"),
        ("run: --userns=keep-id", "keep_ids"),
        ("run: --userns=auto", "choose_ids"),
        ("run: --uidmap", "map_ids"),
        ("build: RUN, on one layer", "build_on_one"),
        ("build: RUN, on two layers", "build_on_two"),
        ("build: RUN and COPY, on layers that delete", "build_on_layers"),
        ("build: RUN that removes a file", "build_removes"),
        ("build: USER that writes in its home", "build_as_user"),
        ("commit", "commit"),
        ("diff", "diff"),
        ("cp: into a container", "copy_in"),
        ("cp: out of a container", "copy_out"),
        ("cp: a closed file out of a container", "copy_closed_out"),
        ("export", "export"),
        ("save", "save"),
        ("save: what was built", "save_built"),
        ("push", "push"),
        ("push: what was built", "push_built"),
        ("pull: an image on a layer of the store", "pull"),
        ("build: RUN, on the pulled image", "build_on_pulled"),
        ("build: RUN, on an image of the store after its pull", "build_after_pull"),
    )  # fmt: skip

    def run_unknown(self) -> None:
        image = self._site.name(APP.name)
        command = ("run", "--rm", "--pull=never", "--user=55", image, "id", "-u")
        _want(self._podman.run(*command).stdout, "55\n")

    def become_another(self) -> None:
        command = ("run", "--rm", "--pull=never", "--user=0", self._site.name(ONE.name))
        _want(self._podman.run(*command, "/usr/bin/su", "app", "-c", "id -u").stdout, "1234\n")

    def keep_ids(self) -> None:
        self._run_mapped("--userns=keep-id")

    def choose_ids(self) -> None:
        self._run_mapped("--userns=auto:size=2000")

    def map_ids(self) -> None:
        first = 20_000_000 if self._podman.user is None else 1
        self._run_mapped(f"--uidmap=0:{first}:3000", f"--gidmap=0:{first}:3000")

    def _run_mapped(self, *options: str) -> None:
        image = self._site.name(APP.name)
        command = ("run", "--rm", "--pull=never", "--user=0", *options, image)
        _want(self._podman.run(*command, "cat", "/etc/tool.conf").stdout, "tool\n")

    def build_on_one(self) -> None:
        self._build(ONE.name, "USER 0", "RUN echo built > /root/built")
        self._shows("cat /root/built /etc/tool.conf", "built\ntool\n")

    def build_on_two(self) -> None:
        self._build(TWO.name, "RUN echo built > /root/built")
        self._shows("cat /root/built /etc/tool.conf", "built\ntool\n")

    def build_on_layers(self) -> None:
        self._build(APP.name, "USER 0", "RUN echo built > /root/built", "COPY file /root/copied")
        self._shows("cat /root/built /root/copied", "built\ncopied\n")
        self._shows("cat /opt/conf.d/*", "1\n2\nthree\n4\n5\n")
        self._built = "localhost/built"

    def build_removes(self) -> None:
        self._build(APP.name, "USER 0", "RUN rm /opt/conf.d/2.conf", tag="removed")
        self._shows("cat /opt/conf.d/*", "1\nthree\n4\n5\n", tag="removed")

    def build_as_user(self) -> None:
        self._build(APP.name, "USER app", "RUN echo x > /home/app/built", tag="as-user")
        self._shows("cat /home/app/built; stat -c %u /home/app/built", "x\n1234\n", tag="as-user")

    def build_on_pulled(self) -> None:
        self._build(PULLED.name, "RUN echo built > /root/built", tag="on-pulled")
        self._shows("cat /root/built /opt/pulled", "built\npulled\n", tag="on-pulled")

    def build_after_pull(self) -> None:
        self._podman.run("pull", "--quiet", self._site.name(APP.name))
        self._build(APP.name, "USER 0", "RUN echo built > /root/built", tag="after-pull")
        self._shows("cat /root/built /etc/tool.conf", "built\ntool\n", tag="after-pull")

    def _build(self, image: str, *lines: str, tag: str = "built") -> None:
        text = "\n".join([f"FROM {self._site.name(image)}", *lines, ""])
        (self._context / "Containerfile").write_text(text)
        # The image comes from the store, and the host may lack what more isolation needs.
        options = ("--quiet", "--pull=never", "--isolation=chroot", f"--tag=localhost/{tag}")
        self._podman.run("build", *options, str(self._context))

    def _shows(self, script: str, wanted: str, tag: str = "built") -> None:
        self._prints(self._podman, f"localhost/{tag}", script, wanted)

    @staticmethod
    def _prints(podman: Guest, image: str, script: str, wanted: str) -> None:
        command = ("run", "--rm", "--pull=never", "--user=0", image, "sh", "-c", script)
        _want(podman.run(*command).stdout, wanted)

    def commit(self) -> None:
        self._podman.run("commit", "--quiet", self._container(), "localhost/committed")
        self._shows("cat /root/made", "made\n", tag="committed")
        self._shows("cat /opt/conf.d/*", "1\n2\nthree\n4\n5\n", tag="committed")

    def _container(self) -> str:
        """A container that has made a file; made on first use."""
        name = "made"
        if self._podman.run("container", "exists", name, check=False).returncode:
            command = ("sh", "-c", "echo made > /root/made")
            image = self._site.name(APP.name)
            self._podman.run("run", f"--name={name}", "--pull=never", "--user=0", image, *command)
        return name

    def diff(self) -> None:
        said = json.loads(self._podman.run("diff", "--format=json", self._container()).stdout)
        found = {f"{kind} {path}" for kind, paths in said.items() for path in paths or ()}
        _want({each for each in found if "/root" in each}, {"changed /root", "added /root/made"})
        _want([each for each in found if "deleted" in each or "conf.d" in each], [])

    def copy_in(self) -> None:
        name = self._container()
        self._podman.run("cp", str(self._context / "file"), f"{name}:/opt/conf.d/copied")
        self._copy_out("/opt/conf.d/copied", "copied\n")

    def copy_out(self) -> None:
        self._copy_out("/etc/tool.conf", "tool\n")

    def copy_closed_out(self) -> None:
        self._copy_out("/home/app/.secret", "secret\n")

    def _copy_out(self, path: str, wanted: str) -> None:
        out = self._podman.root / "tmp/out"
        self._podman.run("cp", f"{self._container()}:{path}", str(out))
        _want(out.read_text(), wanted)

    def export(self) -> None:
        archive = self._podman.root / "tmp/export.tar"
        self._podman.run("export", f"--output={archive}", self._container())
        names = self._podman.unshared("tar", "--list", "--file", str(archive)).stdout.split()
        wanted = {"etc/tool.conf", "home/app/.secret", "root/made", "opt/conf.d/3.conf"}
        _want(wanted - set(names), set())

    def save(self) -> None:
        self._save(self._site.name(APP.name), "cat /etc/tool.conf", "tool\n")

    def save_built(self) -> None:
        self._save(self._what_was_built(), "cat /root/built", "built\n")

    def _what_was_built(self) -> str:
        if not self._built:
            raise _NotSoError("nothing was built")
        return self._built

    def _save(self, image: str, script: str, wanted: str) -> None:
        archive = self._podman.root / "tmp/saved.tar"
        archive.unlink(missing_ok=True)
        self._podman.run("save", "--quiet", f"--output={archive}", image)
        with self._bench.fresh() as other:
            loaded = other.run("load", "--quiet", f"--input={archive}").stdout
            self._prints(other, loaded.strip().rpartition(" ")[2], script, wanted)

    def push(self) -> None:
        self._push(self._site.name(APP.name), "cat /etc/tool.conf", "tool\n")

    def push_built(self) -> None:
        self._push(self._what_was_built(), "cat /root/built", "built\n")

    def _push(self, image: str, script: str, wanted: str) -> None:
        remote = f"{self._site.registry.address}/pushed/{self._bench.count()}:1"
        self._podman.run("push", "--quiet", image, remote)
        with self._bench.fresh() as other:
            other.run("pull", "--quiet", remote)
            self._prints(other, remote, script, wanted)

    def pull(self) -> None:
        image = self._site.name(PULLED.name)
        mark = len(self._site.registry.since(0))
        self._podman.run("pull", "--quiet", image)
        base = build(PULLED).blobs[0].digest
        if any(each.path.endswith(base) for each in self._site.registry.since(mark)):
            raise _NotSoError("the store's layer is fetched again")
        self._prints(self._podman, image, "cat /opt/pulled /etc/tool.conf", "pulled\ntool\n")


def published(site: Site) -> Path:
    """The repository of the images; made on first use."""
    path = site.data / "deeds"
    if not path.exists():
        for image in (*IMAGES, PULLED):
            push(build(image), site.registry)
        sources = [f"http://{site.name(image.name)}" for image in IMAGES]
        succeed("publish", *sources, "--repository", path)
    return path


def _store(bench: Bench, cell: Cell) -> Path:
    """Write the cell's store, or find it."""
    site = bench.site
    fuse = "f" if cell.layout != "kernel" else "k"
    store = site.data / f"d-{'u' if cell.own else 'r'}-{cell.owner}-{cell.view}-{fuse}" / "store"
    if not store.exists():
        repository = site.shown(published(site), cell.owner, cell.mount)
        store.parent.mkdir(exist_ok=True)
        options = ("--view", cell.view, "--overlay", cell.layout)
        user = USER if cell.own else None
        site.sync(repository, store, *options, user=user, version=bench.version)
    return store
